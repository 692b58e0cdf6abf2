"""Authenticate a client (RFC 6749 §2.3) without asking the database twice.

Client rows are remembered in the process. What is decided with a remembered row counts only when proved: a success by
its own statement, which requires the row's version; a refusal by loading the row anew and, if it is another one,
deciding again. So a deleted client or a withdrawn secret stops working at once, and a new secret works at once, in
every process, with no time-to-live to explain.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from authserver.flows.proofs import Proof, Prover
from authserver.flows.secret_uses import SecretUses
from authserver.flows.throttle import Throttle, who_failed
from authserver.oauth.client import Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.errors import InvalidClient, OAuthError
from authserver.store.access_tokens import StaleClient
from authserver.store.database import Unavailable

T = TypeVar("T")

CACHE_SIZE = 10_000
_ATTEMPTS = 4


class ClientCache:
    """The client rows this process has seen lately."""

    def __init__(self, prover: Prover, throttle: Throttle, uses: SecretUses, size: int = CACHE_SIZE) -> None:
        self._prover, self._throttle, self._uses = prover, throttle, uses
        self._size = size
        self._rows: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def authenticated(self, credential: ClientCredential, now: int, act: Callable[[Client], T]) -> T:
        """Do something as the client that the credential proves, and give its result.

        `act` must prove the client's version in its statement, or raise StaleClient.
        Raises InvalidClient, Throttled, Unavailable, and what `act` raises.
        """
        proof = self._prover.proof(credential, now)

        def act_and_note(client: Client) -> T:
            result = act(client)
            self._uses.note(client, credential, now)
            return result

        try:
            return self._decided(
                proof,
                act_and_note,
                lambda: self._throttle.require_patience(who_failed(proof.key, credential.address), now),
            )
        except InvalidClient:
            self._throttle.failed(who_failed(proof.key, credential.address), now)
            raise

    def _decided(self, proof: Proof[Any], act: Callable[[Client], T], before_loading: Callable[[], None]) -> T:
        remembered = self._rows.get(proof.key)
        refusal: OAuthError | None = None
        try:
            # Nothing remembered is refused here, too: an unknown client must not be told by the time it saves.
            return act(proof.verify(remembered))
        except StaleClient:
            pass
        except OAuthError as error:
            refusal = error
        if isinstance(refusal, InvalidClient):
            before_loading()
        for _ in range(_ATTEMPTS):
            try:
                # Also to look it up can take two statements, between which it may change.
                row = self._load(proof)
                if refusal is not None and row == remembered:
                    raise refusal.with_traceback(None)
                return act(proof.verify(row))
            except StaleClient:
                continue
        raise Unavailable("the client's row changes faster than it can be read")

    def _load(self, proof: Proof[Any]) -> Any:
        row = proof.load()
        with self._lock:
            known = self._rows.pop(proof.key, None)
            if row is not None:
                # Where nothing changed, the one that is known: its keys have been read already.
                row = known if row == known else row
                self._rows[proof.key] = row
                if len(self._rows) > self._size:
                    self._rows.popitem(last=False)
        return row
