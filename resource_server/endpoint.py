"""URLs of the authorization server that answer one JSON object and may be asked again.

Introspection (RFC 7662 §2) and token endpoint (RFC 6749 §3.2) take a form from an authenticated client;
documents such as a JWK Set (RFC 7517 §5) are read by anyone.
"""

import base64
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus

import requests

from resource_server.breaker import Breaker
from resource_server.deadline import Clock, Deadline
from resource_server.errors import CredentialsRefusedError, UnavailableError
from resource_server.per_process import PerProcess
from resource_server.transport import Failure, Form, Http, Reply, Transport

_log: Final = logging.getLogger(__name__)
_RETRY_AFTER_CAP: Final = 30
_ATTEMPTS: Final = 2
# RFC 6749 §5.2; anything else a server says stays out of our logs
_KNOWN_ERRORS: Final = (
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
    *("unsupported_grant_type", "invalid_scope", "invalid_target"),
)


class Endpoint:
    """Asks `url`, with one retry and a circuit breaker; with client_secret_basic if there is a secret."""

    def __init__(
        self,
        url: str,
        client_id: str = "",
        client_secret: str | None = None,
        *,
        http: Http | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = lambda: random.SystemRandom().uniform(0.05, 0.2),
        tell_breaker: Callable[[bool], None] = lambda _is_open: None,
    ) -> None:
        self.url, self.client_id, self.http = url, client_id, http or Http()
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        authorization = None if client_secret is None else basic(client_id, client_secret)
        self._transport = Transport(url, self.http, authorization)
        self._breaker = PerProcess(lambda: Breaker(clock=clock, tell=tell_breaker))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, client_id={self.client_id!r})"

    def post(self, form: Form | Callable[[], Form], deadline: Deadline | None = None) -> dict[str, Any]:
        """Return the JSON object of a 200 answer, by `deadline` or `http.deadline` seconds from now.

        A `form` that is called is made anew for each attempt, for what may be sent only once.

        Raises `CredentialsRefusedError` when the server does not know us, `UnavailableError` for all else:
        the network, the time, 5xx, 429, a redirect, an answer that is too long or no JSON object.
        """
        return self._ask("POST", form, deadline).json or {}

    def get(self, deadline: Deadline | None = None) -> Reply:
        """Return the 200 answer to GET, which holds a JSON object; raises as `post` does."""
        return self._ask("GET", None, deadline)

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        self._transport.close()

    def _ask(self, method: str, form: Form | Callable[[], Form] | None, deadline: Deadline | None) -> Reply:
        self._breaker().admit()
        outcome = self._exchange(method, form, deadline or Deadline.after(self.http.deadline, self._clock))
        if isinstance(outcome, Failure):
            self._breaker().failed()
            # an operator has to see this one: no retry will mend it
            level = logging.CRITICAL if outcome.credentials else logging.WARNING
            _log.log(level, "%s (client %s): %s", self.url, self.client_id or "none", outcome.reason)
            kind = CredentialsRefusedError if outcome.credentials else UnavailableError
            raise kind(outcome.reason, outcome.retry_after)
        self._breaker().succeeded()
        return outcome

    def _exchange(self, method: str, form: Form | Callable[[], Form] | None, deadline: Deadline) -> Reply | Failure:
        for attempt in range(1, _ATTEMPTS + 1):
            outcome = self._transport.send(method, deadline, form=form() if callable(form) else form)
            if isinstance(outcome, Reply):
                outcome = judge(outcome, authenticated=self._transport.authenticates)
            if isinstance(outcome, Reply) or not outcome.again or attempt == _ATTEMPTS:
                break
            pause = self._jitter()
            if pause >= deadline.remaining():
                break
            self._sleep(pause)
        return outcome


def basic(client_id: str, client_secret: str) -> str:
    """Build the Authorization value of client_secret_basic (RFC 6749 §2.3.1)."""
    # form-urlencoded first, so that ":" and non-ASCII survive
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")


def judge(reply: Reply, *, authenticated: bool = True) -> Reply | Failure:
    """Let a 200 answer with a JSON object pass; say of any other what is wrong with it."""
    status, answer = reply.status, reply.json
    if status == requests.codes.ok:
        return Failure("not a JSON object") if answer is None else reply
    error = answer.get("error") if answer else None
    code = error if isinstance(error, str) and error in _KNOWN_ERRORS else ""
    return Failure(
        f"status {status} {code}".rstrip(),
        again=status in {502, 503, 504} and "Retry-After" not in reply.headers,
        retry_after=_retry_after(reply.headers.get("Retry-After", "")),
        # RFC 6749 §5.2: invalid_client may come with 400
        credentials=authenticated and (status in {401, 403} or code == "invalid_client"),
    )


def _retry_after(value: str) -> int:
    # RFC 9110 §10.2.3; a date is as good as silence
    seconds = int(value[:9]) if value.isascii() and value.isdigit() else 1
    return max(1, min(seconds, _RETRY_AFTER_CAP))
