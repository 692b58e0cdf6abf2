"""Bring the clients to what a document declares, in one transaction; or say what that would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from authserver.flows.register import require_offered
from authserver.flows.server import AuthorizationServer
from authserver.oauth.client import SECRET_METHODS, Client
from authserver.oauth.client_assertion import PRIVATE_KEY_JWT
from authserver.oauth.client_document import DeclaredClient, DeclaredClients, DeclaredSecret, Mistake, Place
from authserver.oauth.credentials import CLIENT_SECRET, hash_credential, make_credential
from authserver.oauth.errors import InvalidClientMetadata
from authserver.oauth.registration import ClientMetadata, metadata_of
from authserver.store.client_changes import ClientChanges, client_changes
from authserver.store.clients import ClientExists, NewSecret, ResourceIdentifierTaken
from authserver.store.trusted_issuers import NoSuchBinding, SubjectBound

CREATE, UPDATE, DELETE = "create", "update", "delete"


_MEMBERS = {"scopes": "scope", "default_scopes": "default_scope"}  # where the document has another name


class CannotApply(Exception):
    """Clients cannot be as they are declared; `mistakes` are all that were found."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(*mistakes)
        self.mistakes = mistakes


@dataclass(frozen=True)
class Detail:
    """One thing that changes, as the document names it. `ends` something that works now, if it is so."""

    what: str
    before: Any = None
    after: Any = None
    ends: bool = False


@dataclass(frozen=True)
class Change:
    """What is done to one client."""

    client_id: str
    action: str
    details: Sequence[Detail] = ()

    @property
    def ends(self) -> bool:
        """Whether something stops working that works now."""
        return self.action == DELETE or any(detail.ends for detail in self.details)


@dataclass(frozen=True)
class Applied:
    """What was done, or would be; and where the document declares clients that then have no credential."""

    changes: Sequence[Change]
    without_credential: Sequence[Place]


@dataclass(frozen=True)
class SecretFiles:
    """What is in the files that a document names: by path, or nothing for one that is not there."""

    values: Mapping[str, str | None] = field(repr=False)
    # Puts a new secret into a file that is not there.
    write: Callable[[str, str], None]
    # What was written is to stay from now on, whatever happens.
    keep: Callable[[], None]


def apply_clients(
    server: AuthorizationServer,
    declared: DeclaredClients,
    files: SecretFiles,
    *,
    prune: bool,
    keep: bool = True,
    agreed: Callable[[Sequence[Change]], None] = lambda _changes: None,
) -> Applied:
    """Do it, and give what was done: all of it or, if anything raises, nothing. Without `keep` it is undone at once.

    `agreed` is given the changes before they commit and may raise. New secrets are written to their files before, too:
    a secret that nobody could learn would be worse than a file too many.
    Raises CannotApply, Unavailable.
    """
    with client_changes(server.database, keep=keep) as changes:
        application = _Application(server, changes, declared, files)
        done = application.run(prune=prune)
        agreed(done.changes)
        if keep:
            for path, secret in application.made.items():
                files.write(path, secret)
            # What is perhaps committed must not be without its secrets; the next run takes the files as they are.
            files.keep()
    for event, facts in application.events if keep else ():
        server.audit.tell(event, **facts)
    return done


class _Application:
    def __init__(
        self, server: AuthorizationServer, changes: ClientChanges, declared: DeclaredClients, files: SecretFiles
    ) -> None:
        self._server, self._changes, self._declared, self._files = server, changes, declared, files
        self._places = {client.client_id: ("clients", at) for at, client in enumerate(declared.clients)}
        self._mistakes: list[Mistake] = []
        self._without_credential: list[Place] = []
        # New secrets, by the file that is to hold each.
        self.made: dict[str, str] = {}
        # What is to be audited when it is committed.
        self.events: list[tuple[str, dict[str, Any]]] = []

    def run(self, *, prune: bool) -> Applied:
        """All that is to be done. It goes on after a mistake, to find the others. Raises CannotApply."""
        wanted = {client.client_id: client for client in self._declared.clients}
        managed = self._changes.lock([*wanted], self._declared.managed_by)
        present = {client_id: self._present(client_id) for client_id in wanted}
        done = []
        for client_id in [name for name in managed if prune and name not in wanted]:
            self._changes.delete(client_id)
            self._note("client.deleted", client_id, self_managed=False)
            done.append(Change(client_id, DELETE))
        for client_id, client in present.items():
            given = wanted[client_id].metadata.resource_identifiers
            if client is not None and not set(client.resource_identifiers) <= set(given):
                kept = [each for each in client.resource_identifiers if each in given]
                self._changes.release_resources(client_id, kept)
        # A subject moves from one client to another only if the one lets go first.
        bound = {client_id: self._changes.bindings(client_id) for client_id in wanted}
        for client_id, declared in wanted.items():
            for issuer, subject in sorted(bound[client_id] - {*declared.bindings}):
                self._changes.unbind(client_id, issuer, subject)
                self._note("client.unbound", client_id, issuer_name=issuer, subject=subject)
        for client_id, declared in wanted.items():
            change = self._client(declared, present[client_id], bound[client_id])
            if change is not None:
                done.append(change)
        if self._mistakes:
            raise CannotApply(self._mistakes)
        return Applied(done, self._without_credential)

    def _refuse(self, client_id: str, problem: str, *member: str | int) -> None:
        self._mistakes.append(Mistake((*self._places[client_id], *member), problem))

    def _present(self, client_id: str) -> Client | None:
        client = self._changes.load(client_id)
        if client is None:
            return None
        if client.self_registered:
            self._refuse(client_id, "it registered itself, and manages its registration; delete it first")
        if self._declared.managed_by and client.managed_by not in (None, self._declared.managed_by):
            self._refuse(client_id, f"it is managed by '{client.managed_by}'")
        return client

    def _client(
        self, declared: DeclaredClient, present: Client | None, bound: frozenset[tuple[str, str]]
    ) -> Change | None:
        before = ClientMetadata() if present is None else metadata_of(present)
        details = [*_differences(before, declared.metadata)]
        if self._declared.managed_by and (present is None or present.managed_by != self._declared.managed_by):
            details.append(Detail("managed_by", present.managed_by if present else None, self._declared.managed_by))
        if present is None:
            self._create(declared)
        if details:
            self._declare(declared, before)
        details += self._bindings(declared, bound)
        details += self._secrets(declared, present)
        if not self._has_credential(declared, present):
            self._without_credential.append(self._places[declared.client_id])
        if present is None:
            return Change(declared.client_id, CREATE, details)
        if not details:
            return None
        self._note("client.updated", declared.client_id, self_managed=False)
        return Change(declared.client_id, UPDATE, details)

    def _has_credential(self, declared: DeclaredClient, present: Client | None) -> bool:
        """Whether it can authenticate when this is done."""
        if declared.bindings:
            return True
        if declared.metadata.token_endpoint_auth_method == PRIVATE_KEY_JWT:
            return declared.metadata.jwks is not None or declared.metadata.jwks_uri is not None
        left = present.secrets if present and declared.secrets is None else declared.secrets or ()
        now = self._server.now()
        return any(secret.expires_at is None or secret.expires_at > now for secret in left)

    def _note(self, event: str, client_id: str, **facts: Any) -> None:
        self.events.append((event, {"client_id": client_id, **facts}))

    def _create(self, declared: DeclaredClient) -> None:
        client_id = declared.client_id
        try:
            self._changes.create(client_id)
        except ClientExists:  # and the transaction cannot go on
            self._refuse(client_id, "it was made by another command at the same moment: try again")
            raise CannotApply(self._mistakes) from None
        method = declared.metadata.token_endpoint_auth_method
        self._note("client.created", client_id, auth_method=method, self_registered=False)

    def _declare(self, declared: DeclaredClient, before: ClientMetadata) -> None:
        after = declared.metadata
        try:
            if (after.access_token_format, after.jwks_uri) != (before.access_token_format, before.jwks_uri):
                require_offered(self._server, after)
            self._changes.declare(declared.client_id, after, self._declared.managed_by, share=declared.share_resources)
        except InvalidClientMetadata as error:
            self._refuse(declared.client_id, error.description)
        except ResourceIdentifierTaken:
            self._refuse(
                declared.client_id,
                "another client has one of them; share_resource_identifiers: true if both should",
                "resource_identifiers",
            )

    def _bindings(self, declared: DeclaredClient, bound: frozenset[tuple[str, str]]) -> list[Detail]:
        wanted = {binding: at for at, binding in reversed([*enumerate(declared.bindings)])}
        for issuer, subject in sorted(wanted.keys() - bound):
            place = ("bindings", wanted[issuer, subject])
            try:
                self._changes.bind(declared.client_id, issuer, subject)
            except SubjectBound:
                self._refuse(declared.client_id, f"{subject!r} is bound to another client", *place)
            except NoSuchBinding:
                self._refuse(
                    declared.client_id,
                    f"there is no trusted issuer {issuer!r}: see 'authserver issuer list', or add it with "
                    "'authserver issuer add ISSUER --name NAME --audience AUDIENCE'",
                    *place,
                    "issuer",
                )
            self._note("client.bound", declared.client_id, issuer_name=issuer, subject=subject)
        return [
            *(Detail(f"binding {i} {s}", "bound", ends=True) for i, s in sorted(bound - wanted.keys())),
            *(Detail(f"binding {i} {s}", None, "bound") for i, s in sorted(wanted.keys() - bound)),
        ]

    def _secrets(self, declared: DeclaredClient, present: Client | None) -> list[Detail]:
        wanted = declared.secrets
        if declared.metadata.token_endpoint_auth_method not in SECRET_METHODS:
            wanted = ()  # its keys take their place
        if wanted is None:
            return []
        stored = {secret.label: secret for secret in (present.secrets if present else ())}
        details = []
        for label in sorted(stored.keys() - {secret.label for secret in wanted}):
            self._remove_secret(declared.client_id, label)
            details.append(Detail(f"secret {label}", "there", ends=True))
        for secret in wanted:
            known, value = stored.get(secret.label), self._files.values[secret.file]
            if known is None or (value is not None and hash_credential(value) != known.secret_hash):
                details.append(self._put_secret(declared.client_id, secret, value, replace=known is not None))
            elif known.expires_at != secret.expires_at:
                self._changes.set_expiry(declared.client_id, secret.label, secret.expires_at)
                times = _time(known.expires_at), _time(secret.expires_at)
                details.append(Detail(f"secret {secret.label} expires_at", *times))
        return details

    def _remove_secret(self, client_id: str, label: str) -> None:
        self._changes.remove_secret(client_id, label)
        self._note("secret.removed", client_id, label=label)

    def _put_secret(self, client_id: str, secret: DeclaredSecret, value: str | None, *, replace: bool) -> Detail:
        what = f"secret {secret.label}"
        if value is None:
            value = self.made.setdefault(secret.file, make_credential(CLIENT_SECRET, self._server.random))
            after = f"made, and written to {secret.file}" if secret.generate else f"to come from {secret.file}"
        else:
            after = f"taken from {secret.file}"
        if replace:
            self._remove_secret(client_id, secret.label)
        self._note("secret.added", client_id, label=secret.label, expires_at=secret.expires_at)
        self._changes.add_secret(client_id, NewSecret(secret.label, hash_credential(value), secret.expires_at))
        return Detail(what, "another one" if replace else None, after, ends=replace)


def _differences(before: ClientMetadata, after: ClientMetadata) -> list[Detail]:
    """Lists are sets here: their order means nothing."""
    pairs = [(each.name, getattr(before, each.name), getattr(after, each.name)) for each in fields(ClientMetadata)]
    differing = [(name, old, new) for name, old, new in pairs if _comparable(old) != _comparable(new)]
    return [Detail(_MEMBERS.get(name, name), old, new) for name, old, new in differing]


def _comparable(value: Any) -> Any:
    return sorted(value) if isinstance(value, list | tuple) else value


def _time(seconds: int | None) -> str | None:
    """As the document has it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
