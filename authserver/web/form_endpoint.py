"""What the token, introspection and revocation endpoints share: a form in, an authenticated client, JSON out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import falcon

from authserver.flows.server import AuthorizationServer
from authserver.oauth.client_authentication import ClientCredential, read_client_credential
from authserver.oauth.forms import Form
from authserver.web.body import read_form

Flow = Callable[[AuthorizationServer, ClientCredential, Form], dict[str, Any]]


class FormEndpoint:
    """A POST-only endpoint that takes a form and client authentication and hands both to a use case."""

    def __init__(self, server: AuthorizationServer, flow: Flow) -> None:
        self._server = server
        self._flow = flow

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        form = read_form(req)
        credential = read_client_credential(req.auth, form)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = json.dumps(self._flow(self._server, credential, form)).encode()

    def on_request(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        raise falcon.HTTPMethodNotAllowed(["POST"])

    # Falcon would answer 200 and name OPTIONS in every Allow; these endpoints are not for browsers.
    on_options = on_request
