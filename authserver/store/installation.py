"""What an operator has to know of an installation's database."""

from __future__ import annotations

from dataclasses import dataclass

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("installation.sql")


@dataclass(frozen=True)
class Facts:
    """One look at the database. `clock` is its own, in Unix seconds."""

    revocations_sequence: int
    open_transactions: int
    clients: int
    secrets_expired: int
    secrets_expiring: int
    clock: float


class Installation:
    """One database. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def facts(self, now: int, soon: int) -> Facts:
        """How things stand; secrets that expire between `now` and `soon` are expiring."""
        row = self._database.fetch_one(_SQL["facts"], {"now": now, "soon": soon})
        return Facts(*row) if row else Facts(0, 0, 0, 0, 0, now)

    def default_partition_bytes(self, table: str) -> int:
        """How large the default partition of a table is."""
        row = self._database.fetch_one(_SQL["default_partition_bytes"], {"partition": f"{table}_default"})
        return int(row[0] or 0) if row else 0
