"""Rows of `issued_tokens`: how many tokens a client was issued in a minute."""

from __future__ import annotations

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("issued_tokens.sql")


class IssuedTokens:
    """What the processes of an installation have reported. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, client: int, minute: int, tokens: int) -> int:
        """Add tokens of a client; give how many there are now in this minute."""
        parameters = {"client": client, "minute": minute, "tokens": tokens}
        row = self._database.fetch_one(_SQL["add"], parameters)
        return int(row[0]) if row else 0

    def forget(self, before_minute: int) -> None:
        """Forget the minutes before this one; for maintenance."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["forget"], {"minute": before_minute})
