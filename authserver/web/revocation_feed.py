"""GET /oauth/revocations, the revocation feed; also by POST, for clients that prove themselves in the body."""

from __future__ import annotations

import json

import falcon

from authserver.oauth.forms import Form, parse_form
from authserver.web.form_endpoint import FormEndpoint

_PARAMETERS = ("cursor", "limit")


class RevocationFeedEndpoint(FormEndpoint):
    """The feed. In the query there may be a cursor and a limit, and never a credential (RFC 6749 §2.3.1)."""

    allowed_methods = ("GET", "POST")

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = parse_form(req.query_string.encode())
        form = Form({name: query.all(name) for name in _PARAMETERS})
        resp.content_type = falcon.MEDIA_JSON
        resp.data = json.dumps(self._flow(self._server, self._credential(req, form), form)).encode()
