"""POST /clients/register (RFC 7591) and GET, PUT, DELETE /clients/register/{client_id} (RFC 7592)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import falcon

from authserver.flows import register
from authserver.flows.server import AuthorizationServer
from authserver.oauth.errors import InvalidToken, MissingToken
from authserver.web.body import read_json_object
from authserver.web.client_address import ClientAddress

T = TypeVar("T")


class RegistrationEndpoint:
    """Where clients are registered, by whoever holds an initial access token."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server
        self._address = ClientAddress(server.policy.trusted_proxies)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        # The body is read only for who may register: anyone else is refused cheaply.
        register.require_initial_access_token(self._server, _bearer_token(req), self._address(req))
        _answer(resp, register.register(self._server, read_json_object(req)))
        resp.status = falcon.HTTP_201


class ClientConfigurationEndpoint:
    """Where a client reads, replaces and deletes its registration with its registration access token."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server
        self._address = ClientAddress(server.policy.trusted_proxies)

    def on_get(self, req: falcon.Request, resp: falcon.Response, client_id: str) -> None:
        _answer(resp, self._read(req, client_id, _bearer_token(req)))

    def on_put(self, req: falcon.Request, resp: falcon.Response, client_id: str) -> None:
        token = _bearer_token(req)
        # Likewise: who may not manage this registration learns nothing from what is wrong with a body.
        self._read(req, client_id, token)
        _answer(resp, register.replace_registration(self._server, client_id, token, read_json_object(req)))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, client_id: str) -> None:
        token = _bearer_token(req)
        self._throttled(req, client_id, lambda: register.delete_registration(self._server, client_id, token))
        resp.status = falcon.HTTP_204

    def _read(self, req: falcon.Request, client_id: str, token: str) -> dict[str, Any]:
        return self._throttled(req, client_id, lambda: register.read_registration(self._server, client_id, token))

    def _throttled(self, req: falcon.Request, client_id: str, act: Callable[[], T]) -> T:
        return self._server.throttle.bearer(client_id, self._address(req), self._server.now(), act)


def _bearer_token(req: falcon.Request) -> str:
    """The token in the Authorization header, the only place where it is looked for (RFC 6750 §2.1)."""
    scheme, _, token = (req.auth or "").partition(" ")
    if scheme.lower() != "bearer":
        raise MissingToken
    if not token.strip() or not token.isascii():
        raise InvalidToken("malformed bearer token")
    return token.strip()


def _answer(resp: falcon.Response, document: dict[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = json.dumps(document).encode()
