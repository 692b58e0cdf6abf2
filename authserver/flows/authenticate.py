"""Authenticate a client (RFC 6749 §2.3) without asking the database twice.

Client rows are remembered in the process. What is decided with a remembered row counts only when proved:
a success by its own statement, which requires the row's version; a refusal by loading the row anew and deciding
again. So a deleted client or a withdrawn secret stops working at once, and a new secret works at once, in every
process, with no time-to-live to explain.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from authserver.oauth.client import Client, SecretCredential, verify_secret
from authserver.oauth.errors import OAuthError
from authserver.store.access_tokens import StaleClient
from authserver.store.clients import Clients
from authserver.store.database import Unavailable

T = TypeVar("T")

CACHE_SIZE = 10_000
_ATTEMPTS = 4


class ClientCache:
    """The client rows this process has seen lately."""

    def __init__(self, clients: Clients, size: int = CACHE_SIZE) -> None:
        self._clients = clients
        self._size = size
        self._rows: OrderedDict[str, Client] = OrderedDict()
        self._lock = threading.Lock()

    def authenticated(self, credential: SecretCredential, now: int, act: Callable[[Client], T]) -> T:
        """Do something as the client that the credential proves, and give its result.

        `act` must prove the client's version in its statement, or raise StaleClient.
        Raises InvalidClient, Unavailable, and what `act` raises.
        """
        remembered = self._rows.get(credential.client_id)
        if remembered is not None:
            try:
                return act(verify_secret(remembered, credential, now))
            except (StaleClient, OAuthError):
                pass  # decided with a row that may have changed since: load it and decide again
        for _ in range(_ATTEMPTS):
            try:
                return act(verify_secret(self._load(credential.client_id), credential, now))
            except StaleClient:
                continue
        raise Unavailable("the client's row changes faster than it can be read")

    def _load(self, client_id: str) -> Client | None:
        client = self._clients.load(client_id)
        with self._lock:
            self._rows.pop(client_id, None)
            if client is not None:
                self._rows[client_id] = client
                if len(self._rows) > self._size:
                    self._rows.popitem(last=False)
        return client
