"""Client metadata (RFC 7591 §2): what a registration may say, and what the answer repeats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from authserver.oauth.client import ACCESS_TOKEN_FORMATS, CLIENT_CREDENTIALS, JWT, OPAQUE, SECRET_METHODS, Client
from authserver.oauth.client_assertion import PRIVATE_KEY_JWT
from authserver.oauth.errors import InvalidClientMetadata, InvalidScope
from authserver.oauth.public_keys import ALGORITHMS, InvalidKeySet, read_key_set
from authserver.oauth.resource import MAX_RESOURCES, is_resource_identifier
from authserver.oauth.scope import parse_scope

MAX_NAME = 200
MAX_LIFETIME = 86400  # seconds
MAX_BUDGET = 1_000_000  # tokens per minute
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,255}")
GRANT_TYPES = frozenset({CLIENT_CREDENTIALS})


@dataclass(frozen=True)
class ClientMetadata:
    """What a client is registered with. Permissions, token lifetime and budget are an operator's to give."""

    client_name: str | None = None
    grant_types: Sequence[str] = (CLIENT_CREDENTIALS,)
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105 - the name of a method
    token_endpoint_auth_signing_alg: str | None = None
    jwks: Mapping[str, Any] | None = None
    jwks_uri: str | None = None
    scopes: Sequence[str] = ()
    default_scopes: Sequence[str] = ()
    audiences: Sequence[str] = ()
    resource_identifiers: Sequence[str] = ()
    permissions: Sequence[str] = ()
    access_token_lifetime: int | None = None
    tokens_per_minute: int | None = None
    access_token_format: str = OPAQUE


def read_metadata(document: Mapping[str, Any]) -> ClientMetadata:
    """The metadata that a client gives of itself; members this server does not know are ignored (RFC 7591 §2).

    A null is a member left out (RFC 7592 §2.2). Raises InvalidClientMetadata, naming the member.
    """
    document = {member: value for member, value in document.items() if value is not None}
    if document.get("permissions"):
        raise InvalidClientMetadata("permissions are given by an operator, not by registration.")
    scopes = _scope(document, "scope")
    method = document.get("token_endpoint_auth_method", SECRET_METHODS[0])
    if method not in (*SECRET_METHODS, PRIVATE_KEY_JWT):
        raise InvalidClientMetadata("token_endpoint_auth_method is not one that this server supports.")
    if method == PRIVATE_KEY_JWT and "jwks" not in document and "jwks_uri" not in document:
        raise InvalidClientMetadata("private_key_jwt needs jwks or jwks_uri.")
    grant_types = _strings(document, "grant_types", [CLIENT_CREDENTIALS])
    if not GRANT_TYPES.issuperset(grant_types):
        raise InvalidClientMetadata("grant_types holds one that this server does not support.")
    default_scopes = _scope(document, "default_scope") if "default_scope" in document else scopes
    return check_metadata(
        ClientMetadata(
            client_name=document.get("client_name"),
            grant_types=grant_types,
            token_endpoint_auth_method=method,
            token_endpoint_auth_signing_alg=document.get("token_endpoint_auth_signing_alg"),
            jwks=document.get("jwks"),
            jwks_uri=document.get("jwks_uri"),
            scopes=scopes,
            default_scopes=default_scopes,
            audiences=_strings(document, "audiences", []),
            resource_identifiers=_strings(document, "resource_identifiers", []),
            access_token_format=document.get("access_token_format", OPAQUE),
        )
    )


def check_client_id(client_id: str) -> str:
    """The client_id itself, if an operator may choose it (RFC 6749 Appendix A.1).

    Raises InvalidClientMetadata.
    """
    if not _CLIENT_ID.fullmatch(client_id):
        raise InvalidClientMetadata("client_id must be 1 to 255 printable ASCII characters.")
    return client_id


def check_metadata(metadata: ClientMetadata) -> ClientMetadata:
    """The metadata itself, if its parts fit together, whoever gave them. Raises InvalidClientMetadata."""
    if problem := next(metadata_problems(metadata), None):
        raise InvalidClientMetadata(problem)
    return metadata


def metadata_problems(metadata: ClientMetadata) -> Iterator[str]:
    """Each reason, if any, why metadata cannot be as they are: a sentence that names the member."""
    name = metadata.client_name
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable()):
        yield f"client_name must be 1 to {MAX_NAME} printable characters."
    if not set(metadata.default_scopes) <= set(metadata.scopes):
        yield "default_scope goes beyond scope."
    if not 1 <= (metadata.access_token_lifetime or 1) <= MAX_LIFETIME:
        yield "access_token_lifetime must be at most 24h."
    if not 0 <= (metadata.tokens_per_minute or 0) <= MAX_BUDGET:
        yield f"tokens_per_minute must be from 0 to {MAX_BUDGET}."
    if metadata.access_token_format not in ACCESS_TOKEN_FORMATS:
        yield "access_token_format must be opaque or jwt."
    # RFC 9068 §2.2 requires an audience, and a token for nobody in particular would be one for everybody.
    if metadata.access_token_format == JWT and metadata.grant_types and not metadata.audiences:
        yield "A client with JWT access tokens needs at least one of audiences."
    try:
        _check_keys(metadata)
    except InvalidClientMetadata as error:
        yield error.description
    for member in ("audiences", "resource_identifiers"):
        values = getattr(metadata, member)
        if len(values) > MAX_RESOURCES or not all(is_resource_identifier(value) for value in values):
            yield f"{member} must be at most {MAX_RESOURCES} absolute URIs without a fragment."


def metadata_of(client: Client) -> ClientMetadata:
    """What the client is registered with."""
    values = {each.name: getattr(client, each.name) for each in fields(ClientMetadata)}
    return ClientMetadata(**values | {"jwks": client.jwks.document if client.jwks else None})


def metadata_document(metadata: ClientMetadata) -> dict[str, Any]:
    """The members as they were registered (RFC 7591 §3.2.1)."""
    document: dict[str, Any] = {
        "grant_types": list(metadata.grant_types),
        "token_endpoint_auth_method": metadata.token_endpoint_auth_method,
        "scope": " ".join(metadata.scopes),
        "default_scope": " ".join(metadata.default_scopes),
        "audiences": list(metadata.audiences),
        "resource_identifiers": list(metadata.resource_identifiers),
        "access_token_format": metadata.access_token_format,
    }
    for member in ("client_name", "token_endpoint_auth_signing_alg", "jwks", "jwks_uri"):
        if (value := getattr(metadata, member)) is not None:
            document[member] = value
    return document


def _check_keys(metadata: ClientMetadata) -> None:
    """RFC 7591 §2: keys are in one place, public, good enough. What is at a URL is judged when it is fetched."""
    jwks, uri, algorithm = metadata.jwks, metadata.jwks_uri, metadata.token_endpoint_auth_signing_alg
    if metadata.token_endpoint_auth_method != PRIVATE_KEY_JWT and (jwks, uri, algorithm) != (None, None, None):
        raise InvalidClientMetadata(f"jwks, jwks_uri and token_endpoint_auth_signing_alg are for {PRIVATE_KEY_JWT}.")
    if jwks is not None and uri is not None:
        raise InvalidClientMetadata("jwks and jwks_uri exclude each other.")
    if uri is not None and not isinstance(uri, str):
        raise InvalidClientMetadata("jwks_uri must be a URL.")
    if algorithm not in (None, *ALGORITHMS):
        raise InvalidClientMetadata(f"token_endpoint_auth_signing_alg must be one of {', '.join(ALGORITHMS)}.")
    if jwks is None:
        return
    try:
        keys = read_key_set(jwks).keys
    except InvalidKeySet as error:
        raise InvalidClientMetadata(f"jwks {error}.") from None
    if algorithm is not None and not any(algorithm in key.algorithms for key in keys):
        raise InvalidClientMetadata("jwks holds no key for token_endpoint_auth_signing_alg.")


def _scope(document: Mapping[str, Any], member: str) -> list[str]:
    value = document.get(member, "")
    if not isinstance(value, str):
        raise InvalidClientMetadata(f"{member} must be a string.")
    try:
        return parse_scope(value) if value else []
    except InvalidScope:
        raise InvalidClientMetadata(f"{member} is malformed.") from None


def _strings(document: Mapping[str, Any], member: str, default: list[str]) -> list[str]:
    value = document.get(member, default)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidClientMetadata(f"{member} must be an array of strings.")
    return list(dict.fromkeys(value))
