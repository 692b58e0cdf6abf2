"""How a caller proves which client it is: what must be looked up for it, and the decision made with what was found.

A proof is decided with a row that the process may remember (see `authenticate`), and so perhaps twice: `verify` can be
called again with another row. What it uses up, it uses up once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from authserver.fetch.documents import Fetcher
from authserver.flows.remote_keys import KeysUnavailable, RemoteKeys
from authserver.flows.workload_proof import WorkloadProof
from authserver.oauth.client import Client, SecretCredential, verify_secret
from authserver.oauth.client_assertion import (
    PRIVATE_KEY_JWT,
    Assertion,
    check_self_issued,
    read_assertion,
)
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import Random
from authserver.oauth.errors import InvalidClient
from authserver.oauth.public_keys import ALGORITHMS, InvalidKeySet, PublicKey, read_key_set, verify_for_nobody
from authserver.store.assertion_jtis import AssertionJtis, Replayed
from authserver.store.clients import Clients
from authserver.store.trusted_issuers import TrustedIssuers

_NONCE_BYTES = 16
Row = TypeVar("Row")


class Proof(Protocol[Row]):
    """One caller's proof."""

    @property
    def key(self) -> Hashable:
        """What the row is remembered by."""

    def load(self) -> Row | None:
        """The row as it is now. Raises Unavailable."""

    def verify(self, row: Row | None) -> Client:
        """The client that is proved. Raises InvalidClient, StaleClient, Unavailable."""


@dataclass(frozen=True)
class Prover:
    """Makes proofs of credentials, with all that they need to be decided."""

    issuer: str
    clients: Clients
    assertion_jtis: AssertionJtis
    trusted_issuers: TrustedIssuers
    fetcher: Fetcher
    # Apart: clients that register themselves must not be able to keep the operator's issuers from being asked.
    client_keys: RemoteKeys
    issuer_keys: RemoteKeys
    random: Random

    def proof(self, credential: ClientCredential, now: int) -> Proof[Any]:
        """The proof that a credential makes. Raises InvalidClient if it cannot be read."""
        if isinstance(credential, SecretCredential):
            return SecretProof(self.clients, credential, now)
        assertion = read_assertion(credential)
        if assertion.is_self_issued:
            return PrivateKeyProof(self, assertion, now, self.random(_NONCE_BYTES))
        return WorkloadProof(self.clients, self.trusted_issuers, self.fetcher, self.issuer_keys, assertion, now)


@dataclass(frozen=True)
class SecretProof:
    """By a secret (RFC 6749 §2.3.1)."""

    clients: Clients
    credential: SecretCredential
    now: int

    @property
    def key(self) -> Hashable:
        return self.credential.client_id

    def load(self) -> Client | None:
        return self.clients.load(self.credential.client_id)

    def verify(self, client: Client | None) -> Client:
        return verify_secret(client, self.credential, self.now)


@dataclass(frozen=True)
class PrivateKeyProof:
    """By an assertion that the client signed (RFC 7523 §2.2), good once. `nonce` names the request."""

    prover: Prover
    assertion: Assertion
    now: int
    nonce: bytes

    @property
    def key(self) -> Hashable:
        return self.assertion.subject

    def load(self) -> Client | None:
        return self.prover.clients.load(self.assertion.subject)

    def verify(self, client: Client | None) -> Client:
        use = check_self_issued(self.assertion, self.prover.issuer, self.now)
        jws = self.assertion.jws
        try:
            client, key = self._find_key(client)
        except InvalidClient:
            # Or else time would tell an unknown client from a wrong signature.
            verify_for_nobody(jws.algorithm, jws.signed, jws.signature)
            raise
        if not key.verifies(jws.algorithm, jws.signed, jws.signature):
            raise InvalidClient("the assertion's signature is wrong")
        try:
            # Only now: whoever cannot sign must not be able to use up what the client will send.
            self.prover.assertion_jtis.use(use, client, self.nonce)
        except Replayed:
            raise InvalidClient("the assertion was used before") from None
        return client

    def _find_key(self, client: Client | None) -> tuple[Client, PublicKey]:
        algorithm = self.assertion.jws.algorithm
        if client is None:
            raise InvalidClient("unknown client")
        if client.token_endpoint_auth_method != PRIVATE_KEY_JWT:
            raise InvalidClient(f"the client is registered for {client.token_endpoint_auth_method}")
        if algorithm not in ALGORITHMS or client.token_endpoint_auth_signing_alg not in (None, algorithm):
            raise InvalidClient("the assertion's alg is not one that the client may use")
        key = self._registered_key(client)
        if key is None:
            raise InvalidClient("the client has no key for the assertion's kid and alg")
        return client, key

    def _registered_key(self, client: Client) -> PublicKey | None:
        jws, uri = self.assertion.jws, client.jwks_uri
        try:
            if uri is not None:
                # By client too: two that name one URL must not use up each other's patience.
                return self.prover.client_keys.find(
                    (client.id, uri),
                    lambda deadline: read_key_set(self.prover.fetcher.get_json(uri, deadline)),
                    jws.kid,
                    jws.algorithm,
                )
            return client.jwks.key_set.find(jws.kid, jws.algorithm) if client.jwks else None
        except KeysUnavailable as error:
            raise InvalidClient(f"the client's keys could not be fetched: {error}") from None
        except InvalidKeySet as error:
            raise InvalidClient(f"the client's jwks {error}") from None
