"""What the token, introspection and revocation endpoints share: a form in, an authenticated client, JSON out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import falcon

from authserver.flows.server import AuthorizationServer
from authserver.oauth.client_authentication import ClientCredential, read_client_credential
from authserver.oauth.forms import Form
from authserver.web.body import read_form
from authserver.web.client_address import ClientAddress
from authserver.web.observation import note_credential

Answer = TypeVar("Answer")
Flow = Callable[[AuthorizationServer, ClientCredential, Form], Answer]


class FormEndpoint:
    """An endpoint, by POST only, that takes a form and client authentication and hands both to a use case."""

    allowed_methods: tuple[str, ...] = ("POST",)

    def __init__(self, server: AuthorizationServer, flow: Flow[dict[str, Any]]) -> None:
        self._server = server
        self._flow = flow
        self._address = ClientAddress(server.policy.trusted_proxies)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = json.dumps(self._run(self._flow, req)).encode()

    def _run(self, flow: Flow[Answer], req: falcon.Request) -> Answer:
        form = read_form(req)
        return flow(self._server, self._credential(req, form), form)

    def _credential(self, req: falcon.Request, form: Form) -> ClientCredential:
        return note_credential(req, read_client_credential(req.auth, form, self._address(req)))

    def on_request(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        raise falcon.HTTPMethodNotAllowed(self.allowed_methods)

    # Falcon would answer 200 and name OPTIONS in every Allow; these endpoints are not for browsers.
    on_options = on_request
