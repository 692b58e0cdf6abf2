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


@dataclass(frozen=True)
class Role:
    """The role that a connection has, and what makes it more than one that serves requests."""

    name: str
    is_superuser: bool
    makes_tables: bool
    owns_tables: bool


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

    def clock(self) -> float:
        """The database's time, in Unix seconds."""
        row = self._database.fetch_one(_SQL["clock"])
        return float(row[0]) if row else 0.0

    def role(self) -> Role:
        """The role that is in force."""
        (row,) = self._database.fetch_all(_SQL["role"])
        return Role(*row)

    def lacking(self) -> list[str]:
        """The rights that serving requests needs and this role has not."""
        return [right for (right,) in self._database.fetch_all(_SQL["lacking"])]

    def throttled(self, minute: int, limit: int) -> int:
        """How many were refused lately because they had failed to authenticate `limit` times in a minute."""
        row = self._database.fetch_one(_SQL["throttled"], {"minute": minute, "limit": limit})
        return int(row[0]) if row else 0
