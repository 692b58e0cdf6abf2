"""The audit events: their names, their fields, and what bounds the values. docs/audit.md is held to this table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from authserver.oauth.credentials import conceal

# Raised when a field is taken away or changes its meaning; further fields and events may come at any time.
VERSION = 1

# Every line has these; null where there is nothing to say.
COMMON = ("time", "logger", "event", "version", "request_id", "trace_id", "address", "operator")

TOKEN_ISSUED, TOKEN_INTROSPECTED, TOKEN_REVOKED = "token.issued", "token.introspected", "token.revoked"
REFUSED = "authentication.refused"

# Every line of an event has all its fields.
EVENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "client.created": ("client_id", "auth_method", "self_registered"),
        "client.updated": ("client_id", "self_managed"),
        "client.keys_replaced": ("client_id",),
        "client.tokens_revoked": ("client_id",),
        "client.deleted": ("client_id", "self_managed"),
        "client.bound": ("client_id", "issuer_name", "subject"),
        "client.unbound": ("client_id", "issuer_name", "subject"),
        "secret.added": ("client_id", "label", "expires_at"),
        "secret.removed": ("client_id", "label"),
        REFUSED: ("client_id", "auth_method", "endpoint", "reason"),
        TOKEN_ISSUED: ("client_id", "auth_method", "token_id", "jti", "format", "scope", "audience", "expires_at"),
        TOKEN_INTROSPECTED: ("client_id", "token_id", "active"),
        TOKEN_REVOKED: ("client_id", "token_id"),
        "key.added": ("kid", "alg", "signs_from"),
        "key.revoked": ("kid",),
        "key.deleted": ("kid",),
        "issuer.added": ("issuer_name", "issuer", "audience"),
        "issuer.keys_replaced": ("issuer_name",),
        "issuer.removed": ("issuer_name",),
        "initial_access_token.created": ("label", "expires_at"),
        "initial_access_token.removed": ("label",),
    }
)

_LONGEST = 256
# Made or checked by this server. Random ones may look like a credential by chance, and are none.
_OURS = frozenset(
    {"event", "version", "request_id", "trace_id", "address", "token_id", "jti", "kid", "alg", "format", "auth_method"}
)


def bounded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they may stand in a line: texts cut, and with nothing left of what looks like a credential."""
    return {name: value if name in _OURS else _bounded(value) for name, value in fields.items()}


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > _LONGEST:
            return f"{conceal(value[:_LONGEST])}…"
        return conceal(value)
    if isinstance(value, list | tuple):
        return [_bounded(each) for each in value]
    return value
