"""Rows of `trusted_issuers` and `client_bindings`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import errors
from psycopg.types.json import Jsonb

from authserver.oauth.public_keys import RegisteredKeys
from authserver.oauth.trusted_issuer import TrustedIssuer
from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("trusted_issuers.sql")


class IssuerExists(Exception):
    """An issuer of this name, or of this issuer and audience, is there already."""


class NoSuchIssuer(Exception):
    """There is no issuer of this name (or it has no keys of its own to replace)."""


class SubjectBound(Exception):
    """The subject is bound already: to this client or to another."""


class NoSuchBinding(Exception):
    """There is no such binding; or the client or the issuer to bind is not there."""


@dataclass(frozen=True)
class Binding:
    """A subject of an issuer, and the client that it is."""

    issuer: str
    subject: str
    client_id: str


@dataclass(frozen=True)
class Candidate:
    """An issuer that a token may be of, and what its subject is bound to: the client's id and version, if any."""

    issuer: TrustedIssuer
    subject: str | None
    client_id: str | None
    version: int | None


class TrustedIssuers:
    """The trusted issuers of one database. Every method may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, issuer: str, audiences: Sequence[str], claims: Mapping[str, str]) -> list[Candidate]:
        """The issuers, two at most, that a token of these claims may be of."""
        parameters = {"issuer": issuer, "audiences": list(audiences), "claims": json.dumps(claims)}
        return [Candidate(_issuer(row[:7]), *row[7:]) for row in self._database.fetch_all(_SQL["find"], parameters)]

    def add(self, issuer: TrustedIssuer) -> None:
        """Store an issuer; its id is ignored. Raises IssuerExists."""
        row = {
            "name": issuer.name,
            "issuer": issuer.issuer,
            "audience": issuer.audience,
            "jwks": _keys(issuer.jwks),
            "algorithms": list(issuer.algorithms),
            "subject_claim": issuer.subject_claim,
        }
        with self._database.transaction() as connection:
            try:
                connection.execute(_SQL["insert"], row)
            except errors.UniqueViolation as error:
                raise IssuerExists(error.diag.constraint_name) from error

    def list(self) -> list[TrustedIssuer]:
        """All issuers by name."""
        return [_issuer(row) for row in self._database.fetch_all(_SQL["list"])]

    def get(self, name: str) -> TrustedIssuer:
        """The issuer of a name. Raises NoSuchIssuer."""
        row = self._database.fetch_one(_SQL["by_name"], {"name": name})
        if row is None:
            raise NoSuchIssuer(name)
        return _issuer(row)

    def replace_keys(self, name: str, jwks: RegisteredKeys) -> None:
        """Replace the keys of an issuer that has keys of its own. Raises NoSuchIssuer."""
        if self._database.fetch_one(_SQL["replace_keys"], {"name": name, "jwks": _keys(jwks)}) is None:
            raise NoSuchIssuer(name)

    def remove(self, name: str) -> None:
        """Remove an issuer and all bindings of its subjects. Raises NoSuchIssuer."""
        if self._database.fetch_one(_SQL["delete"], {"name": name}) is None:
            raise NoSuchIssuer(name)

    def bind(self, binding: Binding) -> None:
        """Let a subject of an issuer be a client. Raises SubjectBound, NoSuchBinding."""
        with self._database.transaction() as connection:
            try:
                row = connection.execute(_SQL["bind"], _row(binding)).fetchone()
            except errors.UniqueViolation as error:
                raise SubjectBound(binding.subject) from error
        if row is None:
            raise NoSuchBinding(binding.client_id)

    def unbind(self, binding: Binding) -> None:
        """Let the subject no longer be that client. Raises NoSuchBinding."""
        if self._database.fetch_one(_SQL["unbind"], _row(binding)) is None:
            raise NoSuchBinding(binding.client_id)

    def bindings(self, *, client_id: str = "", issuer: str = "") -> Sequence[Binding]:
        """All bindings, or those of a client or of an issuer."""
        rows = self._database.fetch_all(_SQL["bindings"], {"client_id": client_id, "name": issuer})
        return [Binding(*row) for row in rows]


def _issuer(row: Sequence[Any]) -> TrustedIssuer:
    number, name, issuer, audience, jwks, algorithms, claim = row
    keys = RegisteredKeys(jwks) if jwks is not None else None
    return TrustedIssuer(number, name, issuer, audience, keys, algorithms, claim)


def _keys(jwks: RegisteredKeys | None) -> Jsonb | None:
    return Jsonb(jwks.document) if jwks is not None else None


def _row(binding: Binding) -> dict[str, str]:
    return {"name": binding.issuer, "subject": binding.subject, "client_id": binding.client_id}
