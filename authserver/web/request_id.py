"""Give each request an id that its log lines and its answer share."""

from __future__ import annotations

import re
import uuid

import falcon

from authserver.oauth.credentials import conceal

HEADER = "X-Request-ID"
_KEY = "authserver.request_id"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(req: falcon.Request) -> str:
    """The id that a proxy gave this request, if it is one that can stand in a log; else a new one."""
    known = req.env.get(_KEY)
    if isinstance(known, str):
        return known
    given = req.get_header(HEADER) or ""
    acceptable = _ACCEPTABLE.fullmatch(given) and conceal(given) == given
    req.env[_KEY] = chosen = given if acceptable else uuid.uuid4().hex
    return chosen


class CommonHeaders:
    """Falcon middleware: the request id, and headers that every answer carries."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool) -> None:
        resp.set_header(HEADER, request_id(req))
        resp.set_header("X-Content-Type-Options", "nosniff")
        if resp.get_header("Cache-Control") is None:
            # RFC 6749 §5.1, and the same for refusals.
            resp.set_header("Cache-Control", "no-store")
            resp.set_header("Pragma", "no-cache")
