"""How a workload proves which client it is: with a token that a trusted issuer made for it (RFC 7521 §4.2)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from authserver.fetch.documents import Fetcher
from authserver.flows.remote_keys import KeysUnavailable, RemoteKeys
from authserver.oauth.client import Client
from authserver.oauth.client_assertion import Assertion
from authserver.oauth.errors import InvalidClient
from authserver.oauth.public_keys import InvalidKeySet, KeySet, PublicKey, read_key_set, verify_for_nobody
from authserver.oauth.trusted_issuer import (
    DISCOVERY,
    TrustedIssuer,
    Workload,
    audiences,
    check_workload,
    read_discovery,
    subject_candidates,
)
from authserver.store.access_tokens import StaleClient
from authserver.store.clients import Clients
from authserver.store.trusted_issuers import TrustedIssuers


def fetch_keys(fetcher: Fetcher, issuer: str, deadline: float) -> KeySet:
    """The keys of an issuer by discovery, until `deadline` (monotonic). Raises FetchFailed, InvalidKeySet."""
    uri = read_discovery(fetcher.get_json(issuer.removesuffix("/") + DISCOVERY, deadline), issuer)
    return read_key_set(fetcher.get_json(uri, deadline))


@dataclass(frozen=True)
class WorkloadProof:
    """See the module. The row is the issuer, the subject and the client that it is bound to."""

    clients: Clients
    trusted_issuers: TrustedIssuers
    fetcher: Fetcher
    remote_keys: RemoteKeys
    assertion: Assertion
    now: int

    @property
    def key(self) -> Hashable:
        return self.assertion.issuer, audiences(self.assertion.jws.claims), self.assertion.subject

    def load(self) -> Workload | None:
        """Two statements; the version, which any change to the binding and the issuer moves, makes them one moment."""
        claims = self.assertion.jws.claims
        found = self.trusted_issuers.find(self.assertion.issuer, audiences(claims), subject_candidates(claims))
        # Of several issuers none is meant more than another; a token for two clusters is refused by both.
        if len(found) != 1 or found[0].client_id is None or found[0].subject is None:
            return None
        client = self.clients.load(found[0].client_id)
        if client is None or client.version != found[0].version:
            raise StaleClient
        return Workload(found[0].issuer, found[0].subject, client)

    def verify(self, workload: Workload | None) -> Client:
        jws = self.assertion.jws
        try:
            if workload is None:
                raise InvalidClient("the assertion's iss, aud and subject are bound to no client")
            check_workload(self.assertion, workload, self.now)
            key = self._find_key(workload.issuer)
            if key is None:
                raise InvalidClient("the trusted issuer has no key for the assertion's kid and alg")
        except InvalidClient:
            verify_for_nobody(jws.algorithm, jws.signed, jws.signature)
            raise
        if not key.verifies(jws.algorithm, jws.signed, jws.signature):
            raise InvalidClient("the assertion's signature is wrong")
        return workload.client

    def _find_key(self, issuer: TrustedIssuer) -> PublicKey | None:
        jws = self.assertion.jws
        try:
            if issuer.jwks is not None:
                return issuer.jwks.key_set.find(jws.kid, jws.algorithm)
            return self.remote_keys.find(
                ("trusted issuer", issuer.id, issuer.issuer),
                lambda deadline: fetch_keys(self.fetcher, issuer.issuer, deadline),
                jws.kid,
                jws.algorithm,
            )
        except KeysUnavailable as error:
            raise InvalidClient(f"the trusted issuer's keys could not be fetched: {error}") from None
        except InvalidKeySet as error:
            raise InvalidClient(f"the trusted issuer's key set {error}") from None
