"""Rows of `assertion_jtis`: the client assertions that were used (RFC 7523 §3, item 7)."""

from __future__ import annotations

from authserver.oauth.client import Client
from authserver.oauth.client_assertion import MAX_AHEAD, SKEW, SingleUse
from authserver.store.access_tokens import StaleClient
from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("assertion_jtis.sql")

# Seconds of expiry that share one value of expires_at. Two assertions that are both acceptable at some instant expire
# less than this apart, and so lie in the same window or in neighbouring ones: a jti is found with three probes,
# whatever expiry it comes back with, while inserts stay at the right edge of the index.
WINDOW = 600
assert WINDOW > MAX_AHEAD + 3 * SKEW  # noqa: S101 - of two constants


class Replayed(Exception):
    """The assertion was used before."""


class AssertionJtis:
    """The used assertions of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def use(self, assertion: SingleUse, client: Client, used_by: bytes) -> None:
        """Use an assertion up; committed when this returns, on disk when the request is answered.

        The same `used_by` may do so again. Raises Replayed, StaleClient, Unavailable.
        """
        row = self._database.commit(
            _SQL["use"],
            {
                "client": client.id,
                "version": client.version,
                "window": assertion.until + -assertion.until % WINDOW,
                "width": WINDOW,
                "jti_hash": assertion.jti_hash,
                "used_by": used_by,
            },
        )
        if row is None:
            raise StaleClient
        if not row[0]:
            raise Replayed
