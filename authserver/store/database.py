"""Connections to PostgreSQL: one per thread, opened when first needed, replaced when lost.

A worker thread handles one request at a time, so a pool would hand it the same connection back after a lock, a
queue and a health check. Kept per thread, a statement is prepared once and a request costs exactly one round trip.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from authserver.store.patience import Patience
from authserver.store.prepared import NoAnswer, Parameters, PreparedStatements

HoldFor = Callable[[Callable[[], None]], None]
"""Holds the answer to a request until what it is given has been called, once for several answers."""

T = TypeVar("T")
RV = TypeVar("RV")

# Writes next to nothing, and its commit waits for the disk: for all that was committed before, too.
_FLUSH: LiteralString = "SELECT pg_logical_emit_message(true, 'authserver', '')"

CONNECT_TIMEOUT = 2  # seconds; libpq takes whole seconds, and 2 is the least it accepts
STATEMENT_TIMEOUT = 3.0  # seconds, on the server
ANSWER_TIMEOUT = 4.0  # seconds, here: for a server that no longer answers at all
FAIL_FAST = 0.25  # seconds after a failed connect in which no further one is tried

# Every statement of a request probes indexes. Left to choose, PostgreSQL plans anew each time what names a partitioned
# table, and the more it holds the longer that takes; and a plan that is kept must not read through what was empty when
# it was made. (Without jit: it is tried for plans that look dear for want of an index, as for a table of one row.)
_PLANS = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
_SCHEMA_BEHIND = (errors.UndefinedTable, errors.UndefinedColumn)
# What PgBouncer says to a parameter at the start of a connection that it does not know.
_POOLER_REFUSES = "unsupported startup parameter"
# It is another session than before: a pooler's doing.
_ANOTHER_SESSION = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)
# Or a migration gave a column another type.
_STATEMENT_GONE = (*_ANOTHER_SESSION, errors.FeatureNotSupported)
# The server said no to the statement, not to us: nothing was done, and asking again now would not help.
_REFUSALS = (
    errors.ReadOnlySqlTransaction,  # a former primary after a failover
    errors.ObjectNotInPrerequisiteState,  # likewise, for what only a primary can tell
    *_SCHEMA_BEHIND,
    errors.InsufficientPrivilege,
    *_STATEMENT_GONE,
)


class Unavailable(Exception):
    """The database cannot be asked now. Nothing may be concluded from this about what was asked."""


class SchemaBehind(Unavailable):
    """The database lacks a table or a column that this code needs: migrations are pending."""


class _Connection(psycopg.Connection[TupleRow]):
    """A connection that gives up on a server that does not answer: libpq by itself would wait for ever."""

    answer_timeout: float | None = ANSWER_TIMEOUT
    statements: PreparedStatements

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval=interval, timeout=timeout or self.answer_timeout)
        except errors._WaitTimeout:  # noqa: SLF001 - the documented outcome of wait(), and it has no public name
            raise NoAnswer(f"no answer within {self.answer_timeout} s") from None


class Database:
    """A PostgreSQL database, named by a connection string, for any number of threads and after any fork."""

    def __init__(
        self,
        conninfo: str,
        *,
        patient: bool = False,
        pooled: bool = False,
        observe: Callable[[float], None] | None = None,
        before_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a libpq connection string or URL; connect to nothing yet.

        `patient` lifts the limits on a statement's time: for migrations and maintenance, never for requests.
        `pooled`: PgBouncer in between gives each transaction another session, so nothing is left in one.
        `observe` is told how many seconds each prepared statement took, `before_waiting` is called in a thread that
        is about to wait for long.
        Raises ValueError if libpq cannot read the string.
        """
        self._answer_timeout = None if patient else ANSWER_TIMEOUT
        self._patient, self._pooled = patient, pooled
        try:
            self._conninfo = _with_limits(conninfo, options=not patient and not pooled)
        except psycopg.ProgrammingError:
            # libpq's message repeats the string, and the string holds a password.
            raise ValueError("not a PostgreSQL connection string") from None
        self._local = threading.local()
        self._opened: set[_Connection] = set()
        self._lock = threading.Lock()
        self._away = False
        self._probe = threading.Lock()
        self._observe, self._patience = observe, Patience(before_waiting)
        self._busy: set[int] = set()
        self._may_flush = True
        self._next_connect = 0.0

    def apart(self) -> Database:
        """The same database by connections of its own, for what lasts while other statements run."""
        return Database(self._conninfo, patient=self._patient, pooled=self._pooled)

    def fetch_one(self, query: LiteralString, parameters: Parameters | None = None) -> TupleRow | None:
        """Run one prepared statement in one round trip; give its first row, or None. Raises Unavailable."""
        rows = self._rows(query, parameters)
        return rows[0] if rows else None

    def fetch_all(self, query: LiteralString, parameters: Parameters | None = None) -> list[TupleRow]:
        """Like `fetch_one`, for all rows."""
        return self._rows(query, parameters)

    def begin_request(self, hold_for: HoldFor | None) -> None:
        """What this thread does from now on is a request. `hold_for` is given where its answer can be held."""
        self._local.hold_for = hold_for

    def commit(self, query: LiteralString, parameters: Parameters) -> TupleRow | None:
        """Like `fetch_one`, for what must be on disk when the request is answered.

        The statement is told with `must_wait` whether its commit has to wait for that itself. If not, the answer will:
        several then wait for the disk at once, and no thread for each.
        """
        hold_for: HoldFor | None = getattr(self._local, "hold_for", None)
        # Behind a pooler nothing tells that the session which waits for the disk is with the server that committed.
        if hold_for is None or self._pooled or not self._may_flush:
            return self.fetch_one(query, {**parameters, "must_wait": True})
        row = self.fetch_one(query, {**parameters, "must_wait": False})
        _, connection = self._local.held
        hold_for(partial(self._flush, connection))
        return row

    def connections(self) -> tuple[int, int]:
        """How many connections are open, and how many of them wait for an answer."""
        with self._lock:
            return sum(not connection.closed for connection in self._opened), len(self._busy)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Several statements that commit together or not at all. Raises Unavailable."""
        connection, _ = self._connection()
        self._patience.before_waiting()
        try:
            with connection.transaction():
                yield connection
        except errors.LockNotAvailable:
            # Only a caller that set a lock_timeout gets this, and it means to try again.
            raise
        except (psycopg.OperationalError, *_REFUSALS) as error:
            self._discard_if_lost(connection, error)
            raise _unavailable(error) from error

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """This thread's connection itself, in autocommit mode, for what brings its own BEGIN and COMMIT."""
        self._patience.before_waiting()
        yield self._connection()[0]

    def close(self) -> None:
        """Close the connections of all threads; the next statement of a thread opens a new one."""
        with self._lock:
            opened, self._opened = self._opened, set()
        for connection in opened:
            connection.close()

    def _rows(self, query: LiteralString, parameters: Parameters | None) -> list[TupleRow]:
        def act(connection: _Connection) -> list[TupleRow]:
            return connection.statements.run(query, parameters or {}, connection.answer_timeout)

        return self._observed(lambda: self._run(act))

    def _flush(self, connection: _Connection) -> None:
        """Wait until all that this thread's connection committed is on disk. Raises Unavailable.

        Never by another connection: it may be to a server that has crashed meanwhile, lost that, and started again.
        """
        try:
            self._observed(lambda: connection.statements.run(_FLUSH, {}, connection.answer_timeout))
        except (psycopg.OperationalError, *_REFUSALS) as error:
            self._discard_if_lost(connection, error)
            # Somebody took from all roles what all have; then each commit waits by itself.
            self._may_flush = self._may_flush and not isinstance(error, errors.InsufficientPrivilege)
            raise _unavailable(error) from error

    def _observed(self, act: Callable[[], T]) -> T:
        if self._observe is None:
            return act()
        thread, began = threading.get_ident(), time.perf_counter()
        self._busy.add(thread)
        try:
            return act()
        finally:
            self._busy.discard(thread)
            self._observe(time.perf_counter() - began)

    def _run(self, act: Callable[[_Connection], T]) -> T:
        connection, fresh = self._connection()
        try:
            return act(connection)
        except (psycopg.OperationalError, *_REFUSALS) as error:
            if not self._discard_if_lost(connection, error) or fresh or isinstance(error, NoAnswer):
                raise _unavailable(error) from error
        # The connection had died while it was idle, say in a restart of the database. Every statement that goes
        # through here may be repeated: it reads, writes the same again, or counts what is then counted twice.
        connection, _ = self._connection()
        try:
            return act(connection)
        except (psycopg.OperationalError, *_REFUSALS) as error:
            self._discard_if_lost(connection, error)
            raise _unavailable(error) from error

    def _connection(self) -> tuple[_Connection, bool]:
        """This thread's connection, and whether it was opened just now."""
        held: tuple[int, _Connection] | None = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid() and not held[1].closed:
            return held[1], False
        connection = self._connect()
        connection.answer_timeout = self._answer_timeout
        connection.statements = PreparedStatements(connection, self._patience, prepare=not self._pooled)
        self._local.held = (os.getpid(), connection)
        with self._lock:
            self._opened = {c for c in self._opened if not c.closed} | {connection}
        return connection, True

    def _connect(self) -> _Connection:
        """Open a connection. While the database is away one thread at a time tries, and now and then only.

        If each thread waited for a host that does not answer, none would be left for the health probe.
        """
        probing = self._away
        if probing and (time.monotonic() < self._next_connect or not self._probe.acquire(blocking=False)):
            raise Unavailable("the database could not be reached a moment ago")
        self._patience.before_waiting()
        try:
            # psycopg's cursors prepare nothing, or they would forget all prepared statements when a table is dropped.
            connection = _Connection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
            self._away = False
        except psycopg.OperationalError as error:
            self._next_connect = time.monotonic() + FAIL_FAST
            self._away = True
            raise _unavailable(error) from error
        finally:
            if probing:
                self._probe.release()
        return connection

    def _discard_if_lost(self, connection: _Connection, error: psycopg.Error) -> bool:
        """Drop a connection that must not be used again; tell whether it was dropped."""
        self._away = self._away or isinstance(error, NoAnswer)
        lost = connection.closed or isinstance(error, (NoAnswer, errors.ReadOnlySqlTransaction, *_STATEMENT_GONE))
        if lost:
            connection.close()
        return lost


def _with_limits(conninfo: str, *, options: bool) -> str:
    """Add what keeps a request from waiting for ever, unless the operator's string already says otherwise."""
    given = conninfo_to_dict(conninfo)
    limits: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "authserver",
        # Not the server's choice: a database made with SQL_ASCII would refuse the migrations' text.
        "client_encoding": "utf8",
        "tcp_user_timeout": int(ANSWER_TIMEOUT * 1000),
        # Never a standby, though a name or a list of hosts lead to one: what it reads may lack a revocation.
        "target_session_attrs": "read-write",
    }
    if options:
        limits["options"] = f"-c statement_timeout={int(STATEMENT_TIMEOUT * 1000)} {_PLANS}"
    return make_conninfo(conninfo, **{name: value for name, value in limits.items() if name not in given})


def _unavailable(error: psycopg.Error) -> Unavailable:
    reason = _reason(error)
    if isinstance(error, _ANOTHER_SESSION) or _POOLER_REFUSES in reason:
        reason += " (PgBouncer is in between: set AUTHSERVER_DATABASE_POOLER=transaction)"
    return (SchemaBehind if isinstance(error, _SCHEMA_BEHIND) else Unavailable)(reason)


def _reason(error: psycopg.Error) -> str:
    """What happened, for the log: never the statement's parameters."""
    # Without a SQLSTATE where there is no server to give one.
    kind = " ".join(part for part in (type(error).__name__, error.sqlstate) if part)
    return f"{kind}: {str(error).splitlines()[0] if str(error) else ''}"
