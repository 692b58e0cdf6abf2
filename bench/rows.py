"""What is measured: a row of the table is one kind of request to one server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped] # comes with the embedded PostgreSQL, without types

from bench.catalog import CEILING
from bench.generators import Failed
from bench.loads import Load

_SAMPLE = 20
_PATIENCE = 20  # seconds


@dataclass(frozen=True)
class Contender:
    """A running server; `pid` is its first process, `database` the one that it uses."""

    name: str
    pid: int
    database: str = ""

    def processes(self) -> list[psutil.Process]:
        """All its processes."""
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Those that answer requests."""
        first = psutil.Process(self.pid)
        return first.children(recursive=True) or [first]


@dataclass(frozen=True)
class Row:
    """One kind of request.

    `make` gives that many requests, new ones if each is good once; `right` tells whether the body of an answer is as it
    must be; `afterwards` is given what was sent.
    """

    key: str
    name: str
    contender: Contender
    url: str
    make: Callable[[int], Sequence[bytes]]
    right: Callable[[bytes], bool]
    once: bool = False
    afterwards: Callable[[Load], None] = lambda _load: None
    # An answer takes a noticeable part of a second of processor time: few connections are load enough.
    slow: bool = False

    def load(self, number: int) -> Load:
        """That many requests."""
        return Load(self.url, self.make(number), self.once)

    def check(self, load: Load) -> float:
        """Send some of the requests and look at the answers; give the mean size of one in bytes. Raises Failed."""
        step = max(1, len(load.requests) // _SAMPLE)
        sizes = [self.ask(request) for request in load.requests[::step]]
        return sum(sizes) / len(sizes)

    def ask(self, request: bytes) -> int:
        """Send one request and look at its answer; give its size in bytes. Raises Failed."""
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=_PATIENCE) as sock:
            sock.sendall(request)
            answer = b""
            try:
                while not _is_whole(answer) and (data := sock.recv(65536)):
                    answer += data
            except TimeoutError:
                raise Failed(f"{self.name}: no whole answer within {_PATIENCE} s: {answer!r}") from None
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or not self.right(body):
            raise Failed(f"{self.name}: {answer.decode(errors='replace')[:500]}")
        return len(answer)


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(end) and len(body) >= int(line.partition(b":")[2])
    return False


def choose(rows: Sequence[Row], patterns: str) -> list[Row]:
    """The rows whose key fits one of the patterns, which are separated by commas; the ceiling always.

    Raises ValueError for a pattern that fits none.
    """
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    for pattern in wanted:
        if not any(fnmatchcase(row.key, pattern) for row in rows):
            raise ValueError(f"no row is called {pattern}; there are: {', '.join(row.key for row in rows)}")
    return [row for row in rows if row.key == CEILING or any(fnmatchcase(row.key, each) for each in wanted)]
