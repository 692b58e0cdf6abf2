"""GET /health: the process answers. GET /ready: it has what it needs to serve, too."""

from __future__ import annotations

import json
from typing import Any

import falcon

from authserver.flows.ready import Readiness
from authserver.flows.server import AuthorizationServer
from authserver.web.errors import RETRY_AFTER


class Health:
    """For liveness probes: never asks the database, whose absence no restart of this process would mend."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, {"status": "ok"})


class Ready:
    """For readiness probes and load balancers."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._readiness = Readiness(server)

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        missing = self._readiness.missing()
        if missing is None:
            _answer(resp, {"status": "ready"})
            return
        resp.status = falcon.HTTP_503
        resp.set_header("Retry-After", RETRY_AFTER)
        _answer(resp, {"status": "not ready", "reason": missing.reason})


def _answer(resp: falcon.Response, document: dict[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = json.dumps(document).encode()
