"""GET /.well-known/oauth-authorization-server (RFC 8414 §3)."""

from __future__ import annotations

import json

import falcon

from authserver.flows.server import Policy
from authserver.oauth.metadata import server_metadata

MAX_AGE = 300  # seconds


class MetadataEndpoint:
    """The metadata document, which depends on the policy only."""

    def __init__(self, policy: Policy) -> None:
        self._document = json.dumps(server_metadata(policy.issuer, signs=policy.signs)).encode()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.set_header("Cache-Control", f"public, max-age={MAX_AGE}")
        resp.data = self._document
