"""Rows of `initial_access_tokens`: who may register clients (RFC 7591 §3)."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import errors

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("initial_access_tokens.sql")


class LabelExists(Exception):
    """There is an initial access token of this label already."""


class NoSuchLabel(Exception):
    """There is no initial access token of this label."""


@dataclass(frozen=True)
class InitialAccessToken:
    """One row: times are Unix seconds; no expiry means until it is removed."""

    label: str
    created_at: int
    expires_at: int | None


class InitialAccessTokens:
    """The initial access tokens of one database. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_good(self, token_hash: bytes, now: int) -> bool:
        """Whether such a token exists and has not expired."""
        return self._database.fetch_one(_SQL["is_good"], {"token_hash": token_hash, "now": now}) is not None

    def any(self, now: int) -> bool:
        """Whether there is any token that has not expired."""
        row = self._database.fetch_one(_SQL["any"], {"now": now})
        return row is not None and bool(row[0])

    def add(self, label: str, token_hash: bytes, expires_at: int | None) -> None:
        """Store a token. Raises LabelExists."""
        with self._database.transaction() as connection:
            try:
                connection.execute(_SQL["insert"], {"label": label, "token_hash": token_hash, "expires_at": expires_at})
            except errors.UniqueViolation as error:
                raise LabelExists(label) from error

    def list(self) -> list[InitialAccessToken]:
        """All tokens by label."""
        return [InitialAccessToken(*row) for row in self._database.fetch_all(_SQL["list"])]

    def remove(self, label: str) -> None:
        """Withdraw a token; clients that were registered with it stay. Raises NoSuchLabel."""
        if self._database.fetch_one(_SQL["delete"], {"label": label}) is None:
            raise NoSuchLabel(label)
