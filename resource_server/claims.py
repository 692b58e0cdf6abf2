"""The members that an introspection answer (RFC 7662 §2.2) and a JWT (RFC 9068 §2.2) have in common, read strictly."""

import math
from typing import Any, Final

from resource_server.access_token import AccessToken, frozen

_LATEST: Final = 2**53


class ClaimError(ValueError):
    """A member has a type that the RFC does not give it; the text names the member, not its value."""


def access_token(claims: dict[str, Any], key_id: str | None = None) -> AccessToken:
    """Turn claims into facts. Raises `ClaimError`: guessing what was meant would be a decision about access."""
    expires_at, not_before, issued_at = (time_of(claims, name) for name in ("exp", "nbf", "iat"))
    return AccessToken(
        subject=text_of(claims, "sub"),
        client_id=text_of(claims, "client_id"),
        scopes=frozenset(filter(None, (text_of(claims, "scope") or "").split(" "))),
        audience=_audience(claims.get("aud")),
        expires_at=None if expires_at is None else math.floor(expires_at),
        not_before=None if not_before is None else math.ceil(not_before),
        issued_at=None if issued_at is None else math.floor(issued_at),
        key_id=key_id,
        claims=frozen(claims),
    )


def text_of(claims: dict[str, Any], name: str) -> str | None:
    """Return a string or None for an absent member."""
    value = claims.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ClaimError(f"{name} is not a string")


def time_of(claims: dict[str, Any], name: str) -> int | float | None:
    """Return a NumericDate or None for an absent member."""
    value = claims.get(name)
    if value is None:
        return None
    # RFC 7519 §2: a NumericDate may have a fraction; bool is an int in Python only
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST:
        return value
    raise ClaimError(f"{name} is not a time")


def _audience(value: Any) -> tuple[str, ...]:
    members = [] if value is None else [value] if isinstance(value, str) else value
    if isinstance(members, list) and all(isinstance(member, str) for member in members):
        return tuple(members)
    raise ClaimError("aud is neither a string nor a list of strings")
