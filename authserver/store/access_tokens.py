"""Rows of `access_tokens`. Each method is one round trip and proves that the caller is as the process remembers it."""

from __future__ import annotations

from authserver.oauth.access_token import AccessToken
from authserver.oauth.client import Client
from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("access_tokens.sql")


class StaleClient(Exception):
    """The client's row is not the one that was given: it changed, or is gone. Nothing was read or written."""


class AccessTokens:
    """The opaque access tokens of one database. Every method may raise StaleClient and Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, short_hash: bytes, token: AccessToken, client: Client) -> None:
        """Store a token that is being issued to a client."""
        row = self._database.commit(
            _SQL["insert"],
            {
                "client": client.id,
                "version": client.version,
                "expires_at": token.expires_at,
                "short_hash": short_hash,
                "issued_at": token.issued_at,
                "scope": token.scope,
                "audience": " ".join(token.audience),
            },
        )
        if row is None:
            raise StaleClient

    def find(self, short_hash: bytes, expires_at: int, caller: Client) -> AccessToken | None:
        """The token, unless it is unknown, revoked, or its client is gone."""
        row = self._database.fetch_one(
            _SQL["find"],
            {
                "short_hash": short_hash,
                "expires_at": expires_at,
                "caller": caller.id,
                "version": caller.version,
            },
        )
        if row is None:
            raise StaleClient
        client_id, scope, audience, issued_at, expires = row
        return None if client_id is None else AccessToken(client_id, scope, audience.split(), issued_at, expires)

    def revoke(self, short_hash: bytes, expires_at: int, caller: Client, now: int) -> None:
        """Revoke the token if there is one and it is the caller's own; committed when this returns."""
        parameters = {
            "short_hash": short_hash,
            "expires_at": expires_at,
            "caller": caller.id,
            "version": caller.version,
            "now": now,
        }
        if self._database.fetch_one(_SQL["revoke"], parameters) is None:
            raise StaleClient
