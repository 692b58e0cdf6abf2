"""Rows of `revocations`: what is no longer good although it has not expired. Each method is one round trip."""

from __future__ import annotations

from authserver.oauth.access_token import AccessToken
from authserver.oauth.client import Client
from authserver.oauth.revocation_feed import Cursor, FeedState, Revocation, read_snapshot
from authserver.oauth.signing_keys import KEEP_AFTER_SIGNING
from authserver.store.access_tokens import StaleClient
from authserver.store.database import Database
from authserver.store.queries import load
from authserver.store.signing_keys import require_version

_SQL = load("revocations.sql")

# Seconds: revocations are told this much longer than they matter, for clocks that disagree.
SKEW = 600
# Seconds after which nothing that was revoked can still be alive.
RETENTION = KEEP_AFTER_SIGNING + SKEW


class Revocations:
    """The revocations of one database. Every method may raise StaleClient, StaleKeyRing and Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_live(self, short_hash: bytes, token: AccessToken, caller: Client, ring_version: int) -> bool:
        """Whether a JWT whose signature is good is neither revoked by itself nor with its client."""
        row = self._database.fetch_one(
            _SQL["find_jwt"],
            {
                "short_hash": short_hash,
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

    def revoke_jwt(self, short_hash: bytes, token: AccessToken, caller: Client, ring_version: int) -> None:
        """Remember a JWT as revoked until it expires; committed when this returns."""
        row = self._database.fetch_one(
            _SQL["revoke_jwt"],
            {
                "short_hash": short_hash,
                "expires_at": token.expires_at,
                "caller": caller.id,
                "version": caller.version,
                "ring_version": ring_version,
            },
        )
        if row is None:
            raise StaleClient
        require_version(row[0], ring_version)

    def read_feed(self, cursor: Cursor, limit: int, now: int, caller: Client) -> tuple[FeedState, list[Revocation]]:
        """Where the feed is, and up to `limit` revocations that a follower at this cursor has not seen."""
        parameters = {
            "caller": caller.id,
            "version": caller.version,
            "seen": str(cursor.seen),
            "xid": str(cursor.after[0]),
            "seq": cursor.after[1],
            "limit": limit,
            "expired": now - SKEW,
            "oldest": now - RETENTION,
        }
        rows = self._database.fetch_all(_SQL["feed"], parameters)
        if not rows:
            raise StaleClient
        epoch, snapshot, retained_from = rows[0][:3]
        found = [Revocation(int(xid), *rest) for _, _, _, xid, *rest in rows if xid is not None]
        return FeedState(epoch, read_snapshot(snapshot), int(retained_from)), found

    def note_mark(self, now: int) -> None:
        """Note where the feed is, for cursors that come back too late; for maintenance."""
        with self._database.transaction() as connection:
            connection.execute(_SQL["note_mark"], {"now": now})
            connection.execute(_SQL["forget_marks"], {"oldest": now - RETENTION})
