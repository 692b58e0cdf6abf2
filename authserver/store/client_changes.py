"""Changes to many clients that commit together or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Rollback, errors

from authserver.oauth.client import Client
from authserver.oauth.registration import ClientMetadata
from authserver.store.clients import ClientExists, NewSecret, claim_resources, client_of, columns_of, secret_row
from authserver.store.database import Database
from authserver.store.queries import load
from authserver.store.trusted_issuers import NoSuchBinding, SubjectBound

_SQL = load("client_changes.sql")
_CLIENTS, _ISSUERS = load("clients.sql"), load("trusted_issuers.sql")


class ClientChanges:
    """One transaction. Whatever raises here, nothing of it is kept."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def lock(self, client_ids: Sequence[str], managed_by: str | None) -> list[str]:
        """Keep everybody else from changing these clients and those of this mark; give the names of the latter."""
        self._execute(_SQL["one_at_a_time"])
        self._execute(_SQL["lock"], client_ids=list(client_ids), managed_by=managed_by)
        return [name for (name,) in self._execute(_SQL["managed"], managed_by=managed_by).fetchall()]

    def load(self, client_id: str) -> Client | None:
        """The client as it is; None if there is none."""
        row = self._execute(_CLIENTS["load"], client_id=client_id).fetchone()
        return client_of(row) if row[0] is not None else None

    def bindings(self, client_id: str) -> frozenset[tuple[str, str]]:
        """The issuers and subjects that are bound to the client."""
        rows = self._execute(_ISSUERS["bindings"], client_id=client_id, name="").fetchall()
        return frozenset((issuer, subject) for issuer, subject, _ in rows)

    def release_resources(self, client_id: str, kept: Sequence[str]) -> None:
        """Take from a client the resource identifiers that it is not to keep."""
        self._execute(_SQL["release_resources"], client_id=client_id, kept=list(kept))

    def create(self, client_id: str) -> None:
        """Make a client that may do nothing yet. Raises ClientExists."""
        row = columns_of(ClientMetadata()) | {"client_id": client_id, "registration_token_hash": None}
        try:
            self._connection.execute(_CLIENTS["insert"], row)
        except errors.UniqueViolation as error:
            raise ClientExists(client_id) from error

    def declare(self, client_id: str, metadata: ClientMetadata, managed_by: str | None, *, share: bool) -> None:
        """Replace all that is said of a client; no `managed_by` leaves the mark as it is.

        Raises ResourceIdentifierTaken unless `share`.
        """
        claim_resources(self._connection, client_id, metadata, share=share, by_itself=False)
        row = columns_of(metadata) | {"client_id": client_id, "managed_by": managed_by}
        self._connection.execute(_SQL["declare"], row)

    def delete(self, client_id: str) -> None:
        """Delete a client; its secrets and tokens stop working."""
        self._execute(_CLIENTS["delete"], client_id=client_id)

    def add_secret(self, client_id: str, secret: NewSecret) -> None:
        """Give a client a secret."""
        self._connection.execute(_CLIENTS["insert_secret"], secret_row(client_id, secret))

    def remove_secret(self, client_id: str, label: str) -> None:
        """Withdraw a secret."""
        self._execute(_CLIENTS["delete_secret"], client_id=client_id, label=label)

    def set_expiry(self, client_id: str, label: str, expires_at: int | None) -> None:
        """Change until when a secret is good."""
        self._execute(_SQL["set_expiry"], client_id=client_id, label=label, expires_at=expires_at)

    def bind(self, client_id: str, issuer: str, subject: str) -> None:
        """Let a subject of an issuer be the client. Raises SubjectBound; NoSuchBinding if there is no such issuer."""
        row = self._execute(_SQL["bind"], client_id=client_id, name=issuer, subject=subject).fetchone()
        known, bound = row
        if not known:
            raise NoSuchBinding(issuer)
        if not bound:
            raise SubjectBound(subject)

    def unbind(self, client_id: str, issuer: str, subject: str) -> None:
        """Let a subject no longer be the client."""
        self._execute(_ISSUERS["unbind"], client_id=client_id, name=issuer, subject=subject)

    def _execute(self, query: Any, **parameters: Any) -> Any:
        return self._connection.execute(query, parameters)


@contextmanager
def client_changes(database: Database, *, keep: bool) -> Iterator[ClientChanges]:
    """Make changes that commit at the end, or, to see what they would be, are undone. Raises Unavailable."""
    with database.transaction() as connection:
        yield ClientChanges(connection)
        if not keep:
            raise Rollback
