"""Metrics for Prometheus: one sum over all worker processes, each of which keeps its numbers in a shared directory.

PROMETHEUS_MULTIPROC_DIR names the directory, and must be set before this module is imported. What happens in a request
is only put in a queue: `flush`, about once a second and before a scrape, adds it up and writes the sums.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from authserver.observe.events import REFUSED, TOKEN_INTROSPECTED, TOKEN_ISSUED, TOKEN_REVOKED
from authserver.observe.reasons import reason_label

# The route's template, the HTTP method, the status, the OAuth error code and how the client authenticated.
Request = tuple[str | None, str, int, str, str]

T = TypeVar("T")

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_THROTTLED = 429
# Far more than come between two flushes; should there be none, the oldest go.
_LONGEST_QUEUE = 200_000
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROUND_TRIP_SECONDS = (0.0005, *_REQUEST_SECONDS)


class Batches:
    """Observations of a histogram, many at once: one by one they cost more than all the rest of the counting."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        # prometheus_client has no public way; its file format is what makes these what they are.
        self._buckets, self._sum = histogram._buckets, histogram._sum  # noqa: SLF001

    def add(self, seconds: Sequence[float]) -> None:
        """Add them."""
        if seconds:
            for at, times in Tally(bisect_left(self._bounds, each) for each in seconds).items():
                self._buckets[at].inc(times)
            self._sum.inc(sum(seconds))


def _taken(queue: deque[T]) -> list[T]:
    """All that was in a queue to which others go on adding."""
    return [queue.popleft() for _ in range(len(queue))]


def _grouped(queue: deque[tuple[Request, float]]) -> Iterable[tuple[Request, Sequence[float]]]:
    groups: dict[Request, list[float]] = {}
    for request, seconds in _taken(queue):
        groups.setdefault(request, []).append(seconds)
    return groups.items()


class Metrics:
    """What this process measures."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._requests = Counter(
            "authserver_requests",
            "Requests answered.",
            ("endpoint", "method", "status", "error", "auth_method"),
            registry=registry,
        )
        self._seconds = Histogram(
            "authserver_request_duration_seconds",
            "Time from the whole request to its answer.",
            ("endpoint",),
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._throttled = Counter("authserver_throttled", "Requests refused with 429.", registry=registry)
        self._round_trips = Histogram(
            "authserver_database_round_trip_seconds",
            "Time for one statement, from this process to PostgreSQL and back.",
            buckets=_ROUND_TRIP_SECONDS,
            registry=registry,
        )
        self._issued = Counter("authserver_tokens_issued", "Access tokens issued.", ("format",), registry=registry)
        self._revocations = Counter(
            "authserver_revocations",
            "Revocations that clients asked for.",
            registry=registry,
        )
        self._introspections = Counter(
            "authserver_introspections", "Introspections by authenticated callers.", ("active",), registry=registry
        )
        self._failures = Counter(
            "authserver_authentication_failures",
            "Requests without a good credential.",
            ("reason",),
            registry=registry,
        )
        self._connections = self._gauge(
            registry, "authserver_database_connections", "Database connections of the worker threads.", "state"
        )
        self._in_progress = self._gauge(registry, "authserver_requests_in_progress", "Requests that have a thread.")
        self._threads = self._gauge(registry, "authserver_worker_threads", "Threads that serve requests.")
        self._children: dict[Request, tuple[Callable[[float], None], Batches]] = {}
        self._by_endpoint: dict[str, Batches] = {}
        self._all_round_trips = Batches(self._round_trips, _ROUND_TRIP_SECONDS)
        self._busy: set[int] = set()
        self._watched: list[tuple[Callable[[], tuple[int, int]], int]] = []
        self._requests_seen: deque[tuple[Request, float]] = deque(maxlen=_LONGEST_QUEUE)
        self._round_trips_seen: deque[float] = deque(maxlen=_LONGEST_QUEUE)
        self._events_seen: deque[tuple[str, str | None]] = deque(maxlen=_LONGEST_QUEUE)
        self._flushing = threading.Lock()
        self.round_trip: Callable[[float], None] = self._round_trips_seen.append

    @staticmethod
    def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=registry, multiprocess_mode="livesum")

    def begin(self) -> None:
        """Note that this thread has a request."""
        self._busy.add(threading.get_ident())

    def end(self, request: Request, seconds: float) -> None:
        """Count this thread's request. All labels are ones that the server chose: no client can make more of them."""
        self._busy.discard(threading.get_ident())
        self._requests_seen.append((request, seconds))

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count an audit event."""
        if event == TOKEN_ISSUED:
            self._events_seen.append((event, fields["format"]))
        elif event == TOKEN_INTROSPECTED:
            self._events_seen.append((event, "true" if fields["active"] else "false"))
        elif event == REFUSED:
            self._events_seen.append((event, reason_label(fields["reason"])))
        elif event == TOKEN_REVOKED:
            self._events_seen.append((event, None))

    def flush(self) -> None:
        """Write what has been counted since the last time."""
        with self._flushing:
            for request, seconds in _grouped(self._requests_seen):
                self._count_requests(request, seconds)
            self._all_round_trips.add(_taken(self._round_trips_seen))
            for (event, label), times in Tally(_taken(self._events_seen)).items():
                self._counter(event, label).inc(times)

    def _count_requests(self, request: Request, seconds: Sequence[float]) -> None:
        found = self._children.get(request)
        if found is None:
            template, method, status, code, auth_method = request
            endpoint, known = template or "other", method if method in _METHODS else "other"
            counter = self._requests.labels(endpoint, known, str(status), code, auth_method)
            if endpoint not in self._by_endpoint:
                self._by_endpoint[endpoint] = Batches(self._seconds.labels(endpoint), _REQUEST_SECONDS)
            found = counter.inc, self._by_endpoint[endpoint]
            if known == method:
                self._children[request] = found
        found[0](len(seconds))
        found[1].add(seconds)
        if request[2] == _THROTTLED:
            self._throttled.inc(len(seconds))

    def _counter(self, event: str, label: str | None) -> Counter:
        if event == TOKEN_REVOKED:
            return self._revocations
        counters = {TOKEN_ISSUED: self._issued, TOKEN_INTROSPECTED: self._introspections, REFUSED: self._failures}
        return counters[event].labels(label)

    def watch(self, connections: Callable[[], tuple[int, int]], threads: int) -> None:
        """Sample from now on what `connections` says is open and in use."""
        self._watched.append((connections, threads))

    def sample(self) -> None:
        """Take what is measured now and then and not counted, and write what was counted."""
        self.flush()
        counts = [connections() for connections, _ in self._watched]
        self._connections.labels("open").set(sum(opened for opened, _ in counts))
        self._connections.labels("busy").set(sum(busy for _, busy in counts))
        self._in_progress.set(len(self._busy))
        self._threads.set(sum(threads for _, threads in self._watched))


@cache
def process_metrics() -> Metrics:
    """The one object of this process: what it writes to is this process's files."""
    return Metrics()


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(state: Iterable[Metric]) -> tuple[str, bytes]:
    """Content type and text: the sums over all processes, and `state`, which is alike for all of them."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # prometheus_client's own
    registry.register(_Once(list(state)))
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)
