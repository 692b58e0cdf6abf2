"""Clients as a document declares them (docs/clients.md), and the document that declares what there is.

A client's entry says all of it: what it leaves out has its default. Unknown members are refused, as a misspelt one
would otherwise be taken for a default. All mistakes are found, not only the first: who mends one wants no other next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from authserver.oauth.client import ACCESS_TOKEN_FORMATS, OPAQUE, PERMISSIONS, SECRET_METHODS
from authserver.oauth.client_assertion import PRIVATE_KEY_JWT
from authserver.oauth.credentials import InvalidLabel, check_label
from authserver.oauth.errors import InvalidClientMetadata, InvalidScope
from authserver.oauth.public_keys import ALGORITHMS
from authserver.oauth.registration import (
    GRANT_TYPES,
    MAX_BUDGET,
    MAX_LIFETIME,
    ClientMetadata,
    check_client_id,
    metadata_document,
    metadata_problems,
)
from authserver.oauth.resource import is_resource_identifier
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


@dataclass(frozen=True)
class Mistake:
    """Where the document cannot be as it is, and why."""

    place: Place
    problem: str


class InvalidDocument(Exception):
    """The document cannot be as it is; `mistakes` are all that were found."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(*self.mistakes)


@dataclass(frozen=True)
class DeclaredSecret:
    """A secret by its label: it is in a file, or may be made and put there."""

    label: str
    file: str
    generate: bool = False
    expires_at: int | None = None


@dataclass(frozen=True)
class DeclaredClient:
    """One entry. `bindings` are pairs of issuer and subject, as listed; `secrets` None: the document does not say."""

    client_id: str
    metadata: ClientMetadata
    bindings: Sequence[tuple[str, str]] = ()
    secrets: Sequence[DeclaredSecret] | None = None
    share_resources: bool = False


@dataclass(frozen=True)
class DeclaredClients:
    """A whole document."""

    managed_by: str | None
    clients: Sequence[DeclaredClient] = field(default_factory=list)


def read_clients(document: object) -> DeclaredClients:
    """What a document declares. Raises InvalidDocument with all of its mistakes."""
    top = _Members(document, (), ("managed_by", "clients"))
    managed_by = top.get("managed_by", _mark)
    clients = top.required("clients", _clients)
    top.refuse_mistakes()
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


def _clients(value: object, place: Place) -> list[DeclaredClient]:
    entries = _list(value, place)
    if len(entries) > MAX_CLIENTS:
        raise _wrong(place, f"must be at most {MAX_CLIENTS}")
    return _each(_client, entries, place, unique="client_id")


def _client(entry: object, place: Place) -> DeclaredClient:
    members = _Members(entry, place, _MEMBERS)
    client_id = members.required("client_id", _client_id)
    scopes = members.get("scope", _scope) or []
    metadata = ClientMetadata(
        client_name=members.get("client_name", _text),
        grant_types=members.get("grant_types", _words_of(GRANT_TYPES), [*GRANT_TYPES]),
        token_endpoint_auth_method=members.get("token_endpoint_auth_method", _word_of(_METHODS), SECRET_METHODS[0]),
        token_endpoint_auth_signing_alg=members.get("token_endpoint_auth_signing_alg", _word_of(ALGORITHMS)),
        jwks=members.get("jwks", _mapping),
        jwks_uri=members.get("jwks_uri", _text),
        scopes=scopes,
        default_scopes=members.get("default_scope", _scope, scopes),
        audiences=members.get("audiences", _uris, []),
        resource_identifiers=members.get("resource_identifiers", _uris, []),
        permissions=members.get("permissions", _words_of(PERMISSIONS), []),
        access_token_lifetime=members.get("access_token_lifetime", _lifetime),
        tokens_per_minute=members.get("tokens_per_minute", _budget),
        access_token_format=members.get("access_token_format", _word_of(ACCESS_TOKEN_FORMATS), OPAQUE),
    )
    secrets = members.get("secrets", _secrets)
    bindings = members.get("bindings", _bindings, [])
    share_resources = members.get("share_resource_identifiers", _boolean, default=False)
    if members.are_right:  # or a default in the place of a mistake would seem to be another one
        for problem in metadata_problems(metadata):
            members.note(place, problem)
        if secrets and metadata.token_endpoint_auth_method not in SECRET_METHODS:
            members.note((*place, "secrets"), f"a client with {PRIVATE_KEY_JWT} has none")
    members.refuse_mistakes()
    return DeclaredClient(client_id, metadata, bindings, secrets, share_resources)


def _secrets(value: object, place: Place) -> list[DeclaredSecret]:
    return _each(_secret, _list(value, place), place, unique="label")


def _secret(entry: object, place: Place) -> DeclaredSecret:
    members = _Members(entry, place, ("label", "file", "generate", "expires_at"))
    label, file = members.required("label", _label), members.required("file", _path)
    generate, expires_at = members.get("generate", _boolean, default=False), members.get("expires_at", _time)
    members.refuse_mistakes()
    return DeclaredSecret(label, file, generate, expires_at)


def _bindings(value: object, place: Place) -> list[tuple[str, str]]:
    return _each(_binding, _list(value, place), place)


def _binding(entry: object, place: Place) -> tuple[str, str]:
    members = _Members(entry, place, ("issuer", "subject", "service_account"))
    issuer = members.required("issuer", _issuer_name)
    subject, account = members.get("subject", _text), members.get("service_account", _text)
    if members.are_right:
        try:
            if (subject is None) == (account is None):
                raise InvalidIssuer("must have a subject or a service_account, one of them")
            subject = service_account(account) if account is not None else str(subject)
            check_subject(subject)
        except InvalidIssuer as error:
            members.note(place, str(error))
    members.refuse_mistakes()
    return issuer, str(subject)


class _Mistakes:
    """Collects, so that reading goes on after a mistake."""

    def __init__(self) -> None:
        self._found: list[Mistake] = []

    @property
    def are_right(self) -> bool:
        """Whether there is none up to now."""
        return not self._found

    def note(self, place: Place, problem: str) -> None:
        """There is one."""
        self._found.append(Mistake(place, problem))

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note those that are raised in here, and go on."""
        try:
            yield
        except InvalidDocument as error:
            self._found += error.mistakes

    def refuse_mistakes(self) -> None:
        """Raise InvalidDocument if there are any."""
        if self._found:
            raise InvalidDocument(self._found)


class _Members(_Mistakes):
    """A mapping that has no members but those that it may have, and the mistakes in it."""

    def __init__(self, value: object, place: Place, allowed: Sequence[str]) -> None:
        super().__init__()
        self._values, self._place = _mapping(value, place), place
        for name in self._values:
            if name not in allowed:
                self.note((*place, name), f"is unknown here; there are {', '.join(allowed)}")

    def get(self, name: str, read: Callable[[object, Place], Any], default: Any = None) -> Any:
        """The member, or the default where there is none or a wrong one. A null is no way to leave one out."""
        if name in self._values:
            with self.noted():
                return read(self._values[name], (*self._place, name))
        return default

    def required(self, name: str, read: Callable[[object, Place], Any]) -> Any:
        """The member; where there is none, that is a mistake."""
        if name not in self._values:
            self.note(self._place, f"lacks {name}")
        return self.get(name, read)


def _each(
    read: Callable[[object, Place], Any], values: Sequence[object], place: Place, *, unique: str | None = None
) -> list[Any]:
    """What is read of each value; of the member `unique` no two may have the same. Raises InvalidDocument."""
    mistakes, found, seen = _Mistakes(), [], set()
    for at, value in enumerate(values):
        with mistakes.noted():
            found.append(read(value, (*place, at)))
        name = value.get(unique) if unique and isinstance(value, dict) else None
        if isinstance(name, str):
            if name in seen:
                mistakes.note((*place, at, str(unique)), "is there twice")
            seen.add(name)
    mistakes.refuse_mistakes()
    return found


def _wrong(place: Place, problem: str) -> InvalidDocument:
    return InvalidDocument([Mistake(place, problem)])


def _mapping(value: object, place: Place) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, "must be a mapping")
    return value


def _list(value: object, place: Place) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(place, "must be a list")
    return value


def _text(value: object, place: Place) -> str:
    if not isinstance(value, str):
        raise _wrong(place, "must be a string")
    return value


def _uris(value: object, place: Place) -> list[str]:
    return list(dict.fromkeys(_each(_uri, _list(value, place), place)))


def _uri(value: object, place: Place) -> str:
    uri = _text(value, place)
    if not is_resource_identifier(uri):
        raise _wrong(place, "must be an absolute URI without a fragment")
    return uri


def _mark(value: object, place: Place) -> str:
    mark = _text(value, place)
    if not _MANAGED_BY.fullmatch(mark):
        raise _wrong(place, "must be up to 63 of a-z, 0-9, '.', '_' and '-'")
    return mark


def _client_id(value: object, place: Place) -> str:
    try:
        return check_client_id(_text(value, place))
    except InvalidClientMetadata as error:
        raise _wrong(place, error.description) from None


def _label(value: object, place: Place) -> str:
    label = _text(value, place)
    try:
        check_label(label)
    except InvalidLabel as error:
        raise _wrong(place, str(error)) from None
    return label


def _path(value: object, place: Place) -> str:
    path = _text(value, place)
    if not path or "\0" in path:
        raise _wrong(place, "must be the path of a file")
    return path


def _issuer_name(value: object, place: Place) -> str:
    name = _text(value, place)
    if not name.isprintable():
        raise _wrong(place, "must be the name of a trusted issuer")
    return name


def _lifetime(value: object, place: Place) -> int:
    return _number(value, place, 1, MAX_LIFETIME, " seconds")


def _budget(value: object, place: Place) -> int:
    return _number(value, place, 0, MAX_BUDGET)


def _number(value: object, place: Place, least: int, most: int, unit: str = "") -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(place, f"must be from {least} to {most}{unit}, as a whole number")
    return value


def _boolean(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise _wrong(place, "must be true or false")
    return value


def _scope(value: object, place: Place) -> list[str]:
    text = _text(value, place)
    try:
        return parse_scope(text) if text else []
    except InvalidScope as error:
        raise _wrong(place, error.description) from None


def _time(value: object, place: Place) -> int:
    try:
        time = datetime.fromisoformat(_text(value, place))
        if time.tzinfo is not None:
            return int(time.astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        pass
    raise _wrong(place, "must be a time with its offset, such as 2027-01-31T00:00:00Z")


def _word_of(allowed: Sequence[str]) -> Callable[[object, Place], str]:
    def read(value: object, place: Place) -> str:
        if _text(value, place) not in allowed:
            raise _wrong(place, f"must be one of {', '.join(allowed)}")
        return str(value)

    return read


def _words_of(allowed: Iterable[str]) -> Callable[[object, Place], list[str]]:
    words = sorted(allowed)

    def read(value: object, place: Place) -> list[str]:
        return list(dict.fromkeys(_each(_word_of(words), _list(value, place), place)))

    return read
