"""Falcon middleware that watches each request: for the audit events, the access line and the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Protocol
from uuid import uuid4

import falcon

from authserver.oauth.client import SecretCredential
from authserver.oauth.client_assertion import read_assertion
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.errors import InvalidClient, InvalidToken, MissingToken, OAuthError, Throttled
from authserver.observe.audit import Audit, begin_request
from authserver.observe.events import REFUSED
from authserver.observe.trace_context import is_trace_id, read_trace_id
from authserver.observe.tracing import ROUTE, TRACE_ID
from authserver.web.client_address import ClientAddress
from authserver.web.request_id import request_id

_CREDENTIAL, _BEGAN = "authserver.credential", "authserver.began"
_AUTHENTICATION = (InvalidClient, InvalidToken, MissingToken, Throttled)


class RequestMetrics(Protocol):
    """Where requests are counted."""

    def begin(self) -> None:
        """Note that this thread has a request."""

    def end(self, request: tuple[str | None, str, int, str, str], seconds: float) -> None:
        """Count this thread's request: the route's template, the HTTP method, status, OAuth error and auth method."""


def trace_id(req: falcon.Request) -> str:
    """The trace that the request says it belongs to; else a new one, called as the request if that may be."""
    known = req.env.get(TRACE_ID)
    if isinstance(known, str):
        return known
    named: str | None = req.env.get("HTTP_TRACEPARENT")
    chosen = (read_trace_id(named) if named else None) or request_id(req)
    req.env[TRACE_ID] = chosen = chosen if is_trace_id(chosen) else uuid4().hex
    return chosen


def note_credential(req: falcon.Request, credential: ClientCredential) -> ClientCredential:
    """The credential itself: what the request presents, whether it is good or not."""
    req.env[_CREDENTIAL] = credential
    return credential


class Observation:
    """First in the list of middleware: what it sees is the whole."""

    def __init__(self, audit: Audit, address: ClientAddress, metrics: RequestMetrics | None = None) -> None:
        self._audit, self._address, self._metrics = audit, address, metrics

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        begin_request(lambda: self._describe(req))
        if self._metrics is not None:
            self._metrics.begin()
            req.env[_BEGAN] = perf_counter()

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool) -> None:
        trace_id(req)  # for the access line, which is written when the request is gone
        req.env[ROUTE] = req.uri_template
        refusal: OAuthError | None = getattr(resp.context, "refusal", None)
        if isinstance(refusal, _AUTHENTICATION):
            self._audit.tell(
                REFUSED,
                client_id=_asked_for(req, resp),
                auth_method=_auth_method(req),
                endpoint=req.uri_template,
                reason=refusal.reason,
            )
        if self._metrics is not None:
            code = getattr(resp.context, "error_code", "")
            seconds = perf_counter() - req.env[_BEGAN]
            self._metrics.end((req.uri_template, req.method, resp.status_code, code, _auth_method(req)), seconds)

    def _describe(self, req: falcon.Request) -> Mapping[str, str]:
        return {"request_id": request_id(req), "trace_id": trace_id(req), "address": self._address(req)}


def _auth_method(req: falcon.Request) -> str:
    credential: ClientCredential | None = req.env.get(_CREDENTIAL)
    if credential is not None:
        return credential.method
    scheme = req.env.get("HTTP_AUTHORIZATION", "")[:7]
    return "bearer" if scheme.lower() == "bearer " else "none"


def _asked_for(req: falcon.Request, resp: falcon.Response) -> str | None:
    """Which client somebody claims to be, or to manage."""
    credential: ClientCredential | None = req.env.get(_CREDENTIAL)
    if credential is None:
        named: str | None = resp.context.client_id
        return named
    if isinstance(credential, SecretCredential):
        return credential.client_id
    try:
        return read_assertion(credential).subject
    except InvalidClient:
        return credential.client_id
