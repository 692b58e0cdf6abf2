"""gunicorn's threaded worker, made safe against clients that hold on to threads, and gentle to clients at a stop.

gunicorn gives a connection a thread and then waits without limit for the rest of the request; a few clients that
send half a request each keep all threads. Here the main thread collects requests, and only a whole one gets a thread.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import selectors
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors
from gunicorn.workers import gthread

_log = logging.getLogger("authserver.worker")

# An idle connection on which a client may just have sent a request is left open this long at a stop, and one that
# was told to close this long for the client to read the last answer; in seconds.
_LINGER = 1.0
# What is left of a body that was refused unread has this long to be there; in seconds.
_UNREAD = 0.05
_CHUNK = 65536
# Larger ones go to a thread as soon as their head is there: it refuses them without reading on.
_MAX_BODY = 65536
_MAX_HEAD = 32768
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n")
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)")

_STATUS = {
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}


@dataclass(eq=False, slots=True)
class _Wait:
    """What a connection that has no thread waits for, until `deadline` (monotonic)."""

    deadline: float
    received: bytearray = field(default_factory=bytearray)
    closing: bool = False


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """See the module. `request_timeout` is set from the settings by the gunicorn configuration."""

    request_timeout = 15.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: dict[Any, _Wait] = {}  # the main thread's own; the longest idle first
        self._busy: dict[Any, float] = {}
        self._busy_lock = threading.Lock()

    # What gunicorn calls

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker cannot do: bytes are read before gunicorn could decrypt them."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            sys.exit("authserver: TLS is for the proxy in front to end; start gunicorn without certfile and keyfile")

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; where there is no room for one more, close one that is idle instead of dying."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            _log.error("out of file descriptors")
            self._drop_longest_idle()

    def enqueue_req(self, conn: Any) -> None:
        """Take a new connection. It gets a thread when a request has arrived."""
        self._await_request(conn, b"")
        self._receive(conn, conn.sock)

    def handle(self, conn: Any) -> Any:
        """Handle one request under the time limit. Runs in a thread."""
        with self._busy_lock:
            self._busy[conn] = time.monotonic() + self.request_timeout
        try:
            return super().handle(conn)
        finally:
            with self._busy_lock:
                self._busy.pop(conn, None)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Take a connection back from its thread: the client was told that it stays open, or that it closes."""
        if fs.exception() is None and fs.result() is True:
            # Also at a stop: a client that was not told to close may be sending its next request.
            self._await_request(conn, conn.parser.unreader.take_buffered())
        else:
            self._close(conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether the connection can be used again; gunicorn would wait seconds, in a thread, for an unread body."""
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + _UNREAD))

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, exc: BaseException) -> None:
        """Answer what is not HTTP, in the shape of all refusals.

        gunicorn would log and return its text, which quotes the request, and with it a secret in the wrong place.
        """
        known = isinstance(exc, (errors.ParseException, errors.ConfigurationProblem))
        status = _STATUS.get(type(exc), HTTPStatus.BAD_REQUEST) if known else HTTPStatus.INTERNAL_SERVER_ERROR
        _log.log(
            logging.INFO if known else logging.CRITICAL, "answered %d to a bad request: %s", status, type(exc).__name__
        )
        _refuse(client, status)

    def murder_pending(self) -> None:
        """Cut what is over its time. Called in the main thread after each event, and at least about once a second."""
        now = time.monotonic()
        for conn in [conn for conn, wait in self._waiting.items() if wait.deadline < now]:
            if self._waiting[conn].received:
                _log.warning("request over its time limit, connection cut")
            self._drop(conn)
        with self._busy_lock:
            late = [conn for conn, deadline in self._busy.items() if deadline < now]
        for conn in late:
            _log.warning("request over its time limit, connection cut")
            with suppress(OSError):  # it was closed meanwhile
                conn.sock.shutdown(socket.SHUT_RDWR)
        if self.nr_conns >= self.worker_connections:
            self._drop_longest_idle()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events. At a stop gunicorn would wait for one without looking at the time."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, 0.1))

    def set_accept_enabled(self, enabled: bool) -> None:
        """At a stop, take what has already connected, then refuse new connections at once.

        gunicorn keeps the listening socket open while it waits for the last requests: clients would go on to
        connect and be reset in the end.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            listener.setblocking(False)
            connections = -1
            while connections != self.nr_conns:
                connections = self.nr_conns
                self.accept(listener)
            listener.close()
        leave = time.monotonic() + _LINGER
        for wait in self._waiting.values():
            if not wait.received:
                wait.deadline = min(wait.deadline, leave)

    # Connections without a thread

    def _await_request(self, conn: Any, received: bytes) -> None:
        conn.sock.setblocking(False)
        now = time.monotonic()
        wait = _Wait(now + (self.cfg.keepalive if self.alive else _LINGER))
        self._waiting[conn] = wait
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if received:
            self._take(conn, wait, received)

    def _receive(self, conn: Any, sock: socket.socket) -> None:
        """Read what has come, and pass the request on when it is whole."""
        wait = self._waiting[conn]
        try:
            data = sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        if wait.closing:
            if not data:
                self._drop(conn)
        elif data:
            self._take(conn, wait, data)
        elif wait.received:
            self._to_thread(conn)  # it will find the request too short, and say so
        else:
            self._drop(conn)

    def _take(self, conn: Any, wait: _Wait, data: bytes) -> None:
        if not wait.received:
            wait.deadline = time.monotonic() + self.request_timeout
        wait.received += data
        if _is_whole(wait.received):
            self._to_thread(conn)
        elif _awaits_continue(wait.received):
            with suppress(OSError):  # then it will not send the rest
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif len(wait.received) > _MAX_HEAD and b"\r\n\r\n" not in wait.received:
            self._stop_watching(conn)
            _refuse(conn.sock, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            self._close(conn)

    def _to_thread(self, conn: Any) -> None:
        wait = self._stop_watching(conn)
        conn.data_ready = True
        conn.init()
        conn.parser.unreader.unread(bytes(wait.received))
        super().enqueue_req(conn)

    def _close(self, conn: Any) -> None:
        """Say that no more will come, and close when the client has.

        Closed at once, with bytes unread, the kernel would reset the connection and the last answer might be lost;
        gunicorn waits for the client here, and all other clients with it.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self._drop(conn)
            return
        self._waiting[conn] = _Wait(time.monotonic() + _LINGER, closing=True)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))

    def _drop(self, conn: Any) -> None:
        self._stop_watching(conn)
        conn.close()
        self.nr_conns -= 1

    def _drop_longest_idle(self) -> None:
        idle = next((conn for conn, wait in self._waiting.items() if wait.closing or not wait.received), None)
        if idle is not None:
            self._drop(idle)

    def _stop_watching(self, conn: Any) -> _Wait:
        with suppress(KeyError, ValueError):  # never watched, or closed meanwhile
            self.poller.unregister(conn.sock)
        return self._waiting.pop(conn, None) or _Wait(0.0)


def _is_whole(received: bytearray) -> bool:
    """Whether a thread could answer now. If in doubt it is true, and the thread reads the rest or refuses."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = received[: end + 2].lower()
    if b"\r\ntransfer-encoding:" in head:
        return b"\r\n\r\n" in received[end + 4 :]
    announced = _CONTENT_LENGTH.findall(head)
    if len(announced) != 1:
        return True
    length = int(announced[0])
    return length > _MAX_BODY or len(received) >= end + 4 + length


def _awaits_continue(received: bytearray) -> bool:
    """Whether the client sent its head and waits to be told to go on (RFC 9110 §10.1.1); it is asked only once."""
    end = received.find(b"\r\n\r\n")
    if end < 0 or (found := _EXPECT.search(received[: end + 2].lower())) is None:
        return False
    del received[found.start() : found.end()]
    return True


def _refuse(sock: socket.socket, status: HTTPStatus) -> None:
    code = "server_error" if status is HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request"
    body = json.dumps({"error": code, "error_description": f"{status.phrase}."})
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError):  # the client has gone
        sock.send((head + body).encode())
