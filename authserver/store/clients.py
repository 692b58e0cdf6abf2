"""Rows of `clients` and `client_secrets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from psycopg import errors
from psycopg.types.json import Jsonb

from authserver.oauth.client import SECRET_METHODS, Client, ClientSecret
from authserver.oauth.public_keys import RegisteredKeys
from authserver.oauth.registration import ClientMetadata
from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("clients.sql")
# What only an operator may give.
_GIVEN = ("permissions", "access_token_lifetime", "tokens_per_minute")
_COLUMN_OF_KEYS = next(at for at, column in enumerate(fields(Client)) if column.name == "jwks")


class ClientExists(Exception):
    """A client of this client_id is there already."""


class SecretLabelExists(Exception):
    """The client has a secret of this label already."""


class ResourceIdentifierTaken(Exception):
    """Another client has one of these resource identifiers."""


class NoSuchClient(Exception):
    """There is no client of this client_id (or its registration access token is another one)."""


class NoSuchSecret(Exception):
    """The client has no secret of this label."""


class ChangedMeanwhile(Exception):
    """The client is not as it was when it was loaded."""


@dataclass(frozen=True)
class NewSecret:
    """A secret to store: its hash, and until when it is good (Unix seconds; None: until it is removed)."""

    label: str
    secret_hash: bytes = field(repr=False)
    expires_at: int | None = None


@dataclass(frozen=True)
class ExpiringSecret:
    """A secret and when it expires (Unix seconds)."""

    client_id: str
    label: str
    expires_at: int


@dataclass(frozen=True)
class ClientSummary:
    """One line of the list of clients."""

    client_id: str
    client_name: str | None
    scopes: Sequence[str]
    audiences: Sequence[str]
    resource_identifiers: Sequence[str]
    permissions: Sequence[str]
    created_at: int
    self_registered: bool
    managed_by: str | None


class Clients:
    """The clients of one database. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, client_id: str) -> Client | None:
        """The client as it is now, with its secrets; None if there is none."""
        row = self._database.fetch_one(_SQL["load"], {"client_id": client_id})
        if row is None or row[0] is None:
            # As much work as for a client that there is.
            client_of(_NOBODY)
            return None
        return client_of(row)

    def is_current(self, client: Client) -> bool:
        """Whether a client that was loaded earlier is still the present row."""
        return (
            self._database.fetch_one(_SQL["is_current"], {"client": client.id, "version": client.version}) is not None
        )

    def list(self) -> list[ClientSummary]:
        """All clients by client_id."""
        return [ClientSummary(*row) for row in self._database.fetch_all(_SQL["list"])]

    def create(
        self,
        client_id: str,
        metadata: ClientMetadata,
        secret: NewSecret | None,
        *,
        registration_token_hash: bytes | None = None,
        share_resources: bool = False,
    ) -> None:
        """Store a client and its first secret.

        Raises ClientExists; ResourceIdentifierTaken unless `share_resources`, which is an operator's to say.
        """
        with self._database.transaction() as connection:
            by_itself = registration_token_hash is not None
            claim_resources(connection, client_id, metadata, share=share_resources, by_itself=by_itself)
            row = columns_of(metadata) | {
                "client_id": client_id,
                "registration_token_hash": registration_token_hash,
            }
            try:
                connection.execute(_SQL["insert"], row)
            except errors.UniqueViolation as error:
                raise ClientExists(client_id) from error
            if any(getattr(metadata, name) not in (None, (), []) for name in _GIVEN):
                connection.execute(_SQL["give"], row)
            if secret is not None:
                connection.execute(_SQL["insert_secret"], secret_row(client_id, secret))

    def replace(
        self, client_id: str, registration_token_hash: bytes, metadata: ClientMetadata, secret: NewSecret
    ) -> bool:
        """Replace what the client may say of itself; tell whether it was given the secret.

        That is if it had keys and now wants a secret; in the other direction its secrets end.
        Raises NoSuchClient, ResourceIdentifierTaken.
        """
        with self._database.transaction() as connection:
            before = self._require_registration(connection, client_id, registration_token_hash)
            claim_resources(connection, client_id, metadata, share=False, by_itself=True)
            connection.execute(_SQL["replace"], columns_of(metadata) | {"client_id": client_id})
            if metadata.token_endpoint_auth_method not in SECRET_METHODS:
                connection.execute(_SQL["delete_secrets"], {"client_id": client_id})
                return False
            if before in SECRET_METHODS:
                return False
            connection.execute(_SQL["insert_secret"], secret_row(client_id, secret))
            return True

    def update(self, client: Client, metadata: ClientMetadata, *, share_resources: bool) -> None:
        """Replace what an operator may say of a client, if it is still as it was loaded.

        Raises ChangedMeanwhile; ResourceIdentifierTaken unless `share_resources`.
        """
        with self._database.transaction() as connection:
            claim_resources(connection, client.client_id, metadata, share=share_resources, by_itself=False)
            row = columns_of(metadata) | {"client": client.id, "version": client.version}
            if connection.execute(_SQL["update"], row).fetchone() is None:
                raise ChangedMeanwhile(client.client_id)

    def replace_keys(self, client_id: str, metadata: ClientMetadata) -> None:
        """Let the client prove itself with the keys of `metadata` only; its secrets end. Raises NoSuchClient."""
        with self._database.transaction() as connection:
            row = columns_of(metadata) | {"client_id": client_id}
            if connection.execute(_SQL["replace_keys"], row).fetchone() is None:
                raise NoSuchClient(client_id)
            connection.execute(_SQL["delete_secrets"], {"client_id": client_id})

    def holds_registration(self, client_id: str, registration_token_hash: bytes) -> None:
        """Return if this is the client's registration access token. Raises NoSuchClient."""
        with self._database.transaction() as connection:
            self._require_registration(connection, client_id, registration_token_hash)

    def delete_registration(self, client_id: str, registration_token_hash: bytes) -> None:
        """Delete the client that holds this registration access token. Raises NoSuchClient."""
        with self._database.transaction() as connection:
            self._require_registration(connection, client_id, registration_token_hash)
            connection.execute(_SQL["delete"], {"client_id": client_id})

    def delete(self, client_id: str) -> None:
        """Delete a client, its secrets and, as they mean nothing without it, its tokens. Raises NoSuchClient."""
        if self._database.fetch_one(_SQL["delete"], {"client_id": client_id}) is None:
            raise NoSuchClient(client_id)

    def revoke_tokens(self, client_id: str) -> None:
        """Make all tokens inactive that were issued to the client before now. Raises NoSuchClient."""
        if self._database.fetch_one(_SQL["revoke_tokens"], {"client_id": client_id}) is None:
            raise NoSuchClient(client_id)

    def add_secret(self, client_id: str, secret: NewSecret) -> None:
        """Give the client one more secret. Raises NoSuchClient, SecretLabelExists."""
        with self._database.transaction() as connection:
            try:
                added = connection.execute(_SQL["insert_secret"], secret_row(client_id, secret)).fetchone()
            except errors.UniqueViolation as error:
                raise SecretLabelExists(secret.label) from error
        if added is None:
            raise NoSuchClient(client_id)

    def remove_secret(self, client_id: str, label: str) -> None:
        """Withdraw one of the client's secrets. Raises NoSuchSecret."""
        if self._database.fetch_one(_SQL["delete_secret"], {"client_id": client_id, "label": label}) is None:
            raise NoSuchSecret(label)

    def note_use(self, client: Client, secret: ClientSecret, now: int, interval: int) -> None:
        """Note that the client has used the secret now, unless a use within the last `interval` seconds is noted."""
        parameters = {"client": client.id, "secret_hash": secret.secret_hash, "now": now, "before": now - interval}
        self._database.fetch_one(_SQL["note_use"], parameters)

    def expiring_secrets(self, now: int, within: int) -> Sequence[ExpiringSecret]:
        """The secrets that are good now and will not be `within` seconds from now, the first to expire first."""
        rows = self._database.fetch_all(_SQL["expiring_secrets"], {"now": now, "until": now + within})
        return [ExpiringSecret(*row) for row in rows]

    @staticmethod
    def _require_registration(connection: Any, client_id: str, registration_token_hash: bytes) -> str:
        """The method that the client authenticates by."""
        if "\0" in client_id:
            raise NoSuchClient("PostgreSQL has no text with NUL, and so no such client")
        parameters = {"client_id": client_id, "registration_token_hash": registration_token_hash}
        row = connection.execute(_SQL["by_registration_token"], parameters).fetchone()
        if row is None:
            raise NoSuchClient(client_id)
        return str(row[0])


def claim_resources(connection: Any, client_id: str, metadata: ClientMetadata, *, share: bool, by_itself: bool) -> None:
    """Return if the client may have its resource identifiers. Raises ResourceIdentifierTaken unless `share`."""
    if not metadata.resource_identifiers:
        return
    # Also for one who shares: whoever may not share must see what is being claimed at this instant.
    connection.execute(_SQL["lock_resource_identifiers"])
    if share:
        return
    claim = {
        "client_id": client_id,
        "resource_identifiers": list(metadata.resource_identifiers),
        "by_itself": by_itself,
    }
    if connection.execute(_SQL["resource_identifier_claimed"], claim).fetchone() is not None:
        raise ResourceIdentifierTaken


def columns_of(metadata: ClientMetadata) -> dict[str, Any]:
    """The columns of a client's metadata, as parameters."""
    return {name: _column(value) for name, value in asdict(metadata).items()}


def _column(value: object) -> object:
    return list(value) if isinstance(value, tuple) else Jsonb(value) if isinstance(value, dict) else value


_NOBODY = (
    *(None,) * 21,
    [{"label": "", "secret_hash": "00" * 32, "created_at": 0, "expires_at": None, "last_used_at": None}],
)


def client_of(row: tuple[Any, ...]) -> Client:
    """The client that a row of `load` is."""
    *columns, secrets = row
    keys = _COLUMN_OF_KEYS
    columns[keys] = RegisteredKeys(columns[keys]) if columns[keys] is not None else None
    return Client(*columns, tuple(_secret(each) for each in secrets))  # type: ignore[call-arg] # mypy counts the star as all


def _secret(value: dict[str, Any]) -> ClientSecret:
    return ClientSecret(**value | {"secret_hash": bytes.fromhex(value["secret_hash"])})


def secret_row(client_id: str, secret: NewSecret) -> dict[str, Any]:
    """The parameters that store a secret."""
    return {
        "client_id": client_id,
        "label": secret.label,
        "secret_hash": secret.secret_hash,
        "expires_at": secret.expires_at,
    }
