"""Turn refusals and failures into answers: clients get one sentence, the log gets the truth (RFC 6749 §5.2)."""

from __future__ import annotations

import json
import logging
from typing import Any

import falcon

from authserver.oauth.errors import InvalidClient, InvalidToken, MissingToken, OAuthError, Throttled
from authserver.store.database import Unavailable
from authserver.web.request_id import request_id

_log = logging.getLogger("authserver.web")

REALM = "authserver"
RETRY_AFTER = "1"  # seconds: a database that restarts is back about then


def add_error_handlers(app: falcon.App[Any, Any]) -> None:
    """Make every answer that is not a success have the one JSON shape, and none of them tell internals."""
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(Unavailable, _unavailable)
    app.add_error_handler(OAuthError, _refused)


def refuse(resp: falcon.Response, status: int | str, code: str, description: str) -> None:
    """Write an error answer."""
    resp.context.error_code = code
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = json.dumps({"error": code, "error_description": description}).encode()


def _refused(req: falcon.Request, resp: falcon.Response, error: OAuthError, params: dict[str, Any]) -> None:
    resp.context.refusal, resp.context.client_id = error, params.get("client_id")
    _log.info("refused: %s", error.reason, extra={"request_id": request_id(req), "error_code": error.code})
    refuse(resp, error.status, error.code, error.description)
    if isinstance(error, Throttled):
        resp.set_header("Retry-After", str(error.retry_after))
    elif isinstance(error, InvalidClient):
        resp.set_header("WWW-Authenticate", f'Basic realm="{REALM}"')
    elif isinstance(error, MissingToken):
        # RFC 6750 §3.1: a request without credentials is not told of an error, only what is wanted.
        resp.set_header("WWW-Authenticate", f'Bearer realm="{REALM}"')
    elif isinstance(error, InvalidToken):
        resp.set_header("WWW-Authenticate", f'Bearer realm="{REALM}", error="{error.code}"')


def _unavailable(req: falcon.Request, resp: falcon.Response, error: Unavailable, _params: dict[str, Any]) -> None:
    _log.error("database unavailable: %s", error, extra={"request_id": request_id(req)})
    refuse(resp, 503, "temporarily_unavailable", "The server cannot answer at the moment. Try again.")
    resp.set_header("Retry-After", RETRY_AFTER)


def _http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    _log.debug("refused by the framework: %s", error.status, extra={"request_id": request_id(req)})
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    refuse(resp, error.status, code, f"{falcon.code_to_http_status(error.status_code)[4:]}.")
    resp.set_headers(error.headers or {})


def _unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    # Where it happened, and of what kind. Not its text: that may quote a parameter, and parameters are secrets.
    where = error.__traceback__
    trail = []
    while where is not None:
        trail.append(f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}")
        where = where.tb_next
    _log.critical("unexpected %s at %s", type(error).__name__, trail, extra={"request_id": request_id(req)})
    refuse(resp, 500, "server_error", "The server failed to answer.")
