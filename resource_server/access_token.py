"""What is known about a token, and the checks that need nothing else (RFC 7662 §2.2, RFC 6750 §3.1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from resource_server.errors import InsufficientScopeError, InvalidTokenError


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The facts about one active token. The token itself is not among them.

    `expires_at`, `not_before` and `issued_at` are seconds since the epoch, None where the server did not say;
    `audience` is empty where it did not say; `key_id` names the key that signed a JWT; `claims` is the whole
    answer or the JWT's payload, read-only to the bottom.
    """

    subject: str | None
    client_id: str | None
    scopes: frozenset[str]
    audience: tuple[str, ...] = ()
    expires_at: int | None = None
    not_before: int | None = None
    issued_at: int | None = None
    key_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False, hash=False)


def frozen(value: Any) -> Any:
    """Make parsed JSON read-only: handlers of many requests may share one cached answer."""
    if isinstance(value, dict):
        return MappingProxyType({name: frozen(member) for name, member in value.items()})
    if isinstance(value, list):
        return tuple(frozen(member) for member in value)
    return value


def require_current(token: AccessToken, now: float, leeway: float = 0) -> None:
    """Raise `InvalidTokenError` outside of `nbf` ≤ now < `exp` (RFC 7662 §2.2); all in seconds."""
    if token.expires_at is not None and now - leeway >= token.expires_at:
        raise InvalidTokenError("expired")
    if token.not_before is not None and now + leeway < token.not_before:
        raise InvalidTokenError("not valid yet")


def require_audience(token: AccessToken, resource: str) -> None:
    """Raise `InvalidTokenError` unless `resource` is in the audience, as the exact string (RFC 8707 §2)."""
    if resource not in token.audience:
        raise InvalidTokenError("meant for another resource")


def require_bearer(token: AccessToken) -> None:
    """Raise `InvalidTokenError` for a sender-constrained token: no proof is checked here (RFC 7800 §3.1)."""
    if token.claims.get("cnf") is not None:
        raise InvalidTokenError("bound to a key of its sender")


def require_scopes(token: AccessToken, scopes: Iterable[str]) -> None:
    """Raise `InsufficientScopeError` unless the token has all of `scopes` (RFC 6749 §3.3, 6750 §3.1)."""
    if not token.scopes.issuperset(needed := frozenset(scopes)):
        raise InsufficientScopeError(needed)
