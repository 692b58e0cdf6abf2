"""One row in one round: rate, latency, and what it took of the processors and of the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped] # comes with the embedded PostgreSQL, without types

from authserver.dev.stopping import interruptible
from bench.generators import Failed, Generator, Outcome
from bench.rows import Row

_WARM_UP = 1.0  # seconds
_WARM_UP_RATE = 10_000  # requests a second that no row exceeds while warming up, of those whose requests are good once
_LOOKED_AT = 20
_SLOW_CONNECTIONS = 4
_SLOW_SECONDS = 5.0
_SPARE = 1.6  # times as many requests as the rounds before needed in the same time
_AT_LEAST = 4000  # requests a second: a round may be much faster than the warm-up, which began cold
_TOLERANCE = 0.02  # by which answers may on average be longer or shorter than those that were looked at


@dataclass(frozen=True)
class Figures:
    """A row in one round: a second, in milliseconds, in microseconds of processor time for each request."""

    rate: float
    p50: float
    p99: float
    server_cpu: float
    postgres_cpu: float


class Rounds:
    """Measures rows in turn, round after round."""

    def __init__(
        self, generate: Generator, connections: int, seconds: float, postgres: Callable[[], Sequence[psutil.Process]]
    ) -> None:
        """`postgres` gives the database's processes."""
        self._generate, self._connections, self._seconds, self._postgres = generate, connections, seconds, postgres
        self._rates: dict[str, float] = {}

    def warm_up(self, row: Row) -> None:
        """Fill caches, prepare statements, and learn how many requests a round takes. Raises Failed."""
        with interruptible():
            self._warm_up(row)

    def measure(self, row: Row) -> Figures:
        """One round of one row. Raises Failed."""
        with interruptible():
            return self._measure(row)

    def _warm_up(self, row: Row) -> None:
        row.check(row.load(_LOOKED_AT))
        if row.slow:
            return
        load = row.load(int(_WARM_UP_RATE * _WARM_UP))
        self._rates[row.key] = _rate(self._generate(load, self._connections, _WARM_UP))

    def _measure(self, row: Row) -> Figures:
        # The warm-up began cold: the second and later rounds know better.
        needed = max(self._rates.get(row.key, 0) * _SPARE, _AT_LEAST) * self._seconds
        size = row.check(row.load(_LOOKED_AT))
        load = row.load(int(needed))
        before = self._used(row)
        if row.slow:
            outcome = self._generate(load, _SLOW_CONNECTIONS, max(self._seconds, _SLOW_SECONDS))
        else:
            outcome = self._generate(load, self._connections, self._seconds)
            self._rates[row.key] = max(self._rates[row.key], _rate(outcome))
        if not outcome.requests:
            raise Failed(f"{row.name}: no answer within {outcome.seconds:.0f} s")
        after = self._used(row)
        if abs(outcome.bytes / outcome.requests / size - 1) > _TOLERANCE:
            raise Failed(
                f"{row.name}: answers of {outcome.bytes / outcome.requests:.0f} bytes where {size:.0f} are right"
            )
        if not row.once:
            row.check(load)
        row.afterwards(load)
        server, postgres = ((now - then) / outcome.requests for now, then in zip(after, before, strict=True))
        return Figures(_rate(outcome), outcome.p50, outcome.p99, server * 1e6, postgres * 1e6)

    def _used(self, row: Row) -> tuple[float, float]:
        return (
            _cpu_seconds(row.contender.processes()),
            _cpu_seconds(self._postgres()),
        )


def _rate(outcome: Outcome) -> float:
    return outcome.requests / outcome.seconds


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def run(rows: Sequence[Row], rounds: Rounds, number: int, tell: Callable[[str], None]) -> list[dict[str, Figures]]:
    """The figures by round and row. Raises Failed."""
    for row in rows:
        rounds.warm_up(row)
    found = []
    for at in range(number):
        tell(f"round {at + 1} of {number}")
        found.append({row.key: rounds.measure(row) for row in rows})
    return found
