"""Metrics for Prometheus: one sum over all worker processes, each of which keeps its numbers in a shared directory.

PROMETHEUS_MULTIPROC_DIR names the directory, and must be set before this module is imported. A request costs three or
four writes to mapped memory; what they are written to is looked up once for each combination of labels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from authserver.observe.events import REFUSED, TOKEN_INTROSPECTED, TOKEN_ISSUED, TOKEN_REVOKED
from authserver.observe.reasons import reason_label

# The route's template, the HTTP method, the status, the OAuth error code and how the client authenticated.
Request = tuple[str | None, str, int, str, str]

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_THROTTLED = 429
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROUND_TRIP_SECONDS = (0.0005, *_REQUEST_SECONDS)


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
        self.round_trip: Callable[[float], None] = self._round_trips.observe
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
        self._children: dict[Request, tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._events: dict[tuple[str, Any], Callable[[], None]] = {}
        self._busy: set[int] = set()
        self._watched: list[tuple[Callable[[], tuple[int, int]], int]] = []

    @staticmethod
    def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=registry, multiprocess_mode="livesum")

    def begin(self) -> None:
        """Note that this thread has a request."""
        self._busy.add(threading.get_ident())

    def end(self, request: Request, seconds: float) -> None:
        """Count this thread's request. All labels are ones that the server chose: no client can make more of them."""
        self._busy.discard(threading.get_ident())
        found = self._children.get(request)
        if found is None:
            found = self._bind(request)
        found[0]()
        found[1](seconds)
        if request[2] == _THROTTLED:
            self._throttled.inc()

    def _bind(self, request: Request) -> tuple[Callable[[], None], Callable[[float], None]]:
        template, method, status, code, auth_method = request
        endpoint, known = template or "other", method if method in _METHODS else "other"
        counter = self._requests.labels(endpoint, known, str(status), code, auth_method)
        found = counter.inc, self._seconds.labels(endpoint).observe
        if known == method:
            self._children[request] = found
        return found

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count an audit event."""
        label = None
        if event == TOKEN_ISSUED:
            label = fields["format"]
        elif event == TOKEN_INTROSPECTED:
            label = "true" if fields["active"] else "false"
        elif event == REFUSED:
            label = reason_label(fields["reason"])
        elif event != TOKEN_REVOKED:
            return
        count = self._events.get((event, label))
        if count is None:
            count = self._events[event, label] = self._bind_event(event, label)
        count()

    def _bind_event(self, event: str, label: str | None) -> Callable[[], None]:
        if event == TOKEN_REVOKED:
            return self._revocations.inc
        counters = {TOKEN_ISSUED: self._issued, TOKEN_INTROSPECTED: self._introspections, REFUSED: self._failures}
        return counters[event].labels(label).inc

    def watch(self, connections: Callable[[], tuple[int, int]], threads: int) -> None:
        """Sample from now on what `connections` says is open and in use."""
        self._watched.append((connections, threads))

    def sample(self) -> None:
        """Take what is measured now and then and not counted."""
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
