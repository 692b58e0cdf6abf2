"""Token introspection, the asking side (RFC 7662): a token in, the facts about it or None out."""

from typing import Any

from resource_server.access_token import AccessToken
from resource_server.claims import ClaimError, access_token
from resource_server.deadline import Deadline
from resource_server.endpoint import Endpoint
from resource_server.errors import UnavailableError
from resource_server.jwt import Jwt


class Introspection:
    """Asks the introspection endpoint about a token, each time anew."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Return the facts about an active token, None for an inactive one (RFC 7662 §2.2).

        Raises `UnavailableError` when there is no answer by `deadline`, or one that makes no sense.
        """
        answer = self._endpoint.post({"token": token, "token_type_hint": "access_token"}, deadline)
        jwt = Jwt.parse(token)
        kid = jwt.header.get("kid") if jwt else None
        return facts(answer, kid if isinstance(kid, str) else None)

    def close(self) -> None:
        """Close this process's connections."""
        self._endpoint.close()


def facts(answer: dict[str, Any], key_id: str | None = None) -> AccessToken | None:
    """Read an introspection answer strictly (RFC 7662 §2.2); None means inactive. `key_id` is the token's `kid`.

    Raises `UnavailableError` where a member has a type the RFC does not give it: a server that answers
    `"active": "true"` cannot be relied on.
    """
    active = answer.get("active")
    if not isinstance(active, bool):
        raise UnavailableError("introspection answer without a boolean active")
    if not active:
        return None
    try:
        return access_token(answer, key_id)
    except ClaimError as error:
        reason = str(error)
    raise UnavailableError(f"introspection answer in which {reason}")
