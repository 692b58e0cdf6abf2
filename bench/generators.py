"""Generate load from a process of its own: by wrk, or by Python where there is no wrk."""

from __future__ import annotations

import json
import multiprocessing
import re
import selectors
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.loads import Load

_SCRIPT = Path(__file__).with_name("load.lua")
_STATUS_OK = b"HTTP/1.1 200"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Failed(Exception):
    """A measurement is worth nothing: some answers were not what they had to be."""


@dataclass(frozen=True)
class Outcome:
    """What came back: `bytes` of all answers, latencies in milliseconds."""

    requests: int
    seconds: float
    bytes: int
    p50: float
    p99: float


Generator = Callable[[Load, int, float], Outcome]


def wrk(load: Load, connections: int, seconds: float) -> Outcome:
    """Send by wrk, on so many connections for so long. Raises Failed."""
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        file.write(b"\0".join(load.requests))
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
        command += ["-s", str(_SCRIPT), load.url, "--", file.name, "once" if load.once else "cycle"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - wrk and numbers
    found = re.search(r"^JSON (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise Failed(f"wrk: {done.stdout}{done.stderr}")
    printed = json.loads(found[1])
    if printed.pop("failures"):
        raise Failed(f"wrk: {done.stdout}")
    if printed.pop("exhausted"):
        raise Failed(f"{len(load.requests)} requests that are each good once were too few")
    return Outcome(**printed)


def python(load: Load, connections: int, seconds: float) -> Outcome:
    """Send by a process of Python: slower than wrk, and so it takes more from the server. Raises Failed."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_generate, (load, connections, seconds))


def _generate(load: Load, connections: int, seconds: float) -> Outcome:
    parts = urlsplit(load.url)
    sent, received, latencies = 0, 0, []
    sent_at: dict[socket.socket, float] = {}

    def send(sock: socket.socket) -> None:
        nonlocal sent
        if load.once and sent == len(load.requests):
            raise Failed(f"{sent} requests that are each good once were too few")
        sent_at[sock] = time.monotonic()
        sock.sendall(load.requests[sent % len(load.requests)])
        sent += 1

    with selectors.DefaultSelector() as selector:
        start = time.monotonic()
        for _ in range(connections):
            sock = socket.create_connection((parts.hostname, parts.port or 80))
            selector.register(sock, selectors.EVENT_READ)
            send(sock)
        while (now := time.monotonic()) < start + seconds:
            for key, _ in selector.select(1):
                sock = key.fileobj  # type: ignore[assignment] # what was registered
                received += _read_answer(sock)
                latencies.append((time.monotonic() - sent_at[sock]) * 1000)
                send(sock)
        for sock in sent_at:
            sock.close()
    cuts = statistics.quantiles(latencies, n=100)
    return Outcome(len(latencies), now - start, received, cuts[49], cuts[98])


def _read_answer(sock: socket.socket) -> int:
    received = sock.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not received.startswith(_STATUS_OK) or length is None:
        raise Failed(received.decode(errors="replace"))
    missing = int(length[1]) - len(body)
    read = len(received)
    while missing > 0:
        more = len(sock.recv(65536))
        missing, read = missing - more, read + more
    return read
