"""Note when each secret was last used, without a write for each request.

What is stored is up to an hour old; whoever asks whether a secret may be dropped thinks in days.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from authserver.oauth.client import Client, SecretCredential, used_secret
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.secret_evidence import PRECISION
from authserver.store.clients import Clients
from authserver.store.database import Unavailable

_log = logging.getLogger("authserver.secrets")

INTERVAL = PRECISION
_REMEMBERED = 10_000


class SecretUses:
    """The uses that this process has noted."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._noted: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, client: Client, credential: ClientCredential, now: int) -> None:
        """Note, once an hour, that the client was authenticated by the credential if it is a secret; never fail."""
        if not isinstance(credential, SecretCredential):
            return
        secret = used_secret(client, credential)
        if secret is None or (secret.last_used_at or 0) + INTERVAL > now:
            return
        if not self._is_due(secret.secret_hash, now):
            return
        try:
            self._clients.note_use(client, secret, now, INTERVAL)
        except Unavailable as error:
            _log.warning("the use of a secret could not be noted: %s", error)

    def _is_due(self, secret_hash: bytes, now: int) -> bool:
        """Whether this process has not tried within the hour; from now on it has."""
        if self._noted.get(secret_hash, 0) + INTERVAL > now:
            return False
        with self._lock:
            if self._noted.get(secret_hash, 0) + INTERVAL > now:
                return False
            self._noted[secret_hash] = now
            self._noted.move_to_end(secret_hash)
            if len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)
        return True
