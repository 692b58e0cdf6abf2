"""GET /.well-known/jwks.json: the public signing keys (RFC 7517 §5)."""

from __future__ import annotations

import hashlib
import json

import falcon

from authserver.flows.server import AuthorizationServer
from authserver.oauth.signing_keys import JWKS_MAX_AGE


class JWKSEndpoint:
    """The published keys: the one that signs, those whose tokens still live, and the next one ahead of its time."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        ring = self._server.key_ring.current()
        document = {"keys": [key.jwk() for key in ring.published(self._server.now())]}
        body = json.dumps(document, sort_keys=True).encode()
        resp.set_header("Cache-Control", f"public, max-age={JWKS_MAX_AGE}")
        resp.etag = tag = hashlib.sha256(body).hexdigest()[:32]
        if not {tag, "*"}.isdisjoint(req.if_none_match or ()):
            resp.status = falcon.HTTP_304
            return
        resp.content_type = "application/jwk-set+json"
        resp.data = body
