"""What happens in the example service, for Prometheus: one sum over all worker processes."""

import os
import threading
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX: Final = "resource_server_"

_COUNTERS: Final = {
    "cache_hits": ("Tokens that were remembered.", ()),
    "cache_misses": ("Tokens that were not, and so were introspected or verified.", ()),
    "fallbacks": ("Requests introspected because what is remembered could not be relied on.", ("reason",)),
    "jwks_fetches": ("Fetches of the issuer's keys.", ("outcome",)),
    "checks": ("Requests checked, by outcome: allowed, or the error.", ("outcome",)),
    "introspections": ("Introspections that the server was asked for, retries included.", ("outcome",)),
    "polls": ("Polls of the revocation feed.", ("outcome",)),
}
# Of several processes the one that is worst off tells: the promise is as old as the oldest poll.
_GAUGES: Final[Mapping[str, tuple[str, str, Literal["livemin", "livemax"]]]] = {
    "last_poll": ("revocations_last_poll_timestamp_seconds", "When the last complete poll began.", "livemin"),
    "tombstones": ("revocation_tombstones", "Revocations remembered.", "livemax"),
    "breaker_open": ("breaker_open", "1 if a process leaves the failing authorization server alone.", "livemax"),
}
_HISTOGRAMS: Final = {
    "check_seconds": ("check_duration_seconds", "Time to find out whether a request gets access."),
    "introspection_seconds": ("introspection_duration_seconds", "Time for one introspection, retry included."),
}
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)


class Metrics:
    """Takes what `Stats` tells it and gives it out as text.

    With gunicorn's several workers PROMETHEUS_MULTIPROC_DIR names a directory in which each writes its numbers,
    so that whichever is asked answers for all; it must be set before prometheus_client is imported.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters = {name: self._counter(name, *row) for name, row in _COUNTERS.items()}
        self._histograms = {name: self._histogram(*row) for name, row in _HISTOGRAMS.items()}
        self._gauges: dict[str, Gauge] = {}
        self._lock = threading.Lock()

    def record(self, name: str, label: str, amount: float) -> None:
        """Take a count or a measurement from `Stats`."""
        if (counter := self._counters.get(name)) is not None:
            (counter.labels(label) if label else counter).inc(amount)
        elif (histogram := self._histograms.get(name)) is not None:
            histogram.observe(amount)
        else:
            self._gauge(name).set(amount)

    def text(self) -> tuple[str, bytes]:
        """Return content type and body."""
        registry = CollectorRegistry()
        registry.register(_Build())
        if os.environ.get(_DIRECTORY):
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client's own
        else:
            registry.register(self._registry)
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(_PREFIX + name, text, buckets=_SECONDS, registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        # made when there is a value: a worker that does not follow the feed must not count as one that lags
        with self._lock:
            if name not in self._gauges:
                full, text, mode = _GAUGES[name]
                self._gauges[name] = Gauge(_PREFIX + full, text, registry=self._registry, multiprocess_mode=mode)
            return self._gauges[name]


class _Build(Collector):
    """Which release this is."""

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily(_PREFIX + "build_info", "The release.", labels=["version"])
        family.add_metric([version("authserver")], 1)
        return [family]
