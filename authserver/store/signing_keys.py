"""Rows of `signing_keys`, and the version of the whole ring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from authserver.oauth.client import Client
from authserver.store.access_tokens import StaleClient
from authserver.store.advisory_lock import advisory_lock
from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("signing_keys.sql")


class StaleKeyRing(Exception):
    """The keys changed since the ring was loaded. Nothing was read or written."""


class NoSuchKey(Exception):
    """There is no key of this name that could be revoked."""


@dataclass(frozen=True)
class StoredKey:
    """A row: the public JWK, and the private one as it was sealed. Times are Unix seconds."""

    kid: str
    alg: str
    public_key: dict[str, Any]
    private_key: str = field(repr=False)
    created_at: int
    signs_from: int
    revoked_at: int | None = None


class SigningKeys:
    """The signing keys of one database. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lock(self, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock that only one rotation can have; call `waiting` once if another has it now."""
        return advisory_lock(self._database, "authserver keys", waiting)

    def version(self) -> int:
        """The version of the ring."""
        row = self._database.fetch_one(_SQL["version"])
        return int(row[0]) if row else 0

    def list(self) -> tuple[int, Sequence[StoredKey]]:
        """The version of the ring and its keys in order."""
        rows = self._database.fetch_all(_SQL["list"])
        return int(rows[0][0]), [StoredKey(*row[1:]) for row in rows if row[1] is not None]

    def prove(self, client: Client, ring_version: int) -> None:
        """Return if both the client and the ring are the present ones. Raises StaleClient, StaleKeyRing."""
        row = self._database.fetch_one(_SQL["prove"], {"client": client.id, "version": client.version})
        if row is None:
            raise StaleClient
        require_version(row[0], ring_version)

    def add(self, key: StoredKey) -> None:
        """Store a key; processes see it at their next request that needs keys."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["insert"], _row(key))

    def revoke(self, kid: str, now: int, substitute: StoredKey | None) -> None:
        """Revoke a key, and in the same transaction store the one that takes its place. Raises NoSuchKey."""
        with self._database.transaction() as connection:
            if connection.execute(_SQL["revoke"], {"kid": kid, "now": now}).fetchone() is None:
                raise NoSuchKey(kid)
            if substitute is not None:
                connection.execute(_SQL["insert"], _row(substitute))

    def reseal(self, kid: str, private_key: str) -> None:
        """Put a private key that was sealed anew in place of the old."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["reseal"], {"kid": kid, "private_key": private_key})

    def delete(self, kid: str) -> None:
        """Forget a key that verifies nothing any more."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["delete"], {"kid": kid})


def require_version(present: int, known: int) -> None:
    """Return if the ring that a process knows is the present one. Raises StaleKeyRing."""
    if present != known:
        raise StaleKeyRing


def _row(key: StoredKey) -> dict[str, Any]:
    return {
        "kid": key.kid,
        "alg": key.alg,
        "public_key": Jsonb(key.public_key),
        "private_key": key.private_key,
        "created_at": key.created_at,
        "signs_from": key.signs_from,
    }
