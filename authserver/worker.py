"""gunicorn's threaded worker, made safe against clients that hold on to threads, and gentle to clients at a stop.

gunicorn gives a connection a thread and then waits without limit for the rest of the request; a few clients that
send half a request each keep all threads. Here only a whole request gets a thread, and there is nothing of the client's
that a thread could wait for. Of gunicorn this is the processes, the sockets and the poller; what is on a connection is
read and written by `http_request` and `wsgi`.

The thread that has the watch (see `watch`) collects requests and answers them itself; before it waits for long, for the
database or another host, it passes the watch on. A connection goes on being watched while its request is answered, so
that nothing has to be told to anyone afterwards; only a client that sends more before it has its answer is not looked
at until it has.

Where several requests are at hand, the application may have an answer held until one act, such as a wait for a disk,
has been done for all that are held (`wsgi.HOLD_FOR`).
"""

from __future__ import annotations

import errno
import logging
import math
import queue
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

from gunicorn.workers import gthread

from authserver.connection import Exchange, Wait, is_ready, send, takes_answers
from authserver.connection_counts import ConnectionCounts
from authserver.http_request import Head, Refused
from authserver.watch import Watch
from authserver.wsgi import HOLD_FOR, Answer, environ_of, refusal

_log = logging.getLogger("authserver.worker")

# An idle connection on which a client may just have sent a request is left open this long at a stop, and one that
# was told to close this long for the client to read the last answer; in seconds.
_LINGER = 1.0
# Half a head has this long to become a whole one, in seconds: clients send it at once.
_HEAD_TIMEOUT = 5.0
# How often, at the most, it is looked for what is over its time; in seconds.
_SWEEP = 0.1
# An answer that waits for others to wait with it waits no longer than this, in seconds.
_HOLD = 0.01
# So long a worker leaves a new connection to one that has fewer, in seconds.
_LEAVE = 0.001
_CHUNK = 16384
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# All requests that are not whole, and answers that are not sent whole, together may hold this much, in bytes.
_MAX_HELD = 16 * 1024 * 1024


class _ThreadsOwn(threading.local):
    """What a thread holds itself. Only by its own connection can it be sure that the server lost nothing meanwhile."""

    def __init__(self) -> None:
        self.held: list[Exchange] = []


class Worker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """See the module. `request_timeout` and `noted_signals` are set by the gunicorn configuration."""

    cfg: Any
    alive: bool
    sockets: list[socket.socket]
    request_timeout = 15.0
    noted_signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    _counts = ConnectionCounts()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._place = self._counts.take_place()  # this is still the parent
        self._shares = not self.cfg.reuse_port  # else nobody else can take what comes to this worker's own sockets
        self._listens = False
        self._leaves_until: float | None = None
        # A connection is in one of these: without a thread (first the one that has been the longest without a whole
        # request), or with one. Threads move them back; all else, and the poller, is for whoever has the watch.
        self._waiting: dict[Any, Wait] = {}
        self._busy: dict[Any, Wait] = {}
        self._lock = threading.Lock()
        self._this_thread = _ThreadsOwn()
        self._keepalive = self.cfg.keepalive  # gunicorn takes long to look a setting up
        self._held = 0
        self._next_sweep = 0.0

    # What gunicorn calls

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker cannot do: bytes are read before gunicorn could decrypt them."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            sys.exit("authserver: TLS is for the proxy in front to end; start gunicorn without certfile and keyfile")

    def get_thread_pool(self) -> Watch:
        """The threads that watch and answer."""
        interrupt = partial(self.method_queue.defer, lambda: None)
        return Watch(self.cfg.threads, self._look, self._answer, interrupt, self._settle)

    def init_signals(self) -> None:
        """Take signals, and obey a stop that came while this process had its parent's handlers, which only note it."""
        super().init_signals()
        with suppress(queue.Empty):
            while True:
                noted = self.noted_signals.get_nowait()
                if noted in _STOPS:
                    self.handle_exit(noted, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the stop that a signal asks for."""
        super().handle_exit(sig, frame)
        self.tpool.wake_main()

    def is_parent_alive(self) -> bool:
        """Begin a stop when nobody is left who could tell this worker to: it would hold the address for long."""
        if super().is_parent_alive():
            return True
        self.alive = False
        return False

    def give_back_place(self) -> None:
        """For the parent to call when this worker has ended."""
        self._counts.give_back(self._place)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take connections, or none. At a stop, take what has already connected, then refuse new ones at once.

        gunicorn keeps the listening socket open while it waits for the last requests: clients would go on to
        connect and be reset in the end.
        """
        alive = self.alive  # looked at once: a thread that answers the last request may change it
        self._accepting = enabled and alive
        if alive:
            self.method_queue.defer(self._mind_listeners)
            return
        done = threading.Event()
        self.method_queue.defer(self._stop_listening, done)
        while not done.is_set():
            self.wait_for_and_dispatch_events(_LINGER)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, unless another worker has fewer and has not yet had the time to take it."""
        if not self._listens:
            return  # it was seen together with what made this worker stop listening
        if self._shares and self._place.another_has_fewer():
            self._leaves_until = time.monotonic() + _LEAVE
            self._mind_listeners()
        else:
            self._take_connection(listener)

    def enqueue_req(self, conn: Any) -> None:
        """Take a new connection. It gets a thread when a request has arrived."""
        self._await_request(conn, Wait(time.monotonic() + self._keepalive))
        self._receive(conn, conn.sock)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait while others watch. At a stop gunicorn would wait for an event without looking at the time."""
        self.tpool.stand_in(self._at_a_stop_short(timeout))

    def _look(self, timeout: float) -> None:
        """Wait for events and take what they bring; then cut what is over its time. Called by who has the watch."""
        timeout = self._at_a_stop_short(timeout)
        super().wait_for_and_dispatch_events(timeout if self._leaves_until is None else min(timeout, _LEAVE))
        now = time.monotonic()
        if self._leaves_until is not None and now >= self._leaves_until:
            self._take_what_was_left()
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            self._cut_late(now)
        if self.nr_conns >= self.worker_connections:
            self._drop_longest_waiting()

    def _cut_late(self, now: float) -> None:
        with self._lock:
            waiting = [(conn, wait) for conn, wait in self._waiting.items() if wait.deadline < now]
            busy = [(conn, wait) for conn, wait in self._busy.items() if wait.deadline < now]
            for conn, wait in busy:
                wait.deadline, wait.closing = math.inf, True
                with suppress(OSError):  # the client has gone
                    conn.sock.shutdown(socket.SHUT_RDWR)
        for conn, _ in waiting:
            self._drop(conn)
        for _ in range(len(busy) + sum(wait.begun is not None for _, wait in waiting)):
            _log.warning("request over its time limit, connection cut")

    def _at_a_stop_short(self, timeout: float) -> float:
        return timeout if self.alive else min(timeout, 0.1)

    # Listening sockets

    def _mind_listeners(self) -> None:
        """Watch the listening sockets while this worker takes connections."""
        listens = self._accepting and self._leaves_until is None
        for listener in self.sockets if listens != self._listens else ():
            if listens:
                listener.setblocking(False)
                self.poller.register(listener, selectors.EVENT_READ, self.accept)
            else:
                self.poller.unregister(listener)
        self._listens = listens
        self._tell_count()

    def _take_what_was_left(self) -> None:
        self._leaves_until = None
        self._mind_listeners()
        for listener in self.sockets if self._listens else ():
            if is_ready(listener, select.POLLIN):
                self._place.left_in_vain()
                self._take_connection(listener)

    def _take_connection(self, listener: socket.socket) -> bool:
        """Accept one; where there is no room for one more, close another instead of dying, and give False."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # The kernel says so also where there is no connection, such as when another worker has taken it.
            if is_ready(listener, select.POLLIN):
                _log.error("out of file descriptors")
                self._drop_longest_waiting()
            return False
        self._tell_count()
        return True

    def _tell_count(self) -> None:
        self._place.tell(self.nr_conns if self._accepting else None)

    def _stop_listening(self, done: threading.Event) -> None:
        self._mind_listeners()
        for listener in self.sockets:
            listener.setblocking(False)
            # Not until there is no connection more: a client that has gone again is one that others wait behind.
            while is_ready(listener, select.POLLIN) and self._take_connection(listener):
                pass
            listener.close()
        self.sockets = []  # gunicorn may tell this worker twice
        leave = time.monotonic() + _LINGER
        with self._lock:
            for wait in self._waiting.values():
                if wait.begun is None:
                    wait.deadline = min(wait.deadline, leave)
        done.set()
        self.tpool.wake_main()

    # Connections with a thread

    def _answer(self, exchange: Exchange) -> None:
        """Answer one request, or hold the answer. Runs in a thread."""
        with self._lock:
            cut = exchange.wait.closing
        try:
            # Nobody waits any more for the answer to what was cut before its turn came.
            if not cut:
                self._run(exchange)
        except BaseException as error:  # noqa: BLE001 - say, one that is meant to end the process: not from here
            _log.critical("%s in a request", type(error).__name__)
            cut = True
        if cut:
            self._release(exchange)
        elif exchange.held_for:
            self._this_thread.held.append(exchange)
        else:
            self._send_answer(exchange)
        held = self._this_thread.held
        if held and held[0].began + _HOLD < time.monotonic():
            self._settle()

    def _run(self, exchange: Exchange) -> None:
        """Let the application make the answer."""
        head, conn, answer = exchange.head, exchange.conn, exchange.answer
        exchange.began = time.monotonic()
        self._end_at_last_request()
        exchange.environ = environ_of(head, exchange.body, conn.client, conn.server)
        # One that is alone has nobody to wait together with.
        if self._this_thread.held or self.tpool.has_work:
            exchange.environ[HOLD_FOR] = exchange.held_for.append
        try:
            answer.take(self.wsgi(exchange.environ, answer.start_response))
            exchange.encode(stays_open=bool(head.stays_open and self._keepalive))
        except Exception as error:  # noqa: BLE001 - whatever the application does, the client gets an answer
            _log.critical("answered 500: %s", type(error).__name__)
            exchange.fail(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _settle(self) -> bool:
        """Wait, once for all, for what this thread's answers are held for, and send them. For who has no work."""
        held, self._this_thread.held = self._this_thread.held, []
        if not held:
            return False
        try:
            # There is one application, and what it named first in this thread waits for all that came after.
            held[0].held_for[0]()
        except Exception as error:  # noqa: BLE001 - whatever it is, these answers must not be given
            _log.error("answered 503 to %d: %s", len(held), error)
            for exchange in held:
                exchange.fail(HTTPStatus.SERVICE_UNAVAILABLE)
        for exchange in held:
            self._send_answer(exchange)
        return True

    def _send_answer(self, exchange: Exchange) -> None:
        """Send it in one piece, and go on with the connection."""
        if exchange.stays_open and not self.alive:  # a stop has begun meanwhile
            exchange.encode(stays_open=False)
        try:
            exchange.wait.unsent = send(exchange.conn.sock, exchange.data)
        except OSError:  # the client has gone
            exchange.stays_open = False
        took = timedelta(seconds=time.monotonic() - exchange.began)
        self.log.access(exchange.answer, None, exchange.environ, took)
        self._release(exchange)

    def _release(self, exchange: Exchange) -> None:
        conn, wait, stays_open = exchange.conn, exchange.wait, exchange.stays_open
        with self._lock:
            del self._busy[conn]
            if stays_open and wait.watched and not wait.unsent and not wait.rest:
                self._begin_anew(wait)
                self._waiting[conn] = wait
                return
        self.method_queue.defer(self._take_back, conn, wait, stays_open)

    def _end_at_last_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            _log.info("this worker has answered as many requests as it may, and ends")
            self.alive = False
            self.tpool.wake_main()

    def _begin_anew(self, wait: Wait) -> None:
        # Also at a stop: a client that was not told to close may be sending its next request.
        wait.begin_anew(time.monotonic() + (self._keepalive if self.alive else _LINGER))

    # Connections without a thread

    def _await_request(self, conn: Any, wait: Wait) -> None:
        self._await(conn, wait, selectors.EVENT_READ, partial(self._receive, conn))

    def _await(self, conn: Any, wait: Wait, event: int, callback: Callable[[socket.socket], None]) -> None:
        with self._lock:
            self._waiting[conn] = wait
        if wait.watched:
            return
        wait.watched = True
        self.poller.register(conn.sock, event, callback)

    def _stop_watching(self, conn: Any, wait: Wait) -> None:
        if wait.watched:
            wait.watched = False
            self.poller.unregister(conn.sock)

    def _receive(self, conn: Any, sock: socket.socket) -> None:
        """Read what has come, and pass the request on when it is whole."""
        with self._lock:
            wait = self._waiting.get(conn)
            if busy := self._busy.get(conn):
                # It is not kept for its next request until it has the answer to this one.
                busy.watched = False
        if busy:
            self.poller.unregister(sock)
        if wait is None or wait.unsent:
            return  # or something else happened to it at the same moment
        try:
            data = sock.recv(_CHUNK, socket.MSG_DONTWAIT)
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

    def _take(self, conn: Any, wait: Wait, data: bytes) -> None:
        if wait.begun is None:
            wait.begun = time.monotonic()
        wait.incoming.add(data)
        wait.held += len(data)
        self._held += len(data)
        try:
            whole = wait.incoming.take()
        except Refused as error:
            self._refuse(conn, error.status)
            return
        wait.deadline = wait.begun + (
            min(self.request_timeout, _HEAD_TIMEOUT) if wait.incoming.head is None else self.request_timeout
        )
        if whole is not None:
            self._to_thread(conn, wait, *whole)
        elif wait.incoming.must_be_told_to_go_on():
            with suppress(OSError):  # then it will not send the rest
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)
        self._bound_what_is_held()

    def _to_thread(self, conn: Any, wait: Wait, head: Head, body: bytes, rest: bytes) -> None:
        if not takes_answers(conn.sock):
            _log.warning("a client sends requests and does not read the answers, connection cut")
            self._drop(conn)
            return
        self._held -= wait.held
        wait.held, wait.rest = 0, rest
        wait.deadline = time.monotonic() + self.request_timeout
        with self._lock:
            del self._waiting[conn]
            self._busy[conn] = wait
        self.tpool.put(Exchange(conn, wait, head, body, Answer(head)))

    def _take_back(self, conn: Any, wait: Wait, stays_open: bool) -> None:
        if wait.unsent:
            self._await_room(conn, wait, stays_open)
            return
        if not stays_open:
            self._close(conn, wait)
            return
        self._begin_anew(wait)
        self._await_request(conn, wait)
        if rest := wait.rest:
            wait.rest = b""
            self._take(conn, wait, rest)

    def _await_room(self, conn: Any, wait: Wait, stays_open: bool) -> None:
        """Go on sending when the client has read, within the time that its request has."""
        self._stop_watching(conn, wait)
        wait.held = len(wait.unsent)
        self._held += wait.held
        self._await(conn, wait, selectors.EVENT_WRITE, partial(self._send_on, conn, stays_open))
        self._bound_what_is_held()

    def _send_on(self, conn: Any, stays_open: bool, sock: socket.socket) -> None:
        with self._lock:
            wait = self._waiting.get(conn)
        if wait is None:
            return  # as in _receive
        try:
            wait.unsent = send(sock, wait.unsent)
        except OSError:
            self._drop(conn)
            return
        if wait.unsent:
            return
        self._forget(conn)
        self._stop_watching(conn, wait)
        self._take_back(conn, wait, stays_open)

    def _refuse(self, conn: Any, status: HTTPStatus) -> None:
        _log.info("answered %d to what is no request", status)
        wait = self._forget(conn)
        with suppress(OSError):  # the client has gone
            conn.sock.send(refusal(status), socket.MSG_DONTWAIT)
        self._close(conn, wait)

    def _close(self, conn: Any, wait: Wait) -> None:
        """Say that no more will come, and close when the client has.

        Closed at once, with bytes unread, the kernel would reset the connection and the last answer might be lost;
        gunicorn waits for the client here, and all other clients with it.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(conn, wait)
            return
        wait.deadline, wait.closing, wait.begun = time.monotonic() + _LINGER, True, None
        self._await_request(conn, wait)

    def _drop(self, conn: Any) -> None:
        self._end(conn, self._forget(conn))

    def _end(self, conn: Any, wait: Wait) -> None:
        self._stop_watching(conn, wait)
        conn.close()
        self.nr_conns -= 1
        self._tell_count()

    def _bound_what_is_held(self) -> None:
        if self._held > _MAX_HELD:
            self._drop_longest_waiting(holding=True)

    def _drop_longest_waiting(self, *, holding: bool = False) -> None:
        with self._lock:
            waiting = (conn for conn, wait in self._waiting.items() if wait.held or not holding)
            longest = next(waiting, None)
        if longest is not None:
            self._drop(longest)

    def _forget(self, conn: Any) -> Wait:
        with self._lock:
            wait = self._waiting.pop(conn)
        self._held -= wait.held
        wait.held = 0
        return wait
