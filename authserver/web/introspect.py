"""POST /oauth/introspect (RFC 7662), whose answer is signed for those who ask for it (RFC 9701)."""

from __future__ import annotations

import falcon

from authserver.flows.introspect import SIGNED_RESPONSE, introspect, introspect_signed
from authserver.flows.server import AuthorizationServer
from authserver.web.form_endpoint import FormEndpoint

_SIGNED = f"application/{SIGNED_RESPONSE}"


class IntrospectionEndpoint(FormEndpoint):
    """Introspection; JSON unless the caller names the other media type in `Accept`."""

    def __init__(self, server: AuthorizationServer) -> None:
        super().__init__(server, introspect)
        self._signs = server.policy.signs

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self._signs or not _wants_signed(req):
            super().on_post(req, resp)
            return
        resp.data = self._run(introspect_signed, req).encode()
        resp.content_type = _SIGNED


def _wants_signed(req: falcon.Request) -> bool:
    # Named, not covered by a wildcard: who accepts anything expects what RFC 7662 gives.
    return _SIGNED in req.accept and req.client_prefers((_SIGNED, falcon.MEDIA_JSON)) == _SIGNED
