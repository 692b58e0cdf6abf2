"""What a worker knows of a connection, and what may be asked of its socket without waiting for the client."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from authserver.http_request import Head, Incoming
from authserver.wsgi import Answer, refusal


@dataclass(eq=False, repr=False, slots=True)
class Wait:
    """What a connection waits for, until `deadline` (monotonic).

    A whole request, a thread's answer to one, or that the client reads the rest of an answer, `unsent`. `rest` is what
    it has sent behind the request that is answered.
    """

    deadline: float
    incoming: Incoming = field(default_factory=Incoming)
    begun: float | None = None
    held: int = 0
    rest: bytes = b""
    unsent: bytes = b""
    watched: bool = False
    closing: bool = False

    def begin_anew(self, deadline: float) -> None:
        """Wait for the next request."""
        self.deadline, self.begun, self.incoming = deadline, None, Incoming()


@dataclass(eq=False, repr=False, slots=True)
class Exchange:
    """A request that has a thread, and the answer to it, which is held until what is in `held_for` was called."""

    conn: Any
    wait: Wait
    head: Head
    body: bytes
    answer: Answer
    environ: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    held_for: list[Callable[[], None]] = field(default_factory=list)
    data: bytes = b""
    stays_open: bool = False

    def encode(self, *, stays_open: bool) -> None:
        """Make the bytes of the answer. Raises ValueError."""
        self.data, self.stays_open = self.answer.encoded(stays_open=stays_open), stays_open

    def fail(self, status: HTTPStatus) -> None:
        """Answer so instead."""
        head, end, body = refusal(status).partition(b"\r\n\r\n")
        if self.head.method == "HEAD":  # a proxy would take the body for the next answer
            body = b""
        self.data, self.stays_open = head + end + body, False
        self.answer.status_code, self.answer.sent = status, len(body)


def takes_answers(sock: socket.socket) -> bool:
    """Whether the kernel has room for an answer; no work is done for a client that reads none."""
    return is_ready(sock, select.POLLOUT)


def is_ready(sock: socket.socket, event: int) -> bool:
    """Whether an event of `select.poll` is there now."""
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(0))


def send(sock: socket.socket, data: bytes) -> bytes:
    """Send what the kernel has room for, and give the rest: who waited for more would wait for the client."""
    try:
        sent = sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    return data[sent:]
