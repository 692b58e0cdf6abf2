"""Access tokens as facts: what was issued, who may see it, and what they are told (RFC 7662)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from authserver.oauth.client import INTROSPECT_ANY, Client

INACTIVE: dict[str, Any] = {"active": False}


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that was issued, in either format. Times are Unix seconds; only a JWT has a `jti`."""

    client_id: str
    scope: str
    audience: Sequence[str]
    issued_at: int
    expires_at: int
    jti: str | None = None


def may_introspect(caller: Client, token: AccessToken) -> bool:
    """Whether the caller is the token's client, a resource in its audience, or a gateway (RFC 7662 §4)."""
    return (
        caller.client_id == token.client_id
        or not set(caller.resource_identifiers).isdisjoint(token.audience)
        or INTROSPECT_ANY in caller.permissions
    )


def introspection_response(token: AccessToken, issuer: str) -> dict[str, Any]:
    """The answer for an active token (RFC 7662 §2.2). A token for no resource in particular has no `aud`."""
    response: dict[str, Any] = {
        "active": True,
        "scope": token.scope,
        "client_id": token.client_id,
        "token_type": "Bearer",
        "exp": token.expires_at,
        "iat": token.issued_at,
        "sub": token.client_id,
        "iss": issuer,
    }
    if token.audience:
        response["aud"] = list(token.audience)
    if token.jti is not None:
        response["jti"] = token.jti
    return response
