"""A deadline for a whole HTTP exchange, kept even against a server that sends a byte now and then.

The timeouts of requests start anew with every byte received. Here the timeout of each single `recv` is what
is left of the deadline, for the status line and the fields as for the body.
"""

import http.client
import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point of a monotonic clock, in seconds."""

    at: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Self:
        """Set a deadline `seconds` from now."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left; zero or less once it has passed."""
        return self.at - self.clock()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Bound what this thread receives inside the block through a `DeadlineAdapter`."""
        previous = _current.set(self)
        try:
            yield
        finally:
            _current.reset(previous)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class _Receiver(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._patience = sock.gettimeout()
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline for the whole call has passed")
        self._sock.settimeout(remaining if self._patience is None else min(self._patience, remaining))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        if (deadline := _current.get()) is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_Receiver(sock, deadline))


class _Connection(HTTPConnection):
    response_class = _Response


class _TLSConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class DeadlineAdapter(HTTPAdapter):
    """A requests transport that obeys `Deadline.applied()`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
