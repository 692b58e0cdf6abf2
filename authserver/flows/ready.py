"""Whether requests are to be sent to this process: what they need of the database is there, and it can be used."""

from __future__ import annotations

from dataclasses import dataclass

from authserver.flows.server import AuthorizationServer
from authserver.migrate import is_current, read_migrations
from authserver.oauth.signing_keys import NoSigningKey


@dataclass(frozen=True)
class Missing:
    """What keeps a process from serving, and what an operator does about it."""

    reason: str
    advice: str


SCHEMA = Missing("the schema is behind this release", "run 'authserver migrate'")
SIGNING_KEY = Missing(
    "the signing key cannot be decrypted here",
    "give AUTHSERVER_KEY_ENCRYPTION_KEY the key that it was encrypted with, as the other servers have it",
)


class Readiness:
    """That of one process.

    One that could not use the signing key from its beginning is configured wrongly, and must not take the place of one
    that could. One that once was ready stays so without the key: that all of them lose it at once should cost JWTs,
    not the tokens, introspections and revocations that need no key.
    """

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server
        self._was_ready = False

    def missing(self) -> Missing | None:
        """What is missing, if anything. Raises Unavailable if the database cannot be asked."""
        if not is_current(self._server.schema_migrations, read_migrations()):
            return SCHEMA
        if not self._was_ready and not _has_the_key(self._server):
            return SIGNING_KEY
        self._was_ready = True
        return None


def _has_the_key(server: AuthorizationServer) -> bool:
    try:
        return server.key_ring.current().signing_key(server.now()).private is not None
    except NoSigningKey:
        return True  # there is none that it could lack
