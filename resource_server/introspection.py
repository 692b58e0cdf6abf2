"""Token introspection, the asking side (RFC 7662): a token in, the facts about it or None out."""

import math
from typing import Any, Final

from resource_server.access_token import AccessToken, frozen
from resource_server.deadline import Deadline
from resource_server.endpoint import Endpoint
from resource_server.errors import UnavailableError

_LATEST: Final = 2**53


class Introspection:
    """Asks the introspection endpoint about a token, each time anew."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Return the facts about an active token, None for an inactive one (RFC 7662 §2.2).

        Raises `UnavailableError` when there is no answer by `deadline`, or one that makes no sense.
        """
        answer = self._endpoint.post({"token": token, "token_type_hint": "access_token"}, deadline)
        return facts(answer)

    def close(self) -> None:
        """Close this process's connections."""
        self._endpoint.close()


def facts(answer: dict[str, Any]) -> AccessToken | None:
    """Read an introspection answer strictly (RFC 7662 §2.2); None means inactive.

    Raises `UnavailableError` where a member has a type the RFC does not give it: a server that answers
    `"active": "true"` cannot be relied on, and guessing what it meant would be a decision about access.
    """
    active = answer.get("active")
    if not isinstance(active, bool):
        raise UnavailableError("introspection answer without a boolean active")
    if not active:
        return None
    expires_at, not_before = _time(answer, "exp"), _time(answer, "nbf")
    return AccessToken(
        subject=_text(answer, "sub"),
        client_id=_text(answer, "client_id"),
        scopes=frozenset(filter(None, (_text(answer, "scope") or "").split(" "))),
        audience=_audience(answer.get("aud")),
        expires_at=None if expires_at is None else math.floor(expires_at),
        not_before=None if not_before is None else math.ceil(not_before),
        claims=frozen(answer),
    )


def _text(answer: dict[str, Any], name: str) -> str | None:
    value = answer.get(name)
    if value is None or isinstance(value, str):
        return value
    raise UnavailableError(f"introspection answer with {name} that is not a string")


def _time(answer: dict[str, Any], name: str) -> int | float | None:
    value = answer.get(name)
    if value is None:
        return None
    # RFC 7519 §2: a NumericDate may have a fraction; bool is an int in Python only
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST:
        return value
    raise UnavailableError(f"introspection answer with {name} that is not a time")


def _audience(value: Any) -> tuple[str, ...]:
    members = [] if value is None else [value] if isinstance(value, str) else value
    if isinstance(members, list) and all(isinstance(member, str) for member in members):
        return tuple(members)
    raise UnavailableError("introspection answer with aud that is neither a string nor a list of strings")
