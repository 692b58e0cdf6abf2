"""Rows of `schema_migrations`: which migrations a database has had, and applying one more."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from authserver.store.advisory_lock import advisory_lock
from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("schema_migrations.sql")
# Behind a lock that waits, every request waits too: give up soon and try again. It is ahead of the script's own BEGIN,
# which then only warns, because what is set in a session would be left to strangers where a pooler is in between.
# Longer than deadlock_timeout (1 s by default): an autovacuum yields only to who has waited for so long.
_LIMIT_WAITING = "BEGIN; SET LOCAL lock_timeout = '1500ms';\n"
_ATTEMPTS = 100
_PAUSE = 1.5  # seconds between attempts, for the requests that have waited
_LOCKS_TAKEN = (errors.LockNotAvailable, errors.DeadlockDetected)


class MigrationFailed(Exception):
    """PostgreSQL refused a migration; the message is its own, in one line, and nothing of the file was kept."""


@dataclass(frozen=True)
class Applied:
    """One row of the ledger."""

    version: int
    name: str
    checksum: bytes | None


class SchemaMigrations:
    """The ledger of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def applied(self) -> list[Applied]:
        """All rows in order; none if there is no ledger yet. Raises Unavailable."""
        row = self._database.fetch_one(_SQL["ledger_exists"])
        if row is None or not row[0]:
            return []
        return [Applied(*row) for row in self._database.fetch_all(_SQL["applied"])]

    def adopt(self, version: int, checksum: bytes) -> None:
        """Note the checksum of a file whose row has none."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["adopt"], {"version": version, "checksum": checksum})

    def has_serving_role(self) -> bool:
        """Whether this is the owner of sql/roles.sql, and there is the role that serves. Raises Unavailable."""
        row = self._database.fetch_one(_SQL["has_serving_role"])
        return bool(row and row[0])

    def lock(self, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock that only one runner can have; call `waiting` once if another has it now."""
        return advisory_lock(self._database, "authserver migrate", waiting)

    def run(self, statements: list[str]) -> None:
        """Send each text as it stands, one after the other. Raises MigrationFailed."""
        with self._database.session() as connection:
            for text in statements:
                _send(connection, text)

    def run_patiently(self, script: str, waiting: Callable[[], None]) -> None:
        """Send a script that brings its own BEGIN and COMMIT; call `waiting` once if others have locks that it needs.

        Raises MigrationFailed, also if the locks cannot be had in time.
        """
        with self._database.session() as connection:
            for attempt in range(_ATTEMPTS):
                try:
                    _send(connection, _LIMIT_WAITING + script)
                    return
                except _LocksTaken:
                    if attempt == 0:
                        waiting()
                    time.sleep(_PAUSE)
        raise MigrationFailed(f"others have kept locks that it needs, after {_ATTEMPTS} attempts; nothing was changed")


class _LocksTaken(MigrationFailed):
    pass


def _send(connection: psycopg.Connection[TupleRow], text: str) -> None:
    try:
        connection.execute(text)
    except psycopg.Error as error:
        if not connection.closed:
            connection.rollback()
        failure = _LocksTaken if isinstance(error, _LOCKS_TAKEN) else MigrationFailed
        # Not its details: they quote rows.
        raise failure(error.diag.message_primary or type(error).__name__) from error
    if connection.info.transaction_status != TransactionStatus.IDLE:
        connection.rollback()
        # Or the note of its checksum would be taken for applied, and all of it be lost with the connection.
        raise MigrationFailed("it does not end its transaction with COMMIT")
