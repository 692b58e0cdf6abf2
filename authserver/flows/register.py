"""Register clients (RFC 7591), let them manage their registration (RFC 7592), and let an operator make them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authserver.fetch.documents import FetchFailed
from authserver.flows.server import AuthorizationServer
from authserver.oauth import credentials
from authserver.oauth.client import JWT, SECRET_METHODS, Client
from authserver.oauth.credentials import hash_credential, make_credential
from authserver.oauth.errors import InvalidClientMetadata, InvalidRequest, InvalidToken
from authserver.oauth.metadata import REGISTER
from authserver.oauth.registration import (
    ClientMetadata,
    check_client_id,
    check_metadata,
    metadata_document,
    metadata_of,
    read_metadata,
)
from authserver.store.clients import NewSecret, NoSuchClient, ResourceIdentifierTaken

FIRST_SECRET = "first"  # noqa: S105 - the label of the secret made with the client

# The server's to say; a client that sends them back has misread RFC 7592 §2.2.
_NOT_FOR_UPDATE = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)


@dataclass(frozen=True)
class NewClient:
    """A client that was just made: the only moment at which its secret is known."""

    client_id: str
    secret: str | None = field(repr=False)


def create_client(
    server: AuthorizationServer,
    client_id: str,
    metadata: ClientMetadata,
    *,
    with_secret: bool = True,
    share_resources: bool = False,
) -> NewClient:
    """Make a client as an operator, under a name of the operator's choice.

    Raises InvalidClientMetadata, ClientExists, ResourceIdentifierTaken (unless `share_resources`), Unavailable.
    """
    check_client_id(client_id)
    require_offered(server, check_metadata(metadata))
    secret = make_credential(credentials.CLIENT_SECRET, server.random) if with_secret else None
    row = NewSecret(FIRST_SECRET, hash_credential(secret)) if secret else None
    server.clients.create(client_id, metadata, row, share_resources=share_resources)
    return NewClient(client_id, secret)


def add_secret(server: AuthorizationServer, client_id: str, label: str, expires_at: int | None) -> str:
    """Give a client one more secret, good until `expires_at` (Unix seconds; None: until it is removed).

    Raises NoSuchClient, SecretLabelExists, Unavailable; InvalidLabel; InvalidClientMetadata for a client that has
    keys instead.
    """
    credentials.check_label(label)
    client = server.clients.load(client_id)
    if client is not None and client.token_endpoint_auth_method not in SECRET_METHODS:
        raise InvalidClientMetadata(f"The client is registered for {client.token_endpoint_auth_method}.")
    secret = make_credential(credentials.CLIENT_SECRET, server.random)
    server.clients.add_secret(client_id, NewSecret(label, hash_credential(secret), expires_at))
    return secret


def require_initial_access_token(server: AuthorizationServer, token: str, address: str) -> None:
    """Return if the operator made this initial access token, in the environment or with the command line.

    Raises InvalidToken, Throttled, Unavailable.
    """
    presented = hash_credential(token)
    configured = server.policy.initial_access_token_hash
    if configured is not None and secrets.compare_digest(presented, configured):
        return
    now = server.now()

    def ask() -> None:
        if not server.initial_access_tokens.is_good(presented, now):
            raise InvalidToken("not an initial access token")

    server.throttle.bearer("registration", address, now, ask)


def register(server: AuthorizationServer, document: Mapping[str, Any]) -> dict[str, Any]:
    """Register a client and give the client information response (RFC 7591 §3.2.1).

    Whether the caller may register is for `require_initial_access_token` to say, first.
    Raises InvalidClientMetadata, Unavailable.
    """
    metadata = require_offered(server, read_metadata(document))
    # Chosen here and of one shape, so that no client can name itself like another party (RFC 9700 §4.15).
    client_id = f"client-{server.random(16).hex()}"
    with_secret = metadata.token_endpoint_auth_method in SECRET_METHODS
    secret = make_credential(credentials.CLIENT_SECRET, server.random)
    registration_token = make_credential(credentials.REGISTRATION_ACCESS_TOKEN, server.random)
    try:
        server.clients.create(
            client_id,
            metadata,
            NewSecret(FIRST_SECRET, hash_credential(secret)) if with_secret else None,
            registration_token_hash=hash_credential(registration_token),
        )
    except ResourceIdentifierTaken:
        raise _taken() from None
    client = _load(server, client_id)
    return _information(server, client, registration_token) | ({"client_secret": secret} if with_secret else {})


def read_registration(server: AuthorizationServer, client_id: str, registration_token: str) -> dict[str, Any]:
    """What the client is registered with (RFC 7592 §2.1). Raises InvalidToken, Unavailable."""
    try:
        server.clients.holds_registration(client_id, hash_credential(registration_token))
    except NoSuchClient:
        raise _not_its_token() from None
    return _information(server, _load(server, client_id), registration_token)


def replace_registration(
    server: AuthorizationServer, client_id: str, registration_token: str, document: Mapping[str, Any]
) -> dict[str, Any]:
    """Replace the client's metadata as a whole (RFC 7592 §2.2); what is left out is reset to its default.

    Raises InvalidToken, InvalidRequest, InvalidClientMetadata, Unavailable.
    """
    current = read_registration(server, client_id, registration_token)
    if document.get("client_id") != current["client_id"]:
        raise InvalidRequest("client_id must be the client's own.")
    if any(member in document for member in _NOT_FOR_UPDATE):
        raise InvalidRequest("The request holds a member that only the server may set.")
    if "client_secret" in document:
        _require_own_secret(_load(server, client_id), document["client_secret"])
    metadata = require_offered(server, read_metadata(document))
    secret = make_credential(credentials.CLIENT_SECRET, server.random)
    try:
        given = server.clients.replace(
            client_id,
            hash_credential(registration_token),
            metadata,
            NewSecret(FIRST_SECRET, hash_credential(secret)),
        )
    except NoSuchClient:
        raise _not_its_token() from None
    except ResourceIdentifierTaken:
        raise _taken() from None
    information = _information(server, _load(server, client_id), registration_token)
    return information | ({"client_secret": secret} if given else {})


def delete_registration(server: AuthorizationServer, client_id: str, registration_token: str) -> None:
    """Delete the client; its secrets, its tokens and its registration token die at once (RFC 7592 §2.3).

    Raises InvalidToken, Unavailable.
    """
    try:
        server.clients.delete_registration(client_id, hash_credential(registration_token))
    except NoSuchClient:
        raise _not_its_token() from None


def replace_keys(server: AuthorizationServer, client_id: str, metadata: ClientMetadata) -> None:
    """Let a client prove itself with other keys, as an operator; the ones before and all secrets end at once.

    Raises NoSuchClient, InvalidClientMetadata, Unavailable.
    """
    server.clients.replace_keys(client_id, require_offered(server, check_metadata(metadata)))


def require_offered(server: AuthorizationServer, metadata: ClientMetadata) -> ClientMetadata:
    """The metadata itself, if this server as it is configured can do what it asks for."""
    if metadata.access_token_format == JWT and not server.policy.signs:
        raise InvalidClientMetadata("This server issues no JWT access tokens.")
    if metadata.jwks_uri is not None:
        try:
            server.fetcher.check_url(metadata.jwks_uri)
        except FetchFailed as error:
            raise InvalidClientMetadata(f"jwks_uri cannot be used: {error}.") from None
    return metadata


def _load(server: AuthorizationServer, client_id: str) -> Client:
    client = server.clients.load(client_id)
    if client is None:
        raise _not_its_token()
    return client


def _require_own_secret(client: Client, given: object) -> None:
    presented = hash_credential(given) if isinstance(given, str) else b""
    if not any(secrets.compare_digest(presented, secret.secret_hash) for secret in client.secrets):
        raise InvalidRequest("A client cannot choose its secret.")


def _information(server: AuthorizationServer, client: Client, registration_token: str) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "client_id_issued_at": client.created_at,
        # 0: never (RFC 7591 §3.2.1). Of several secrets the one that lasts longest counts; a client with keys has none.
        **({"client_secret_expires_at": _last_expiry(client)} if _uses_secrets(client) else {}),
        "registration_access_token": registration_token,
        "registration_client_uri": f"{server.policy.issuer}{REGISTER}/{client.client_id}",
        **metadata_document(metadata_of(client)),
    }


def _uses_secrets(client: Client) -> bool:
    return client.token_endpoint_auth_method in SECRET_METHODS


def _last_expiry(client: Client) -> int:
    expiries = [secret.expires_at for secret in client.secrets]
    return 0 if None in expiries else max((e for e in expiries if e is not None), default=0)


def _not_its_token() -> InvalidToken:
    return InvalidToken("not the registration access token of this client")


def _taken() -> InvalidClientMetadata:
    return InvalidClientMetadata("resource_identifiers holds one that belongs to another client.")
