"""Rows of `revocations`: what is no longer good although it has not expired. Each method is one round trip."""

from __future__ import annotations

from authserver.oauth.access_token import AccessToken
from authserver.oauth.client import Client
from authserver.store.access_tokens import StaleClient
from authserver.store.database import Database
from authserver.store.queries import load
from authserver.store.signing_keys import require_version

_SQL = load("revocations.sql")


class Revocations:
    """The revocations of one database. Every method may raise StaleClient, StaleKeyRing and Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_live(self, token_hash: bytes, token: AccessToken, caller: Client, ring_version: int) -> bool:
        """Whether a JWT whose signature is good is neither revoked by itself nor with its client."""
        row = self._database.fetch_one(
            _SQL["find_jwt"],
            {
                "token_hash": token_hash,
                "expires_at": token.expires_at,
                "issued_at": token.issued_at,
                "client_id": token.client_id,
                "caller": caller.id,
                "version": caller.version,
            },
        )
        if row is None:
            raise StaleClient
        require_version(row[0], ring_version)
        return bool(row[1])

    def revoke_jwt(self, token_hash: bytes, token: AccessToken, caller: Client, ring_version: int) -> None:
        """Remember a JWT as revoked until it expires; committed when this returns."""
        row = self._database.fetch_one(
            _SQL["revoke_jwt"],
            {
                "token_hash": token_hash,
                "expires_at": token.expires_at,
                "caller": caller.id,
                "version": caller.version,
                "ring_version": ring_version,
            },
        )
        if row is None:
            raise StaleClient
        require_version(row[0], ring_version)
