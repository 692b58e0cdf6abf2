"""Read a request body whole and within limits, or refuse it."""

from __future__ import annotations

import json
from typing import Any

import falcon

from authserver.oauth.errors import InvalidClientMetadata, InvalidRequest, RequestTooLarge
from authserver.oauth.forms import Form, is_form, parse_form

MAX_BODY = 64 * 1024  # bytes


def read_form(req: falcon.Request) -> Form:
    """The form in the body (RFC 6749 §4.4.2). Raises InvalidRequest, RequestTooLarge."""
    if not is_form(req.content_type):
        raise InvalidRequest("The body must be application/x-www-form-urlencoded.")
    return parse_form(_read(req))


def read_json_object(req: falcon.Request) -> dict[str, Any]:
    """The JSON object in the body (RFC 7591 §3.1). Raises InvalidRequest, InvalidClientMetadata, RequestTooLarge."""
    if (req.content_type or "").partition(";")[0].strip().lower() != falcon.MEDIA_JSON:
        raise InvalidRequest("The body must be application/json.")
    try:
        text = _read(req).decode("utf-8")
        document = json.loads(text)
        # JSON can escape what UTF-8, and so PostgreSQL, cannot hold: lone surrogates.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InvalidClientMetadata("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidClientMetadata("The body is not a JSON object.")
    return document


def _read(req: falcon.Request) -> bytes:
    # RFC 9112 §6.3: the HTTP server in front of this refuses bodies that do not announce their length.
    announced = req.content_length or 0
    if announced > MAX_BODY:
        raise RequestTooLarge("The body is too large.")
    try:
        body: bytes = req.stream.read(announced)
    except OSError:
        raise InvalidRequest("The body could not be read.") from None
    if len(body) != announced:
        raise InvalidRequest("The body is shorter than announced.")
    return body
