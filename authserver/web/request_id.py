"""Give each request an id that its log lines and its answer share."""

from __future__ import annotations

import re
import secrets

import falcon

from authserver.oauth.credentials import conceal

HEADER = "X-Request-ID"
REQUEST_ID = "authserver.request_id"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(req: falcon.Request) -> str:
    """The id that a proxy gave this request, if it is one that can stand in a log; else a new one."""
    known = req.env.get(REQUEST_ID)
    if isinstance(known, str):
        return known
    given = req.get_header(HEADER) or ""
    acceptable = _ACCEPTABLE.fullmatch(given) and conceal(given) == given
    req.env[REQUEST_ID] = chosen = given if acceptable else secrets.token_hex(16)
    return chosen


# What a browser makes of an answer that it was lured to: nothing. A page for people has a policy of its own.
_BROWSER_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))
_NO_CONTENT_ALLOWED = "default-src 'none'; frame-ancestors 'none'"


class CommonHeaders:
    """Falcon middleware: the request id, and headers that every answer carries."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool) -> None:
        resp.set_header(HEADER, request_id(req))
        resp.set_headers(_BROWSER_HEADERS)
        if resp.get_header("Content-Security-Policy") is None:
            resp.set_header("Content-Security-Policy", _NO_CONTENT_ALLOWED)
        if resp.get_header("Cache-Control") is None:
            # RFC 6749 §5.1, and the same for refusals.
            resp.set_header("Cache-Control", "no-store")
            resp.set_header("Pragma", "no-cache")
