"""The stores, telling what was changed in them: whoever changes something, over HTTP or by a command, is audited."""

from __future__ import annotations

from authserver.oauth.client import Client
from authserver.oauth.public_keys import RegisteredKeys
from authserver.oauth.registration import ClientMetadata
from authserver.oauth.trusted_issuer import TrustedIssuer
from authserver.observe.audit import Audit
from authserver.store.clients import Clients, NewSecret
from authserver.store.database import Database
from authserver.store.initial_access_tokens import InitialAccessTokens
from authserver.store.signing_keys import SigningKeys, StoredKey
from authserver.store.trusted_issuers import Binding, TrustedIssuers


class AuditedClients(Clients):
    """See the module."""

    def __init__(self, database: Database, audit: Audit) -> None:
        super().__init__(database)
        self._audit = audit

    def create(
        self,
        client_id: str,
        metadata: ClientMetadata,
        secret: NewSecret | None,
        *,
        registration_token_hash: bytes | None = None,
        share_resources: bool = False,
    ) -> None:
        super().create(
            client_id,
            metadata,
            secret,
            registration_token_hash=registration_token_hash,
            share_resources=share_resources,
        )
        self._audit.tell(
            "client.created",
            client_id=client_id,
            auth_method=metadata.token_endpoint_auth_method,
            self_registered=registration_token_hash is not None,
        )
        if secret is not None:
            self._secret_added(client_id, secret)

    def replace(
        self, client_id: str, registration_token_hash: bytes, metadata: ClientMetadata, secret: NewSecret
    ) -> bool:
        given = super().replace(client_id, registration_token_hash, metadata, secret)
        self._audit.tell("client.updated", client_id=client_id, self_managed=True)
        if given:
            self._secret_added(client_id, secret)
        return given

    def update(self, client: Client, metadata: ClientMetadata, *, share_resources: bool) -> None:
        super().update(client, metadata, share_resources=share_resources)
        self._audit.tell("client.updated", client_id=client.client_id, self_managed=False)

    def replace_keys(self, client_id: str, metadata: ClientMetadata) -> None:
        super().replace_keys(client_id, metadata)
        self._audit.tell("client.keys_replaced", client_id=client_id)

    def delete_registration(self, client_id: str, registration_token_hash: bytes) -> None:
        super().delete_registration(client_id, registration_token_hash)
        self._audit.tell("client.deleted", client_id=client_id, self_managed=True)

    def delete(self, client_id: str) -> None:
        super().delete(client_id)
        self._audit.tell("client.deleted", client_id=client_id, self_managed=False)

    def revoke_tokens(self, client_id: str) -> None:
        super().revoke_tokens(client_id)
        self._audit.tell("client.tokens_revoked", client_id=client_id)

    def add_secret(self, client_id: str, secret: NewSecret) -> None:
        super().add_secret(client_id, secret)
        self._secret_added(client_id, secret)

    def remove_secret(self, client_id: str, label: str) -> None:
        super().remove_secret(client_id, label)
        self._audit.tell("secret.removed", client_id=client_id, label=label)

    def _secret_added(self, client_id: str, secret: NewSecret) -> None:
        self._audit.tell("secret.added", client_id=client_id, label=secret.label, expires_at=secret.expires_at)


class AuditedSigningKeys(SigningKeys):
    """See the module."""

    def __init__(self, database: Database, audit: Audit) -> None:
        super().__init__(database)
        self._audit = audit

    def add(self, key: StoredKey) -> None:
        super().add(key)
        self._added(key)

    def revoke(self, kid: str, now: int, substitute: StoredKey | None) -> None:
        super().revoke(kid, now, substitute)
        self._audit.tell("key.revoked", kid=kid)
        if substitute is not None:
            self._added(substitute)

    def delete(self, kid: str) -> None:
        super().delete(kid)
        self._audit.tell("key.deleted", kid=kid)

    def _added(self, key: StoredKey) -> None:
        self._audit.tell("key.added", kid=key.kid, alg=key.alg, signs_from=key.signs_from)


class AuditedTrustedIssuers(TrustedIssuers):
    """See the module."""

    def __init__(self, database: Database, audit: Audit) -> None:
        super().__init__(database)
        self._audit = audit

    def add(self, issuer: TrustedIssuer) -> None:
        super().add(issuer)
        self._audit.tell("issuer.added", issuer_name=issuer.name, issuer=issuer.issuer, audience=[issuer.audience])

    def replace_keys(self, name: str, jwks: RegisteredKeys) -> None:
        super().replace_keys(name, jwks)
        self._audit.tell("issuer.keys_replaced", issuer_name=name)

    def remove(self, name: str) -> None:
        super().remove(name)
        self._audit.tell("issuer.removed", issuer_name=name)

    def bind(self, binding: Binding) -> None:
        super().bind(binding)
        self._tell_binding("client.bound", binding)

    def unbind(self, binding: Binding) -> None:
        super().unbind(binding)
        self._tell_binding("client.unbound", binding)

    def _tell_binding(self, event: str, binding: Binding) -> None:
        self._audit.tell(event, client_id=binding.client_id, issuer_name=binding.issuer, subject=binding.subject)


class AuditedInitialAccessTokens(InitialAccessTokens):
    """See the module."""

    def __init__(self, database: Database, audit: Audit) -> None:
        super().__init__(database)
        self._audit = audit

    def add(self, label: str, token_hash: bytes, expires_at: int | None) -> None:
        super().add(label, token_hash, expires_at)
        self._audit.tell("initial_access_token.created", label=label, expires_at=expires_at)

    def remove(self, label: str) -> None:
        super().remove(label)
        self._audit.tell("initial_access_token.removed", label=label)
