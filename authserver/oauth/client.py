"""A client (RFC 6749 §2) as the server knows it, and the proof that a caller is that client."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from authserver.oauth.credentials import hash_credential
from authserver.oauth.errors import InvalidClient
from authserver.oauth.public_keys import RegisteredKeys

CLIENT_CREDENTIALS = "client_credentials"
INTROSPECT_ANY = "introspect:any"
READ_REVOCATIONS = "revocations:read"
PERMISSIONS = frozenset({INTROSPECT_ANY, READ_REVOCATIONS})
OPAQUE, JWT = "opaque", "jwt"
ACCESS_TOKEN_FORMATS = (OPAQUE, JWT)

# RFC 6749 §2.3.1 lets a client with a secret use either, and so do we, whichever of the two it registered.
SECRET_METHODS = ("client_secret_basic", "client_secret_post")

_NO_SECRET = bytes(32)


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """One of a client's secrets: only its hash is known."""

    label: str
    secret_hash: bytes = field(repr=False)
    created_at: int
    expires_at: int | None
    last_used_at: int | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """A client row as it was at `version`. Times and lifetimes are Unix seconds and seconds."""

    id: int
    client_id: str
    version: int
    client_name: str | None
    grant_types: Sequence[str]
    token_endpoint_auth_method: str
    token_endpoint_auth_signing_alg: str | None
    jwks: RegisteredKeys | None
    jwks_uri: str | None
    scopes: Sequence[str]
    default_scopes: Sequence[str]
    audiences: Sequence[str]
    resource_identifiers: Sequence[str]
    permissions: Sequence[str]
    access_token_lifetime: int | None
    access_token_format: str
    tokens_per_minute: int | None
    tokens_valid_from: int
    created_at: int
    # The set of declared clients that it belongs to, and whether it registered itself.
    managed_by: str | None
    self_registered: bool
    secrets: Sequence[ClientSecret] = ()


@dataclass(frozen=True, slots=True)
class SecretCredential:
    """What a caller presented: an id and a secret, by one of SECRET_METHODS; and from which address."""

    method: str
    client_id: str
    secret: str = field(repr=False)
    address: str = ""


def verify_secret(client: Client | None, credential: SecretCredential, now: int) -> Client:
    """The client, if the credential is a current secret of it. Raises InvalidClient.

    An unknown client costs the same hash and a comparison, so that time does not tell it from a wrong secret.
    """
    presented = hash_credential(credential.secret)
    secrets = client.secrets if client else ()
    if client is None or not secrets:
        hmac.compare_digest(presented, _NO_SECRET)
        raise InvalidClient("unknown client" if client is None else "the client has no secret")
    matched = [secret for secret in secrets if hmac.compare_digest(presented, secret.secret_hash)]
    if not matched:
        raise InvalidClient("wrong secret")
    if all(secret.expires_at is not None and secret.expires_at <= now for secret in matched):
        raise InvalidClient("expired secret")
    if credential.method not in SECRET_METHODS or client.token_endpoint_auth_method not in SECRET_METHODS:
        raise InvalidClient(f"the client is registered for {client.token_endpoint_auth_method}")
    return client


def used_secret(client: Client, credential: SecretCredential) -> ClientSecret | None:
    """Which of its secrets a client, which is verified already, has presented."""
    if len(client.secrets) == 1:
        return client.secrets[0]
    presented = hash_credential(credential.secret)
    return next((s for s in client.secrets if hmac.compare_digest(presented, s.secret_hash)), None)
