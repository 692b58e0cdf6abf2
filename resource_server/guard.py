"""The guard: from the raw parts of a request to an `AccessToken` or a refusal, for any framework."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from resource_server import access_token, bearer
from resource_server.access_token import AccessToken
from resource_server.config import Config
from resource_server.deadline import Clock
from resource_server.errors import (
    AccessError,
    InsufficientScopeError,
    InvalidTokenError,
    MissingTokenError,
    UnavailableError,
)
from resource_server.metadata import ResourceMetadata
from resource_server.stats import Stats, Status
from resource_server.validation import Validation
from resource_server.verifier import TokenVerifier

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, ready to send: status code, fields, JSON text."""

    status: int
    headers: Mapping[str, str]
    body: str


class Guard:
    """Decides about requests.

    `verify` finds out about tokens; `scopes` is what a request needs unless told otherwise; `metadata`, when
    given, names this resource: tokens must then have it in their audience, and challenges point to it.
    `leeway` is the clock skew to forgive, in seconds; `wall` tells the seconds since the epoch. `status()` says
    how the verifier fares in this process; `stats` hears of each decision.
    """

    def __init__(
        self,
        verify: TokenVerifier,
        *,
        scopes: Iterable[str] = ("read",),
        metadata: ResourceMetadata | None = None,
        realm: str = "resource_server",
        leeway: float = 0,
        status: Callable[[], Status] = Status,
        wall: Clock = time.time,
        stats: Stats | None = None,
    ) -> None:
        self._verify, self._realm, self._leeway, self._wall = verify, realm, leeway, wall
        self.scopes, self.metadata, self.status = frozenset(scopes), metadata, status
        self._stats = stats or Stats()

    @classmethod
    def from_config(cls, config: Config, stats: Stats | None = None) -> Self:
        """Build a guard as configured; nothing is opened before the first token comes. `stats` counts."""
        scopes = config.required_scope
        metadata = config.resource and ResourceMetadata(config.resource, config.authorization_server, scopes)
        validation = Validation(config, stats)
        return cls(
            validation.verify,
            scopes=scopes,
            metadata=metadata or None,
            leeway=config.clock_skew,
            status=validation.status,
            stats=stats,
        )

    def check(self, authorization: str | None, query: str = "", scopes: Iterable[str] | None = None) -> AccessToken:
        """Return the facts about the token of a request, or raise an `AccessError`.

        `authorization` is the value of that field or None, `query` the raw query string, `scopes` what this
        request needs (None: the guard's own).
        """
        began, outcome = time.perf_counter(), "error"
        try:
            token = self._check(authorization, query, scopes)
            outcome = "allowed"
            return token
        except AccessError as error:
            outcome = error.error
            raise
        finally:
            self._stats.count("checks", outcome)
            self._stats.measure("check_seconds", time.perf_counter() - began)

    def _check(self, authorization: str | None, query: str, scopes: Iterable[str] | None) -> AccessToken:
        token = self._verify(bearer.token_from(authorization, query))
        if token is None:
            raise InvalidTokenError("inactive")
        # facts may come from a cache, so the clock, the audience and the scope are asked every time
        access_token.require_current(token, self._wall(), self._leeway)
        access_token.require_bearer(token)
        if self.metadata:
            access_token.require_audience(token, self.metadata.resource)
        access_token.require_scopes(token, self.scopes if scopes is None else scopes)
        return token

    def answer(self, error: AccessError) -> Answer:
        """Turn a refusal into its HTTP answer (RFC 6750 §3.1) and log the reason."""
        _log.info("refused with %d: %s", error.status, error)
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
        if isinstance(error, UnavailableError):
            headers["Retry-After"] = str(error.retry_after)
        else:
            headers["WWW-Authenticate"] = self._challenge(error)
        body = {"error": error.error, "error_description": error.description}
        return Answer(error.status, headers, json.dumps(body))

    def _challenge(self, error: AccessError) -> str:
        scopes = error.scopes if isinstance(error, InsufficientScopeError) else frozenset()
        # RFC 6750 §3.1: who sent no token is told of no error
        told = not isinstance(error, MissingTokenError)
        return bearer.challenge(
            self._realm,
            error=error.error if told else None,
            description=error.description if told else None,
            scope=" ".join(sorted(scopes)) or None,
            resource_metadata=self.metadata.url if self.metadata else None,
        )
