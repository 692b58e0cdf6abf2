"""gunicorn's threaded worker, safe against clients that hold on to threads, and quick to stop.

gunicorn gives a connection a thread and waits there, without limit, for the rest of the head. Here the main thread
collects heads, and only a whole one gets a thread. A body is for the application to read; its silences are limited.
"""

import json
import logging
import selectors
import socket
import struct
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

# All in seconds. An idle connection on which a client may just have sent a request is left open this long at a stop,
# and one that was told to close this long for the client to read the last answer.
LINGER: Final = 1.0
_HEAD: Final = 5.0
_BODY_SILENCE: Final = 10
_UNREAD_BODY: Final = 0.05
_MAX_HEAD: Final = 65536
_STATUS: Final = {
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}


@dataclass(eq=False, slots=True)
class _Wait:
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    closing: bool = False


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """See the module. Runs in gunicorn's main thread but for `_keepalive_after` and `handle_error`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # first the connection that has been the longest without a whole head
        self._waiting: dict[Any, _Wait] = {}

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker cannot do: bytes are read before gunicorn could decrypt them."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            sys.exit("resource_server: TLS is for the proxy in front to end; start gunicorn without a certificate")

    def enqueue_req(self, conn: Any) -> None:
        """Take a new connection; it gets a thread when a head has arrived."""
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _BODY_SILENCE, 0))
        self._wait_for_head(conn, b"")
        self._receive(conn, conn.sock)

    def finish_request(self, conn: Any, future: Any) -> None:
        """Take a connection back from its thread."""
        if future.exception() is None and future.result() is True:
            self._wait_for_head(conn, conn.parser.unreader.take_buffered())
        else:
            self._close(conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether the connection can be used again; gunicorn would wait seconds, in a thread, for an unread body."""
        try:
            return keepalive and bool(conn.parser.finish_body(deadline=monotonic() + _UNREAD_BODY))
        except (OSError, errors.ParseException):
            return False

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, exc: BaseException) -> None:
        """Answer what is not HTTP. gunicorn's own text, to client and log, quotes the request, tokens and all."""
        known = isinstance(exc, (errors.ParseException, errors.ConfigurationProblem))
        status = _STATUS.get(type(exc), HTTPStatus.BAD_REQUEST) if known else HTTPStatus.INTERNAL_SERVER_ERROR
        where = (
            [] if known else [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(exc.__traceback__)]
        )
        level = logging.INFO if known else logging.CRITICAL
        self.log.log(level, "answered %d to a bad request: %s %s", status, type(exc).__name__, where)
        _refuse(client, status)

    def murder_pending(self) -> None:
        """Cut what is over its time, and at the limit of connections what has waited longest."""
        now = monotonic()
        for conn in [conn for conn, wait in self._waiting.items() if wait.deadline < now]:
            self._drop(conn)
        if self.nr_conns >= self.worker_connections and self._waiting:
            self._drop(next(iter(self._waiting)))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for something to happen, but at a stop not for longer than idle connections may linger."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, LINGER / 4))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; gunicorn calls this first thing at a stop."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for wait in self._waiting.values():
                if not wait.received:
                    wait.deadline = min(wait.deadline, monotonic() + LINGER)

    def _wait_for_head(self, conn: Any, received: bytes) -> None:
        conn.sock.setblocking(False)
        self._waiting[conn] = _Wait(monotonic() + (self.cfg.keepalive if self.alive else LINGER))
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if received:
            self._take(conn, self._waiting[conn], received)

    def _receive(self, conn: Any, sock: socket.socket) -> None:
        if (wait := self._waiting.get(conn)) is None:
            return
        try:
            data = sock.recv(16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
        elif not wait.closing:
            self._take(conn, wait, data)

    def _take(self, conn: Any, wait: _Wait, data: bytes) -> None:
        if not wait.received:
            wait.deadline = monotonic() + _HEAD
        searched = max(0, len(wait.received) - 3)
        wait.received += data
        # RFC 9112 §2.2: an empty line before a request is no head
        if wait.received[:2] == b"\r\n":
            searched = 0
            wait.received = wait.received.lstrip(b"\r\n")
        if b"\r\n\r\n" in wait.received[searched:]:
            self._stop_watching(conn)
            conn.data_ready = True
            conn.init()
            conn.parser.unreader.unread(bytes(wait.received))
            super().enqueue_req(conn)
        elif len(wait.received) > _MAX_HEAD:
            self._stop_watching(conn)
            _refuse(conn.sock, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            self._close(conn)

    def _close(self, conn: Any) -> None:
        """Say that no more will come, and close when the client has; gunicorn would wait for it with all others."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self._drop(conn)
            return
        self._waiting[conn] = _Wait(monotonic() + LINGER, closing=True)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))

    def _drop(self, conn: Any) -> None:
        self._stop_watching(conn)
        conn.close()
        self.nr_conns -= 1

    def _stop_watching(self, conn: Any) -> None:
        self._waiting.pop(conn, None)
        with suppress(KeyError, ValueError):  # never watched, or closed meanwhile
            self.poller.unregister(conn.sock)


def _refuse(sock: socket.socket, status: HTTPStatus) -> None:
    body = json.dumps({"error": "invalid_request", "error_description": f"{status.phrase}."})
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError):  # the client has gone
        sock.send((head + body).encode())
