"""The collaborators of the use cases, put together once and passed to each of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from authserver.fetch.documents import Fetcher
from authserver.flows.audited import (
    AuditedClients,
    AuditedInitialAccessTokens,
    AuditedSigningKeys,
    AuditedTrustedIssuers,
)
from authserver.flows.authenticate import ClientCache
from authserver.flows.key_ring import KeyRingCache
from authserver.flows.proofs import Prover
from authserver.flows.remote_keys import RemoteKeys
from authserver.flows.secret_uses import SecretUses
from authserver.flows.throttle import Throttle
from authserver.flows.token_budget import TokenBudget
from authserver.oauth.credentials import Random
from authserver.oauth.jose import SIGNING_ALGORITHMS
from authserver.oauth.key_encryption import KeyEncryption
from authserver.observe.audit import Audit
from authserver.store.access_tokens import AccessTokens
from authserver.store.assertion_jtis import AssertionJtis
from authserver.store.authentication_failures import AuthenticationFailures
from authserver.store.clients import Clients
from authserver.store.database import Database
from authserver.store.initial_access_tokens import InitialAccessTokens
from authserver.store.issued_tokens import IssuedTokens
from authserver.store.revocations import Revocations
from authserver.store.schema_migrations import SchemaMigrations
from authserver.store.signing_keys import SigningKeys
from authserver.store.trusted_issuers import TrustedIssuers

Clock = Callable[[], float]


@dataclass(frozen=True)
class Policy:
    """What the operator decided. Lifetimes are seconds."""

    issuer: str
    access_token_lifetime: int = 3600
    initial_access_token_hash: bytes | None = field(default=None, repr=False)
    key_encryption: KeyEncryption | None = field(default=None, repr=False)
    signing_algorithm: str = SIGNING_ALGORITHMS[0]
    failures_per_minute: int = 10
    # Of each client that has no number of its own; 0: as many as it likes.
    tokens_per_minute: int = 0
    # Proxies that may say for whom they ask: networks separated by commas, or *.
    trusted_proxies: str = ""

    @property
    def signs(self) -> bool:
        """Whether this server signs JWTs: it can keep keys only if it can encrypt them."""
        return self.key_encryption is not None


@dataclass(frozen=True)
class AuthorizationServer:
    """One authorization server: its policy, its stores, and where it gets time and randomness from."""

    policy: Policy
    database: Database
    clients: Clients
    client_cache: ClientCache
    throttle: Throttle
    token_budget: TokenBudget
    issued_tokens: IssuedTokens
    authentication_failures: AuthenticationFailures
    fetcher: Fetcher
    trusted_issuers: TrustedIssuers
    access_tokens: AccessTokens
    revocations: Revocations
    signing_keys: SigningKeys
    key_ring: KeyRingCache
    initial_access_tokens: InitialAccessTokens
    schema_migrations: SchemaMigrations
    clock: Clock
    random: Random
    audit: Audit

    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock())


def make_server(
    policy: Policy,
    database: Database,
    *,
    clock: Clock = time.time,
    random: Random = secrets.token_bytes,
    fetcher: Fetcher | None = None,
    make_remote_keys: Callable[[], RemoteKeys] = RemoteKeys,
    audit: Audit | None = None,
) -> AuthorizationServer:
    """Put a server together. Connects to nothing yet."""
    audit = audit or Audit()
    clients, signing_keys = AuditedClients(database, audit), AuditedSigningKeys(database, audit)
    fetcher = fetcher or Fetcher()
    trusted_issuers = AuditedTrustedIssuers(database, audit)
    prover = Prover(
        policy.issuer,
        clients,
        AssertionJtis(database),
        trusted_issuers,
        fetcher,
        make_remote_keys(),
        make_remote_keys(),
        random,
    )
    failures = AuthenticationFailures(database)
    throttle = Throttle(failures, policy.failures_per_minute)
    issued_tokens = IssuedTokens(database)
    return AuthorizationServer(
        policy=policy,
        database=database,
        clients=clients,
        client_cache=ClientCache(prover, throttle, SecretUses(clients)),
        throttle=throttle,
        token_budget=TokenBudget(issued_tokens, policy.tokens_per_minute),
        issued_tokens=issued_tokens,
        authentication_failures=failures,
        fetcher=fetcher,
        trusted_issuers=trusted_issuers,
        access_tokens=AccessTokens(database),
        revocations=Revocations(database),
        signing_keys=signing_keys,
        key_ring=KeyRingCache(signing_keys, policy.key_encryption),
        initial_access_tokens=AuditedInitialAccessTokens(database, audit),
        schema_migrations=SchemaMigrations(database),
        clock=clock,
        random=random,
        audit=audit,
    )
