"""gunicorn's threaded worker, made safe against clients that hold on to threads, and gentle to clients at a stop.

gunicorn gives a connection a thread and then waits without limit for the rest of the request; a few clients that
send half a request each keep all threads. Here the main thread collects requests, and only a whole one gets a thread,
which reads it from memory: there is nothing of the client's that a thread could wait for.
"""

from __future__ import annotations

import errno
import json
import logging
import select
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

from gunicorn.http import errors, get_parser
from gunicorn.workers import gthread

from authserver.http_framing import Incoming, Refused

_log = logging.getLogger("authserver.worker")

# An idle connection on which a client may just have sent a request is left open this long at a stop, and one that
# was told to close this long for the client to read the last answer; in seconds.
_LINGER = 1.0
# Half a head has this long to become a whole one, in seconds: clients send it at once.
_HEAD_TIMEOUT = 5.0
_CHUNK = 16384
# All requests that are not whole together may hold this much, in bytes.
_MAX_HELD = 16 * 1024 * 1024

_STATUS = {
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}


@dataclass(eq=False, slots=True)
class _Wait:
    """What a connection that has no thread waits for, until `deadline` (monotonic)."""

    deadline: float
    incoming: Incoming = field(default_factory=Incoming)
    begun: float | None = None
    held: int = 0
    closing: bool = False


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """See the module. `request_timeout` is set from the settings by the gunicorn configuration."""

    request_timeout = 15.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The main thread's own. First the connection that has been the longest without a whole request.
        self._waiting: dict[Any, _Wait] = {}
        self._rests: dict[Any, bytes] = {}
        self._held = 0
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
        """Accept a connection; where there is no room for one more, close another instead of dying."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            _log.error("out of file descriptors")
            self._drop_longest_waiting()

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
        rest = self._rests.pop(conn)
        if fs.exception() is None and fs.result() is True:
            # Also at a stop: a client that was not told to close may be sending its next request.
            self._await_request(conn, rest)
        else:
            self._close(conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether the connection can be used again: the parser must agree on where the request ended."""
        return keepalive and bool(conn.parser.finish_body()) and not conn.parser.unreader.take_buffered()

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, exc: BaseException) -> None:
        """Answer what is not HTTP, in the shape of all refusals.

        gunicorn would log and return its text, which quotes the request, and with it a secret in the wrong place.
        """
        known = isinstance(exc, (errors.ParseException, errors.ConfigurationProblem))
        status = _STATUS.get(type(exc), HTTPStatus.BAD_REQUEST) if known else HTTPStatus.INTERNAL_SERVER_ERROR
        _log.log(
            logging.INFO if known else logging.CRITICAL, "answered %d to a bad request: %s", status, type(exc).__name__
        )
        _send_refusal(client, status)

    def murder_pending(self) -> None:
        """Cut what is over its time. Called in the main thread after each event, and at least about once a second."""
        now = time.monotonic()
        for conn, wait in [(conn, wait) for conn, wait in self._waiting.items() if wait.deadline < now]:
            if wait.begun is not None:
                _log.warning("request over its time limit, connection cut")
            self._drop(conn)
        with self._busy_lock:
            late = [conn for conn, deadline in self._busy.items() if deadline < now]
        for conn in late:
            _log.warning("request over its time limit, connection cut")
            with suppress(OSError):  # it was closed meanwhile
                conn.sock.shutdown(socket.SHUT_RDWR)
        if self.nr_conns >= self.worker_connections:
            self._drop_longest_waiting()

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
            if wait.begun is None:
                wait.deadline = min(wait.deadline, leave)

    # Connections without a thread

    def _await_request(self, conn: Any, received: bytes) -> None:
        conn.sock.setblocking(False)
        wait = _Wait(time.monotonic() + (self.cfg.keepalive if self.alive else _LINGER))
        self._waiting[conn] = wait
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if received:
            self._take(conn, wait, received)

    def _receive(self, conn: Any, sock: socket.socket) -> None:
        """Read what has come, and pass the request on when it is whole."""
        if (wait := self._waiting.get(conn)) is None:
            return  # it was dropped for another that had something to say at the same moment
        try:
            data = sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        if not data and wait.begun is not None:
            self._refuse(conn, HTTPStatus.BAD_REQUEST)
        elif not data:
            self._drop(conn)
        elif not wait.closing:
            self._take(conn, wait, data)

    def _take(self, conn: Any, wait: _Wait, data: bytes) -> None:
        if wait.begun is None:
            wait.begun = time.monotonic()
        wait.incoming.add(data)
        wait.held += len(data)
        self._held += len(data)
        try:
            whole = wait.incoming.take()
        except Refused as refusal:
            self._refuse(conn, refusal.status)
            return
        wait.deadline = wait.begun + (
            min(self.request_timeout, _HEAD_TIMEOUT) if wait.incoming.head is None else self.request_timeout
        )
        if whole is not None:
            self._to_thread(conn, *whole)
        elif wait.incoming.must_be_told_to_go_on():
            with suppress(OSError):  # then it will not send the rest
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._held > _MAX_HELD:
            self._drop_longest_waiting(holding=True)

    def _to_thread(self, conn: Any, request: bytes, rest: bytes) -> None:
        if not _takes_answers(conn.sock):
            _log.warning("a client sends requests and does not read the answers, connection cut")
            self._drop(conn)
            return
        self._stop_watching(conn)
        self._rests[conn] = rest
        conn.parser = get_parser(self.cfg, [request], conn.client)
        conn.initialized = conn.data_ready = True
        super().enqueue_req(conn)

    def _refuse(self, conn: Any, status: HTTPStatus) -> None:
        _log.info("answered %d to what is no request", status)
        self._stop_watching(conn)
        _send_refusal(conn.sock, status)
        self._close(conn)

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

    def _drop_longest_waiting(self, *, holding: bool = False) -> None:
        waiting = (conn for conn, wait in self._waiting.items() if wait.held or not holding)
        if (conn := next(waiting, None)) is not None:
            self._drop(conn)

    def _stop_watching(self, conn: Any) -> None:
        with suppress(KeyError, ValueError):  # never watched, or closed meanwhile
            self.poller.unregister(conn.sock)
        if wait := self._waiting.pop(conn, None):
            self._held -= wait.held


def _takes_answers(sock: socket.socket) -> bool:
    """Whether the kernel has room for an answer; a thread would wait for a client that reads none."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))


def _send_refusal(sock: socket.socket, status: HTTPStatus) -> None:
    code = "server_error" if status is HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request"
    body = json.dumps({"error": code, "error_description": f"{status.phrase}."})
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError):  # the client has gone
        sock.send((head + body).encode())
