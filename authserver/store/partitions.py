"""Partitions by expiry: a range of Unix seconds each, made ahead of use and dropped when all in it has expired."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql

from authserver.store.advisory_lock import advisory_lock
from authserver.store.database import Database
from authserver.store.queries import load

# What `authserver maintain` keeps.
PARTITIONED_TABLES = ("access_tokens", "revocations", "assertion_jtis")

_SQL = load("partitions.sql")
_BOUNDS = re.compile(r"FROM \('(-?\d+)'\) TO \('(-?\d+)'\)")
_ATTEMPTS = 100
_PAUSE = 0.1  # seconds between attempts: longer than a request holds a lock
T = TypeVar("T")


class Busy(Exception):
    """The lock on the table could not be had in time. Nothing was changed."""


class DefaultHasRows(Exception):
    """Rows of this range are in the default partition; a partition for it can be made when they have expired."""


@dataclass(frozen=True)
class Partition:
    """One partition: rows with `lower` <= expires_at < `upper`, in Unix seconds."""

    name: str
    lower: int
    upper: int


class Partitions:
    """The partitions of one table, which has a default partition named `<table>_default`."""

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table

    @property
    def table(self) -> str:
        """The name of the table."""
        return self._table

    def lock(self, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock that only one maintenance run can have, of whatever tables.

        Calls `waiting` once if another has it now.
        """
        return advisory_lock(self._database, "authserver maintain", waiting)

    def list(self) -> list[Partition]:
        """All partitions but the default one. Raises Unavailable."""
        rows = self._database.fetch_all(_SQL["list"], {"table": self._table})
        found = ((name, _BOUNDS.search(bounds)) for name, bounds in rows)
        return [Partition(name, int(match[1]), int(match[2])) for name, match in found if match]

    def create(self, lower: int, upper: int) -> Partition:
        """Make the partition for a range. Raises DefaultHasRows, Busy, Unavailable."""
        name = f"{self._table}_{datetime.fromtimestamp(lower, UTC):%Y%m%d_%H%M}"

        def act(connection: Any) -> Partition:
            names = self._names(name, lower=lower, upper=upper)
            if connection.execute(_format("default_has_rows", names)).fetchone()[0]:
                raise DefaultHasRows
            connection.execute(_format("create", names))
            try:
                connection.execute(_format("attach", names))
            except errors.CheckViolation:
                # A row arrived between the look and the lock.
                raise DefaultHasRows from None
            return Partition(name, lower, upper)

        return self._patiently(act)

    def drop(self, partition: Partition) -> None:
        """Drop a partition and give its disk space back. Raises Busy, Unavailable."""

        def act(connection: Any) -> None:
            names = self._names(partition.name)
            connection.execute(_format("detach", names))
            connection.execute(_format("drop", names))

        self._patiently(act)

    def delete_expired_default(self, now: int) -> int:
        """Delete what has expired in the default partition; give the number of rows. Raises Busy, Unavailable."""
        names = self._names(self._table, now=now)
        return self._patiently(
            lambda connection: int(connection.execute(_format("delete_expired_default", names)).rowcount)
        )

    def _names(self, partition: str, **numbers: int) -> dict[str, sql.Composable]:
        names: dict[str, sql.Composable] = {
            "table": sql.Identifier(self._table),
            "partition": sql.Identifier(partition),
            "default": sql.Identifier(f"{self._table}_default"),
        }
        return names | {name: sql.Literal(number) for name, number in numbers.items()}

    def _patiently(self, act: Callable[[psycopg.Connection[Any]], T]) -> T:
        in_the_way: set[str] = set()
        for _ in range(_ATTEMPTS):
            # To try again before these have gone would make all requests wait, and for nothing.
            if not in_the_way:
                try:
                    with self._database.transaction() as connection:
                        connection.execute(_SQL["limit_waiting"])
                        return act(connection)
                except errors.LockNotAvailable:
                    in_the_way = self._holders()
            time.sleep(_PAUSE)
            in_the_way &= self._holders()
        raise Busy(f"{self._table}: another transaction has kept its lock, after {_ATTEMPTS} attempts")

    def _holders(self) -> set[str]:
        rows = self._database.fetch_all(_SQL["holders"], {"table": self._table, "default": f"{self._table}_default"})
        return {name for (name,) in rows}


def partitioned_tables(database: Database) -> list[Partitions]:
    """All tables that are partitioned by expiry."""
    return [Partitions(database, table) for table in PARTITIONED_TABLES]


def _format(name: str, names: dict[str, sql.Composable]) -> sql.Composed:
    return sql.SQL(_SQL[name]).format(**names)
