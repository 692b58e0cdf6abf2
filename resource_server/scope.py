"""How a resource declares its needs: `auth = Scope("read", DELETE="admin")` or `auth = PUBLIC`."""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

from resource_server.errors import ConfigError

# RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
# RFC 9110 §9, RFC 5789. OPTIONS is absent on purpose: a CORS preflight cannot carry a token.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "QUERY"})


class _Public(Enum):
    PUBLIC = "PUBLIC"

    def __repr__(self) -> str:
        return "PUBLIC"


PUBLIC: Final = _Public.PUBLIC
"""`auth = PUBLIC`: everyone may call this, no token is looked at."""

Need = str | Iterable[str] | _Public


class Scope:
    """The scopes that the methods of a resource need; several scopes means all of them.

    `Scope("read")`, `Scope("read", "write")`, `Scope("read", DELETE="admin", PUT=("read", "write"))`,
    `Scope("write", GET=PUBLIC)`. A method not named needs the scopes in front; HEAD needs what GET does.
    Raises `ConfigError` for text that is no scope (RFC 6749 §3.3) and for a method that does not exist.
    """

    __slots__ = ("_methods", "_scopes")

    def __init__(self, *scopes: str, **methods: Need) -> None:
        self._scopes = _scope_set(scopes)
        if unknown := methods.keys() - _METHODS:
            raise ConfigError(f"auth: {', '.join(sorted(unknown))} is not a method that can need a scope")
        self._methods = {name: None if need is PUBLIC else _scope_set(need) for name, need in methods.items()}

    def needs(self, method: str) -> frozenset[str] | None:
        """Say which scopes `method` (in capitals) needs; None means that it is public."""
        if method == "HEAD" and method not in self._methods:
            method = "GET"
        return self._methods.get(method, self._scopes)

    def __repr__(self) -> str:
        named = "".join(f", {name}={need or PUBLIC!r}" for name, need in self._methods.items())
        return f"Scope({', '.join(map(repr, sorted(self._scopes)))}{named})"


def declared(resource: object, default: Scope) -> Scope | _Public:
    """Read the `auth` of a resource; without one it is protected by `default`.

    Raises `ConfigError` for anything that is neither a `Scope` nor `PUBLIC`: a mistake must not open a route.
    """
    auth = getattr(resource, "auth", default)
    if isinstance(auth, Scope) or auth is PUBLIC:
        return auth
    name = type(resource).__qualname__
    raise ConfigError(f"{name}.auth: expected Scope(...) or PUBLIC, not {type(auth).__name__}")


def _scope_set(need: object) -> frozenset[str]:
    scopes = (need,) if isinstance(need, str) else need
    if not isinstance(scopes, Iterable) or not (named := tuple(scopes)):
        raise ConfigError("auth: Scope(...) names at least one scope per method")
    for scope in named:
        if not isinstance(scope, str) or not _SCOPE_TOKEN.fullmatch(scope):
            raise ConfigError(f"auth: {scope!r} is not one scope (RFC 6749 section 3.3)")
    return frozenset(named)
