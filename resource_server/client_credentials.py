"""For a service that calls protected ones: client credentials as a requests auth class (RFC 6749 §4.4)."""

import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from requests.exceptions import InvalidURL, UnrewindableBodyError
from requests.utils import rewind_body

from resource_server.bearer import token_from
from resource_server.deadline import Clock, Deadline
from resource_server.endpoint import Endpoint
from resource_server.errors import AccessError, ConfigError, UnavailableError
from resource_server.per_process import PerProcess
from resource_server.single_flight import SingleFlight
from resource_server.transport import Http

_MARGIN: Final = 30.0
_INVALID_TOKEN: Final = re.compile(r'\bBearer\b.*\berror\s*=\s*"?invalid_token\b', re.IGNORECASE | re.DOTALL)


_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def assertion_from_file(path: str | PathLike[str]) -> Callable[[], str]:
    """Read a client assertion from a file at every use: Kubernetes renews a projected token in place.

    What it gives raises `UnavailableError` while the file cannot be read or is empty.
    """

    def read() -> str:
        try:
            assertion = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            assertion = ""
        if not assertion:
            raise UnavailableError("the file with the client assertion cannot be read or is empty")
        return assertion

    return read


class TokenError(requests.RequestException):
    """No access token could be had; the text says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class _Grant:
    token: str = field(repr=False)
    stale_at: float
    expires_at: float


class _Holder:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.grant: _Grant | None = None
        self.flights: SingleFlight[_Grant] = SingleFlight()


class ClientCredentials(AuthBase):
    """`session.auth = ClientCredentials(token_url, client_id, client_secret, scope="read")`.

    Or, without any secret, `ClientCredentials(token_url, assertion=assertion_from_file(path), scope="read")`:
    `assertion` is called for every request of a token and gives the client assertion to send (RFC 7523 §2.2).

    Fetches a token on first use, keeps it until shortly before it expires, and shares it among threads; each
    process has its own. When a server answers 401 `invalid_token`, a new one is fetched and the request sent
    once more, if its body can be. A redirect to another origin loses the token. `resource` is one or several
    resource identifiers (RFC 8707 §2). Requests raise `TokenError`, a `requests.RequestException`, when no
    token can be had.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str = "",
        client_secret: str | None = None,
        *,
        assertion: Callable[[], str] | None = None,
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        http: Http | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if (client_secret is None) == (assertion is None):
            raise ConfigError("ClientCredentials takes either a client_secret or an assertion")
        self._endpoint = Endpoint(token_url, client_id, client_secret, http=http)
        self._assertion = assertion
        self._clock = clock
        optional = {"scope": scope, "resource": resource}
        self._form = {"grant_type": "client_credentials"} | {k: v for k, v in optional.items() if v}
        self._holder = PerProcess(_Holder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint.url!r}, client_id={self._endpoint.client_id!r})"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token on a request that is about to be sent."""
        request.headers["Authorization"] = f"Bearer {self._token()}"
        request.register_hook("response", self._respond)  # type: ignore[no-untyped-call]  # requests' stubs
        return request

    def close(self) -> None:
        """Close this process's connections to the token endpoint."""
        self._endpoint.close()

    def _token(self, refused: str | None = None) -> str:
        grant = self._holder().grant
        now = self._clock()
        if grant and grant.token != refused and now < grant.stale_at:
            return grant.token
        try:
            return self._fetch(refused).token
        except UnavailableError as error:
            reason = str(error)
        # fetched early on purpose: what is left of the old token bridges an outage
        if grant and grant.token != refused and now < grant.expires_at:
            return grant.token
        raise TokenError(f"no access token from {self._endpoint.url}: {reason}")

    def _fetch(self, refused: str | None) -> _Grant:
        holder, deadline = self._holder(), Deadline.after(self._endpoint.http.deadline)

        def fetch() -> _Grant:
            held = holder.grant
            if held and held.token != refused and self._clock() < held.stale_at:
                return held
            asked_at = self._clock()
            holder.grant = _grant(self._endpoint.post(lambda: self._form | self._proof(), deadline), asked_at)
            return holder.grant

        return holder.flights.share(b"token", fetch, deadline)

    def _proof(self) -> dict[str, str]:
        if self._assertion is None:
            return {}
        # made anew each time: one of our own is good once, one that the platform renews is good for minutes
        proof = {"client_assertion_type": _JWT_BEARER, "client_assertion": self._assertion()}
        return proof | ({"client_id": self._endpoint.client_id} if self._endpoint.client_id else {})

    def _respond(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        request = response.request
        if response.is_redirect and _leaves_origin(response):
            # requests would keep the token from http to https, and this hook stays on the new request
            request.headers.pop("Authorization", None)
            return response
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not _refuses_token(response) or not _rewound(request):
            return response
        # The same request, not a copy: should its answer be a redirect, requests goes on from this one.
        request.headers["Authorization"] = f"Bearer {self._token(refused=sent)}"
        response.close()
        again: requests.Response = response.connection.send(request, **kwargs)
        again.history.append(response)
        return again


def _grant(answer: dict[str, Any], asked_at: float) -> _Grant:
    """Read a token answer (RFC 6749 §5.1)."""
    token, kind, lifetime = (answer.get(name) for name in ("access_token", "token_type", "expires_in"))
    # RFC 6749 §7.1: a type we do not know must not be used
    if not isinstance(token, str) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise UnavailableError("token answer without a Bearer token")
    if lifetime is not None and (not isinstance(lifetime, int) or isinstance(lifetime, bool)):
        raise UnavailableError("token answer with expires_in that is not a number")
    if not _sendable(token):
        raise UnavailableError("token answer with a token outside b64token")
    seconds = math.inf if lifetime is None else min(lifetime, 10**9)
    # RFC 6749 §5.1: without expires_in the token is good until somebody refuses it
    margin = 0 if lifetime is None else min(_MARGIN, seconds / 10)
    return _Grant(token, asked_at + seconds - margin, asked_at + seconds)


def _sendable(token: str) -> bool:
    try:
        return token_from(f"Bearer {token}") == token
    except AccessError:
        return False


def _refuses_token(response: requests.Response) -> bool:
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status_code == requests.codes.unauthorized and bool(_INVALID_TOKEN.search(challenge))


def _rewound(request: requests.PreparedRequest) -> bool:
    body: object = request.body  # the stubs leave out files and generators
    if body is None or isinstance(body, str | bytes):
        return True
    try:
        rewind_body(request)
    except UnrewindableBodyError:
        return False
    return True


def _leaves_origin(response: requests.Response) -> bool:
    try:
        target = urljoin(response.url, response.headers["Location"])
    except ValueError:
        # requests would fail at the same, when it follows, with what is no RequestException
        raise InvalidURL("redirect to what is no URL", request=response.request, response=response) from None
    try:
        return _origin(target) != _origin(response.url)
    except ValueError:
        return True


def _origin(url: str) -> tuple[str, str | None, int | None]:
    # RFC 6454 §4
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
