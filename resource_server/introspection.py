"""Token introspection, the asking side (RFC 7662): a token in, the facts about it or None out."""

import time
from typing import Any

from resource_server.access_token import AccessToken
from resource_server.claims import ClaimError, access_token
from resource_server.deadline import Deadline
from resource_server.endpoint import Endpoint
from resource_server.errors import CredentialsRefusedError, UnavailableError
from resource_server.jwt import Jwt
from resource_server.stats import Stats


class Introspection:
    """Asks the introspection endpoint about a token, each time anew. `stats` hears how it went and how long it took."""

    def __init__(self, endpoint: Endpoint, stats: Stats | None = None) -> None:
        self._endpoint, self._stats = endpoint, stats or Stats()

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Return the facts about an active token, None for an inactive one (RFC 7662 §2.2).

        Raises `UnavailableError` when there is no answer by `deadline`, or one that makes no sense.
        """
        began, outcome = time.perf_counter(), "unavailable"
        try:
            found = self._ask(token, deadline)
            outcome = "inactive" if found is None else "active"
            return found
        except CredentialsRefusedError:
            outcome = "refused"
            raise
        finally:
            self._stats.count("introspections", outcome)
            self._stats.measure("introspection_seconds", time.perf_counter() - began)

    def _ask(self, token: str, deadline: Deadline | None) -> AccessToken | None:
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
