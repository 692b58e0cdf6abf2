"""One endpoint of the authorization server that takes a form from an authenticated client and answers JSON.

Introspection (RFC 7662 §2) and token endpoint (RFC 6749 §3.2) are alike in this: both may be asked again.
"""

import base64
import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import quote_plus

import requests
import urllib3

from resource_server.breaker import Breaker
from resource_server.deadline import Clock, Deadline, DeadlineAdapter
from resource_server.errors import CredentialsRefusedError, UnavailableError
from resource_server.per_process import PerProcess

_log: Final = logging.getLogger(__name__)
_RETRY_AFTER_CAP: Final = 30
_ATTEMPTS: Final = 2
# RFC 6749 §5.2; anything else a server says stays out of our logs
_KNOWN_ERRORS: Final = (
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
    *("unsupported_grant_type", "invalid_scope", "invalid_target"),
)

Form = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Http:
    """Limits of one exchange: seconds, connections kept, bytes read; `ca_bundle` is a PEM file or None."""

    connect_timeout: float = 0.5
    read_timeout: float = 2.0
    deadline: float = 3.0
    pool_size: int = 8
    max_body: int = 64 * 1024
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    again: bool = False
    retry_after: int = 1
    credentials: bool = False

    def raised(self) -> UnavailableError:
        kind = CredentialsRefusedError if self.credentials else UnavailableError
        return kind(self.reason, self.retry_after)


class Endpoint:
    """Posts forms to `url` with client_secret_basic (RFC 6749 §2.3.1)."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        *,
        http: Http | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = lambda: random.SystemRandom().uniform(0.05, 0.2),
    ) -> None:
        self.url, self.client_id, self.http = url, client_id, http or Http()
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._authorization = _basic(client_id, client_secret)
        self._session = PerProcess(self._make_session)
        self._breaker = PerProcess(lambda: Breaker(clock=clock))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, client_id={self.client_id!r})"

    def post(self, form: Form, deadline: Deadline | None = None) -> dict[str, Any]:
        """Return the JSON object of a 200 answer, by `deadline` or `http.deadline` seconds from now.

        Raises `CredentialsRefusedError` when the server does not know us, `UnavailableError` for all else:
        the network, the time, 5xx, 429, a redirect, an answer that is too long or no JSON object.
        """
        self._breaker().admit()
        outcome = self._exchange(form, deadline or Deadline.after(self.http.deadline, self._clock))
        if isinstance(outcome, _Failure):
            self._breaker().failed()
            # an operator has to see this one: no retry will mend it
            level = logging.CRITICAL if outcome.credentials else logging.WARNING
            _log.log(level, "%s (client %s): %s", self.url, self.client_id, outcome.reason)
            raise outcome.raised()
        self._breaker().succeeded()
        return outcome

    def close(self) -> None:
        """Close this process's connections; the next `post` opens new ones."""
        if session := self._session.discard():
            session.close()

    def _exchange(self, form: Form, deadline: Deadline) -> dict[str, Any] | _Failure:
        for attempt in range(1, _ATTEMPTS + 1):
            outcome = self._attempt(form, deadline)
            if not isinstance(outcome, _Failure) or not outcome.again or attempt == _ATTEMPTS:
                break
            pause = self._jitter()
            if pause >= deadline.remaining():
                break
            self._sleep(pause)
        return outcome

    def _attempt(self, form: Form, deadline: Deadline) -> dict[str, Any] | _Failure:
        remaining = deadline.remaining()
        if remaining <= 0:
            return _Failure("deadline passed")
        # Failures leave as values: an exception of requests holds the request, body and all, and raising from
        # within `except` would hang it on ours as context.
        try:
            with deadline.applied(), self._send(form, remaining) as response:
                body = response.raw.read(self.http.max_body + 1, decode_content=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return _Failure(_describe(error), again=_may_retry(error))
        if len(body) > self.http.max_body:
            return _Failure("oversized answer")
        return _judge(response, body)

    def _send(self, form: Form, remaining: float) -> requests.Response:
        return self._session().post(
            self.url,
            data=form,
            headers={"Authorization": self._authorization},
            timeout=(min(self.http.connect_timeout, remaining), min(self.http.read_timeout, remaining)),
            allow_redirects=False,
            stream=True,
        )

    def _make_session(self) -> requests.Session:
        session = requests.Session()
        # no proxy, no .netrc, no CA path from the environment: a token goes only where it is configured to
        session.trust_env = False
        session.verify = self.http.ca_bundle or True
        session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = DeadlineAdapter(pool_connections=1, pool_maxsize=self.http.pool_size)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session


def _basic(client_id: str, client_secret: str) -> str:
    # RFC 6749 §2.3.1: form-urlencoded first, so that ":" and non-ASCII survive
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")


def _describe(error: BaseException) -> str:
    # the class names only: texts may quote what came over the wire
    inner = error.args[0] if error.args else None
    return type(getattr(inner, "reason", None) or error).__name__


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)


def _judge(response: requests.Response, body: bytes) -> dict[str, Any] | _Failure:
    status = response.status_code
    answer = _json_object(body)
    if status == requests.codes.ok:
        return _Failure("not a JSON object") if answer is None else answer
    error = answer.get("error") if answer else None
    code = error if isinstance(error, str) and error in _KNOWN_ERRORS else ""
    return _Failure(
        f"status {status} {code}".rstrip(),
        again=status in {502, 503, 504} and "Retry-After" not in response.headers,
        retry_after=_retry_after(response.headers.get("Retry-After", "")),
        # RFC 6749 §5.2: invalid_client may come with 400
        credentials=status in {401, 403} or code == "invalid_client",
    )


def _retry_after(value: str) -> int:
    # RFC 9110 §10.2.3; a date is as good as silence
    seconds = int(value[:9]) if value.isascii() and value.isdigit() else 1
    return max(1, min(seconds, _RETRY_AFTER_CAP))


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON (RFC 8259 §6)")
