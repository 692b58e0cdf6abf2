"""The collaborators of the use cases, put together once and passed to each of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from authserver.fetch.documents import Fetcher
from authserver.flows.authenticate import ClientCache
from authserver.flows.proofs import Prover
from authserver.flows.remote_keys import RemoteKeys
from authserver.oauth.credentials import Random
from authserver.store.access_tokens import AccessTokens
from authserver.store.assertion_jtis import AssertionJtis
from authserver.store.clients import Clients
from authserver.store.database import Database
from authserver.store.initial_access_tokens import InitialAccessTokens
from authserver.store.schema_migrations import SchemaMigrations
from authserver.store.trusted_issuers import TrustedIssuers

Clock = Callable[[], float]


@dataclass(frozen=True)
class Policy:
    """What the operator decided. Lifetimes are seconds."""

    issuer: str
    access_token_lifetime: int = 3600
    initial_access_token_hash: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class AuthorizationServer:
    """One authorization server: its policy, its stores, and where it gets time and randomness from."""

    policy: Policy
    database: Database
    clients: Clients
    client_cache: ClientCache
    fetcher: Fetcher
    trusted_issuers: TrustedIssuers
    access_tokens: AccessTokens
    initial_access_tokens: InitialAccessTokens
    schema_migrations: SchemaMigrations
    clock: Clock
    random: Random

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
) -> AuthorizationServer:
    """Put a server together. Connects to nothing yet."""
    clients = Clients(database)
    fetcher = fetcher or Fetcher()
    trusted_issuers = TrustedIssuers(database)
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
    return AuthorizationServer(
        policy=policy,
        database=database,
        clients=clients,
        client_cache=ClientCache(prover),
        fetcher=fetcher,
        trusted_issuers=trusted_issuers,
        access_tokens=AccessTokens(database),
        initial_access_tokens=InitialAccessTokens(database),
        schema_migrations=SchemaMigrations(database),
        clock=clock,
        random=random,
    )
