"""Clients as a document declares them (docs/clients.md), and the document that declares what there is.

A client's entry says all of it: what it leaves out has its default. Unknown members are refused, as a misspelt one
would otherwise be taken for a default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from authserver.oauth.client import OPAQUE, PERMISSIONS, SECRET_METHODS
from authserver.oauth.client_assertion import PRIVATE_KEY_JWT
from authserver.oauth.credentials import InvalidLabel, check_label
from authserver.oauth.errors import InvalidClientMetadata, InvalidScope
from authserver.oauth.registration import (
    GRANT_TYPES,
    ClientMetadata,
    check_client_id,
    check_metadata,
    metadata_document,
)
from authserver.oauth.scope import parse_scope
from authserver.oauth.trusted_issuer import InvalidIssuer, check_subject, service_account

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: member names and positions."""

MAX_CLIENTS = 10_000
_MANAGED_BY = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MEMBERS = (
    "client_id",
    "client_name",
    "grant_types",
    "scope",
    "default_scope",
    "audiences",
    "resource_identifiers",
    "share_resource_identifiers",
    "permissions",
    "access_token_format",
    "access_token_lifetime",
    "tokens_per_minute",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "jwks",
    "jwks_uri",
    "bindings",
    "secrets",
)
_METHODS = (*SECRET_METHODS, PRIVATE_KEY_JWT)


class InvalidDocument(Exception):
    """The document cannot be as it is; where, and why."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(problem)
        self.place, self.problem = place, problem


@dataclass(frozen=True)
class DeclaredSecret:
    """A secret by its label: it is in a file, or may be made and put there."""

    label: str
    file: str
    generate: bool = False
    expires_at: int | None = None


@dataclass(frozen=True)
class DeclaredClient:
    """One entry. `bindings` are pairs of issuer and subject; `secrets` None: the document does not say."""

    client_id: str
    metadata: ClientMetadata
    bindings: frozenset[tuple[str, str]] = frozenset()
    secrets: Sequence[DeclaredSecret] | None = None
    share_resources: bool = False


@dataclass(frozen=True)
class DeclaredClients:
    """A whole document."""

    managed_by: str | None
    clients: Sequence[DeclaredClient] = field(default_factory=list)


def read_clients(document: object) -> DeclaredClients:
    """What a document declares. Raises InvalidDocument."""
    top = _Members(document, (), ("managed_by", "clients"))
    managed_by = top.get("managed_by", _text)
    if managed_by is not None and not _MANAGED_BY.fullmatch(managed_by):
        raise InvalidDocument(("managed_by",), "must be up to 63 of a-z, 0-9, '.', '_' and '-'")
    entries = top.required("clients", _list)
    if len(entries) > MAX_CLIENTS:
        raise InvalidDocument(("clients",), f"must be at most {MAX_CLIENTS}")
    clients = [_client(entry, ("clients", at)) for at, entry in enumerate(entries)]
    _refuse_repeats("clients", "client_id", [client.client_id for client in clients], ())
    return DeclaredClients(managed_by, clients)


def client_entry(client_id: str, metadata: ClientMetadata, bindings: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The entry that declares a client as it is, but for its secrets."""
    entry = {"client_id": client_id, **metadata_document(metadata)}
    for member in ("permissions", "access_token_lifetime", "tokens_per_minute"):
        entry[member] = getattr(metadata, member)
    if set(metadata.default_scopes) == set(metadata.scopes):
        del entry["default_scope"]
    if metadata.access_token_format == OPAQUE:
        del entry["access_token_format"]
    if metadata.token_endpoint_auth_method == SECRET_METHODS[0]:
        del entry["token_endpoint_auth_method"]
    if set(metadata.grant_types) == GRANT_TYPES:
        del entry["grant_types"]
    entry["bindings"] = [{"issuer": issuer, "subject": subject} for issuer, subject in sorted(bindings)]
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in entry.items()}
    # These are no defaults where they are empty, and are there only if it is meant.
    kept = ("grant_types", "default_scope")
    return {name: value for name, value in listed.items() if name in kept or value not in (None, [], "")}


def _client(entry: object, place: Place) -> DeclaredClient:
    members = _Members(entry, place, _MEMBERS)
    client_id = members.required("client_id", _text)
    scopes = members.get("scope", _scope) or []
    metadata = ClientMetadata(
        client_name=members.get("client_name", _text),
        grant_types=members.get("grant_types", _words_of(GRANT_TYPES), [*GRANT_TYPES]),
        token_endpoint_auth_method=members.get("token_endpoint_auth_method", _word_of(_METHODS), SECRET_METHODS[0]),
        token_endpoint_auth_signing_alg=members.get("token_endpoint_auth_signing_alg", _text),
        jwks=members.get("jwks", _mapping),
        jwks_uri=members.get("jwks_uri", _text),
        scopes=scopes,
        default_scopes=members.get("default_scope", _scope, scopes),
        audiences=members.get("audiences", _texts, []),
        resource_identifiers=members.get("resource_identifiers", _texts, []),
        permissions=members.get("permissions", _words_of(PERMISSIONS), []),
        access_token_lifetime=members.get("access_token_lifetime", _number),
        tokens_per_minute=members.get("tokens_per_minute", _number),
        access_token_format=members.get("access_token_format", _text, OPAQUE),
    )
    try:
        check_client_id(client_id)
        if metadata.access_token_lifetime == 0:
            raise InvalidClientMetadata("access_token_lifetime must be at least 1.")
        check_metadata(metadata)
    except InvalidClientMetadata as error:
        raise InvalidDocument(place, error.description) from None
    secrets = members.get("secrets", _list)
    if secrets and metadata.token_endpoint_auth_method not in SECRET_METHODS:
        raise InvalidDocument((*place, "secrets"), f"a client with {PRIVATE_KEY_JWT} has none")
    read = [_secret(each, (*place, "secrets", at)) for at, each in enumerate(secrets or ())]
    _refuse_repeats("secrets", "label", [secret.label for secret in read], place)
    bindings = [_binding(each, (*place, "bindings", at)) for at, each in enumerate(members.get("bindings", _list, []))]
    return DeclaredClient(
        client_id,
        metadata,
        frozenset(bindings),
        None if secrets is None else read,
        members.get("share_resource_identifiers", _boolean, default=False),
    )


def _secret(entry: object, place: Place) -> DeclaredSecret:
    members = _Members(entry, place, ("label", "file", "generate", "expires_at"))
    label, file = members.required("label", _text), members.required("file", _text)
    try:
        check_label(label)
    except InvalidLabel as error:
        raise InvalidDocument((*place, "label"), str(error)) from None
    if not file or "\0" in file:
        raise InvalidDocument((*place, "file"), "must be the path of a file")
    return DeclaredSecret(
        label, file, members.get("generate", _boolean, default=False), members.get("expires_at", _time)
    )


def _binding(entry: object, place: Place) -> tuple[str, str]:
    members = _Members(entry, place, ("issuer", "subject", "service_account"))
    issuer = members.required("issuer", _text)
    if not issuer.isprintable():
        raise InvalidDocument((*place, "issuer"), "must be the name of a trusted issuer")
    subject, account = members.get("subject", _text), members.get("service_account", _text)
    if (subject is None) == (account is None):
        raise InvalidDocument(place, "must have a subject or a service_account, one of them")
    try:
        subject = service_account(account) if account is not None else str(subject)
        check_subject(subject)
    except InvalidIssuer as error:
        raise InvalidDocument(place, str(error)) from None
    return issuer, subject


class _Members:
    """A mapping that has no members but those that it may have."""

    def __init__(self, value: object, place: Place, allowed: Sequence[str]) -> None:
        self._values, self._place = _mapping(value, place), place
        for name in self._values:
            if name not in allowed:
                raise InvalidDocument((*place, name), f"is unknown here; there are {', '.join(allowed)}")

    def get(self, name: str, read: Callable[[object, Place], Any], default: Any = None) -> Any:
        """The member, or the default where there is none. A null is no way to leave one out."""
        return read(self._values[name], (*self._place, name)) if name in self._values else default

    def required(self, name: str, read: Callable[[object, Place], Any]) -> Any:
        """The member. Raises InvalidDocument where there is none."""
        if name not in self._values:
            raise InvalidDocument(self._place, f"lacks {name}")
        return self.get(name, read)


def _mapping(value: object, place: Place) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidDocument(place, "must be a mapping")
    return value


def _list(value: object, place: Place) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidDocument(place, "must be a list")
    return value


def _text(value: object, place: Place) -> str:
    if not isinstance(value, str):
        raise InvalidDocument(place, "must be a string")
    return value


def _texts(value: object, place: Place) -> list[str]:
    return list(dict.fromkeys(_text(each, (*place, at)) for at, each in enumerate(_list(value, place))))


def _number(value: object, place: Place) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidDocument(place, "must be a whole number")
    return value


def _boolean(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise InvalidDocument(place, "must be true or false")
    return value


def _scope(value: object, place: Place) -> list[str]:
    text = _text(value, place)
    try:
        return parse_scope(text) if text else []
    except InvalidScope as error:
        raise InvalidDocument(place, error.description) from None


def _time(value: object, place: Place) -> int:
    try:
        time = datetime.fromisoformat(_text(value, place))
        if time.tzinfo is not None:
            return int(time.astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        pass
    raise InvalidDocument(place, "must be a time with its offset, such as 2027-01-31T00:00:00Z")


def _word_of(allowed: Sequence[str]) -> Callable[[object, Place], str]:
    def read(value: object, place: Place) -> str:
        if _text(value, place) not in allowed:
            raise InvalidDocument(place, f"must be one of {', '.join(allowed)}")
        return str(value)

    return read


def _words_of(allowed: Iterable[str]) -> Callable[[object, Place], list[str]]:
    words = sorted(allowed)

    def read(value: object, place: Place) -> list[str]:
        return [_word_of(words)(each, (*place, at)) for at, each in enumerate(_texts(value, place))]

    return read


def _refuse_repeats(name: str, member: str, values: Sequence[str], place: Place) -> None:
    seen: set[str] = set()
    for at, value in enumerate(values):
        if value in seen:
            raise InvalidDocument((*place, name, at, member), "is there twice")
        seen.add(value)
