"""Rows of `authentication_failures`: how often someone failed in a minute."""

from __future__ import annotations

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("authentication_failures.sql")


class AuthenticationFailures:
    """The failures that all processes of an installation have seen. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, who: bytes, minute: int) -> int:
        """Count one more failure; give how many there are in this minute."""
        row = self._database.fetch_one(_SQL["count"], {"who": who, "minute": minute})
        return int(row[0]) if row else 0

    def forget(self, before_minute: int) -> None:
        """Forget the minutes before this one; for maintenance."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["forget"], {"minute": before_minute})
