"""gunicorn's threaded worker, made safe against clients that hold on to threads, and gentle to clients at a stop.

gunicorn gives a new connection a thread before a byte has come, and waits without limit for the rest of a request
that has begun. Here a connection gets a thread when there is something to read, and a request has a time limit.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from gunicorn.workers import gthread

_log = logging.getLogger("authserver.worker")

# An idle connection on which a client may just have sent a request is left open this long at a stop, in seconds.
_LINGER = 1.0


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """See the module. `request_timeout` is set from the settings by the gunicorn configuration."""

    request_timeout = 15.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy: dict[Any, float] = {}
        self._busy_lock = threading.Lock()

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection a thread if it has something to say, otherwise let the poller watch it."""
        if conn.initialized or conn.data_ready or _is_readable(conn.sock):
            super().enqueue_req(conn)
            return
        # gunicorn's own way to say "nothing came": it watches the connection and closes it when it stays idle.
        nothing_came: Future[Any] = Future()
        nothing_came.set_result(gthread._DEFER)  # noqa: SLF001 - the only name it has; a test holds it in place
        self.finish_request(conn, nothing_came)

    def handle(self, conn: Any) -> Any:
        """Handle one request under the time limit. Runs in a thread."""
        with self._busy_lock:
            self._busy[conn] = time.monotonic() + self.request_timeout
        try:
            return super().handle(conn)
        finally:
            with self._busy_lock:
                self._busy.pop(conn, None)

    def murder_pending(self) -> None:
        """Also cut requests that are over their time. Called about once a second in the main thread."""
        super().murder_pending()
        now = time.monotonic()
        with self._busy_lock:
            late = [conn for conn, deadline in self._busy.items() if deadline < now]
        for conn in late:
            _log.warning("request over its time limit, connection cut")
            _shut(conn.sock)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """At a stop, look after idle connections too: gunicorn would sleep until one of them stirs."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, _LINGER / 4))

    def set_accept_enabled(self, enabled: bool) -> None:
        """At a stop, take what has already connected, then refuse new connections at once.

        gunicorn keeps the listening socket open while it waits for the last requests: clients would go on to
        connect and be reset in the end.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            connections = -1
            while connections != self.nr_conns:
                connections = self.nr_conns
                self.accept(listener)
            listener.close()
        leave = time.monotonic() + _LINGER
        for conn in [*self.keepalived_conns, *self.pending_conns]:
            conn.timeout = min(conn.timeout, leave)


def _is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it was closed meanwhile
        sock.shutdown(socket.SHUT_RDWR)
