"""GET /metrics on an address of its own: one listening socket of the master, on which a thread of each worker answers.

So it is there while any worker lives, also while all threads that serve requests are taken, and neither a reload nor
the end of a worker refuses a scrape. What waits in the kernel's queue, another worker takes.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from authserver import __version__
from authserver.flows.server import AuthorizationServer
from authserver.flows.state import Details, State, read_state
from authserver.migrate import read_migrations
from authserver.observe.metrics import Metrics, exposition
from authserver.store.database import Unavailable

_log = logging.getLogger("authserver.metrics")

_LONGEST_HEAD = 8192
_PATIENCE = 1.0  # seconds for a request to arrive, and again for its answer to be taken
_SAMPLES = 1.0  # seconds between two
_REMEMBERED = 10.0  # seconds for which a look at the database does


class StateMetrics:
    """How the installation stands. Asks the database at a scrape, over a connection that it closes again."""

    def __init__(self, server: AuthorizationServer, rotation: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._server, self._rotation, self._clock = server, rotation, clock
        self._expected = max(migration.version for migration in read_migrations())
        self._state: State | None = None
        self._looked_at = -_REMEMBERED

    def collect(self) -> Iterator[Metric]:
        """The metrics; without the database only that it is away, and what is known without it."""
        if self._clock() - self._looked_at >= _REMEMBERED or self._state is None:
            self._state = self._look()
            self._looked_at = self._clock()
        yield _gauge("build_info", "The release.", 1, version=__version__)
        yield _gauge("schema_version_expected", "The schema version that this release needs.", self._expected)
        yield _gauge("database_up", "1 if the database answered the last look.", int(self._state is not None))
        if self._state is not None:
            yield _gauge("schema_version", "The newest migration that was applied.", self._state.schema_version)
            if self._state.details is not None:
                yield from _detail_metrics(self._state.details)

    def _look(self) -> State | None:
        try:
            return read_state(self._server, self._rotation)
        except Unavailable as error:
            _log.warning("the database could not be asked for metrics: %s", error)
            return None
        finally:
            self._server.database.close()


def _detail_metrics(state: Details) -> Iterator[Metric]:
    facts, keys = state.facts, state.keys
    yield _gauge("database_clock_offset_seconds", "The database's clock less this machine's.", state.clock_offset)
    yield _gauge("revocation_feed_sequence", "Number of the newest revocation.", facts.revocations_sequence)
    yield _gauge(
        "revocation_feed_lag_transactions",
        "Transactions begun since the oldest that is still open, whose revocations followers are told again.",
        facts.open_transactions,
    )
    yield _gauge("clients", "Registered clients.", facts.clients)
    yield _gauge("client_secrets_expired", "Client secrets that have expired.", facts.secrets_expired)
    yield _gauge("client_secrets_expiring", "Client secrets that expire within 30 days.", facts.secrets_expiring)
    yield _family(
        "signing_keys", "Signing keys by state.", "state", {name: float(n) for name, n in keys.by_state.items()}
    )
    yield _gauge(
        "signing_keys_undecryptable",
        "Signing keys, active or next, that this server cannot decrypt.",
        keys.undecryptable,
    )
    if keys.age is not None:
        yield _gauge("signing_key_age_seconds", "Time since the active signing key began to sign.", keys.age)
    if keys.due_in is not None:
        yield _gauge("signing_key_rotation_due_seconds", "Time until maintenance makes the next key.", keys.due_in)
    tables = state.tables.items()
    yield _family(
        "partitions_ahead_seconds", "Time ahead that partitions cover.", "table", {n: float(t.ahead) for n, t in tables}
    )
    yield _family(
        "partitions_expired", "Partitions that should be dropped.", "table", {n: float(t.expired) for n, t in tables}
    )
    yield _family(
        "default_partition_bytes",
        "Rows for which there was no partition.",
        "table",
        {n: float(t.default_bytes) for n, t in tables},
    )


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(f"authserver_{name}", text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _family(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(f"authserver_{name}", text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def start(listener: socket.socket, metrics: Metrics, state: StateMetrics) -> None:
    """Answer from now on, in a thread of this worker."""
    threading.Thread(target=_run, args=(listener, metrics, state), name="metrics", daemon=True).start()


def _run(listener: socket.socket, metrics: Metrics, state: StateMetrics) -> None:
    waiting = listener.dup()
    waiting.settimeout(_SAMPLES)
    sampled = -_SAMPLES
    while True:
        if time.monotonic() - sampled >= _SAMPLES:
            metrics.sample()
            sampled = time.monotonic()
        try:
            connection, _ = waiting.accept()
        except OSError:  # nobody came, or another worker was first
            continue
        try:
            with connection:
                _answer(connection, metrics, state)
        except OSError:  # the client was slow, or has gone
            continue
        except Exception as error:  # noqa: BLE001 - the thread has nobody else to tell, and must not end
            _log.critical("unexpected %s at a scrape", type(error).__name__)


def _answer(connection: socket.socket, metrics: Metrics, state: StateMetrics) -> None:
    head = _read_head(connection)
    method, _, rest = head.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD") or target != b"/metrics":
        _send(connection, "404 Not Found", "text/plain", b"The metrics are at /metrics.\n")
        return
    metrics.sample()
    content_type, text = exposition(state.collect())
    _send(connection, "200 OK", content_type, text if method == b"GET" else b"")


def _read_head(connection: socket.socket) -> bytes:
    """The request up to the empty line, however slowly it comes, within limits. Raises OSError."""
    received, deadline = b"", time.monotonic() + _PATIENCE
    while b"\r\n\r\n" not in received:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(_LONGEST_HEAD)
        received += data
        if not data or len(received) > _LONGEST_HEAD or time.monotonic() > deadline:
            raise ConnectionAbortedError
    return received


def _send(connection: socket.socket, status: str, content_type: str, body: bytes) -> None:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    connection.settimeout(_PATIENCE)
    connection.sendall(head.encode() + body)
    connection.shutdown(socket.SHUT_WR)
