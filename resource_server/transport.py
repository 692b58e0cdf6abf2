"""One HTTP exchange with a URL of the authorization server, bounded in time and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import urllib3

from resource_server.deadline import Deadline, DeadlineAdapter
from resource_server.per_process import PerProcess
from resource_server.strict_json import json_object
from resource_server.trace import current_headers

Form = Mapping[str, str | Sequence[str]]
_NOTHING: Final[Mapping[str, str]] = {}


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
class Reply:
    """What the server answered; `json` is None unless the body is one JSON object."""

    status: int
    headers: Mapping[str, str]
    json: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no usable answer; `again` says whether another attempt may help at once."""

    reason: str
    again: bool = False
    retry_after: int = 1
    credentials: bool = False


class Transport:
    """Sends requests to `url`: pooled, without redirects, proxies, cookies or anything from the environment."""

    def __init__(self, url: str, http: Http, authorization: str | None = None) -> None:
        self.url, self.http = url, http
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if authorization is not None:
            self._headers["Authorization"] = authorization
        self._session = PerProcess(self._make_session)

    @property
    def authenticates(self) -> bool:
        """Whether credentials are sent."""
        return "Authorization" in self._headers

    def send(
        self,
        method: str,
        deadline: Deadline,
        *,
        form: Form | None = None,
        params: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
    ) -> Reply | Failure:
        """Make one attempt by `deadline`; whatever status comes back is a reply."""
        remaining = deadline.remaining()
        if remaining <= 0:
            return Failure("deadline passed")
        limits = (min(self.http.connect_timeout, remaining), min(self.http.read_timeout, remaining))
        # Failures leave as values: an exception of requests holds the request, body and all, and raising from
        # within `except` would hang it on ours as context.
        try:
            with (
                deadline.applied(),
                self._session().request(
                    method,
                    self.url,
                    data=form,
                    params=params or None,
                    headers={**current_headers(), **self._headers, **headers},
                    timeout=limits,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                body = response.raw.read(self.http.max_body + 1, decode_content=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return Failure(_describe(error), again=_may_retry(error))
        if len(body) > self.http.max_body:
            return Failure("oversized answer")
        return Reply(response.status_code, response.headers, json_object(body))

    def close(self) -> None:
        """Close this process's connections; the next `send` opens new ones."""
        if session := self._session.discard():
            session.close()

    def _make_session(self) -> requests.Session:
        session = requests.Session()
        # no proxy, no .netrc, no CA path from the environment: a token goes only where it is configured to
        session.trust_env = False
        session.verify = self.http.ca_bundle or True
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = DeadlineAdapter(pool_connections=1, pool_maxsize=self.http.pool_size)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session


def _describe(error: BaseException) -> str:
    # the class names only: texts may quote what came over the wire
    inner = error.args[0] if error.args else None
    return type(getattr(inner, "reason", None) or error).__name__


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)
