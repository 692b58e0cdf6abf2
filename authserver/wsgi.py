"""WSGI (PEP 3333) for whole requests and whole answers: functions on bytes, without I/O.

An answer is made when all of it is there, so that its length is known and it can be sent at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from authserver.http_request import Head

# In the environment where several requests are at hand: takes a callable, which is called before the answer is given,
# and once for all the answers that are held for one. If it raises, they are 503.
HOLD_FOR = "authserver.hold_for"
# Of this connection, and not the application's to say (PEP 3333).
_OURS = frozenset(
    ("connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
_CODES = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily_unavailable",
}
_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@lru_cache(2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def environ_of(head: Head, body: bytes, client: object, server: object) -> dict[str, Any]:
    """The environment of a request. `client` and `server` are the socket's addresses."""
    environ = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(head.path).decode("latin-1") if "%" in head.path else head.path,
        "QUERY_STRING": head.query,
        "RAW_URI": f"{head.path}?{head.query}" if head.query else head.path,  # OpenTelemetry's http.target
        "SERVER_PROTOCOL": f"HTTP/1.{head.minor_version}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    # A UNIX socket's addresses are its path, and nothing.
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = map(str, client[:2]) if isinstance(client, tuple) else ("", "")
    environ["SERVER_NAME"], environ["SERVER_PORT"] = map(str, server[:2]) if isinstance(server, tuple) else ("", "")
    for name, values in head.fields.items():
        # Two names would be one here, and a proxy that takes away the one lets the other pass.
        if "_" not in name:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = values[0] if len(values) == 1 else ",".join(values)
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if (value := environ.pop(f"HTTP_{name}", None)) is not None:
            environ[name] = value
    return environ


class Answer:
    """One answer: what the application gives, as bytes. The access log wants `status_code`, and `sent`: of the body."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._pieces: list[bytes] = []
        self._headers: list[tuple[str, str]] = []
        self.status = ""
        self.status_code = 0
        self.sent = 0

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """PEP 3333. Nothing has been sent yet: what an error says can always take the place of what was begun."""
        if self.status and exc_info is None:
            raise AssertionError("the answer was begun already")
        self.status, self._headers, self.status_code = status, headers, int(status[:3])
        self._pieces.clear()
        return self._pieces.append

    def take(self, pieces: Iterable[bytes]) -> None:
        """Take the body, and close it as PEP 3333 says."""
        try:
            self._pieces += pieces
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def encoded(self, *, stays_open: bool) -> bytes:
        """Head and body; `stays_open` as the client is told of the connection.

        Raises ValueError for no status, or a header that would be read as something else.
        """
        if not self.status:
            raise ValueError("the answer was never begun")
        body = b"".join(self._pieces)
        length: str | None = str(len(body))
        if self._head.method == "HEAD" or self.status_code in _NO_BODY:
            # RFC 9110 §8.6: a cache may believe it. Of nothing it is not known how long the body of a GET would be.
            of_body = length if body else None
            length = next((value for name, value in self._headers if name.lower() == "content-length"), of_body)
            body = b""
        self.sent = len(body)
        lines = [f"HTTP/1.1 {self.status}", f"Date: {_date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in self._headers if name.lower() not in _OURS]
        if length is not None and self.status_code != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {length}")
        if not stays_open:
            lines.append("Connection: close")
        elif self._head.minor_version == "0":
            lines.append("Connection: keep-alive")
        head = "\r\n".join(lines)
        ends = len(lines) - 1
        if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
            raise ValueError("a header is more than one line")
        return f"{head}\r\n\r\n".encode("latin-1") + body


def refusal(status: HTTPStatus) -> bytes:
    """The whole answer to what the application is not asked about, or has failed at; then the connection must close."""
    body = json.dumps({"error": _CODES.get(status, "invalid_request"), "error_description": f"{status.phrase}."})
    retry = "Retry-After: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
    return (
        f"HTTP/1.1 {status} {status.phrase}\r\nDate: {_date(int(time.time()))}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nCache-Control: no-store\r\n{retry}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
