"""How many connections PostgreSQL lets this installation have."""

from __future__ import annotations

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("connection_limits.sql")


def most_connections(database: Database) -> int:
    """The most connections that this role may have to this database, others' not counted. Raises Unavailable."""
    row = database.fetch_one(_SQL["most"])
    return int(row[0]) if row else 0
