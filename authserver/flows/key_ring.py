"""The signing keys as a process remembers them: as with clients, what is decided with them must be proved."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from authserver.oauth.jose import CannotDecrypt, import_key
from authserver.oauth.key_encryption import KeyEncryption
from authserver.oauth.signing_keys import KeyRing, NoSigningKey, SigningKey
from authserver.store.database import Unavailable
from authserver.store.signing_keys import SigningKeys, StaleKeyRing, StoredKey, require_version

_log = logging.getLogger("authserver.keys")
_ATTEMPTS = 4
T = TypeVar("T")


def no_key(error: NoSigningKey) -> Unavailable:
    """What is answered where a key is needed and there is none: an operator has to act."""
    return Unavailable(str(error))


class KeyRingCache:
    """The ring that this process loaded last."""

    def __init__(self, signing_keys: SigningKeys, encryption: KeyEncryption | None) -> None:
        self._signing_keys = signing_keys
        self._encryption = encryption
        self._ring: KeyRing | None = None

    def proved(self, act: Callable[[KeyRing], T]) -> T:
        """Do something with the present keys, and give its result.

        `act` must prove the ring's version in its statement, or raise StaleKeyRing. Raises Unavailable, and what
        `act` raises.
        """
        ring = self._ring or self.load()
        for _ in range(_ATTEMPTS):
            try:
                return act(ring)
            except StaleKeyRing:
                ring = self.load()
        raise Unavailable("the signing keys change faster than they can be read")

    def current(self) -> KeyRing:
        """The present keys, for one who asks nothing else of the database. Raises Unavailable."""
        return self.proved(self._prove)

    def load(self) -> KeyRing:
        """Read the keys anew. Raises Unavailable."""
        version, rows = self._signing_keys.list()
        self._ring = ring = KeyRing(version, [self._signing_key(row) for row in rows])
        return ring

    def _prove(self, ring: KeyRing) -> KeyRing:
        require_version(self._signing_keys.version(), ring.version)
        return ring

    def _signing_key(self, row: StoredKey) -> SigningKey:
        private = self._unseal(row) if row.revoked_at is None else None
        return SigningKey(
            kid=row.kid,
            alg=row.alg,
            public=import_key(row.public_key),
            created_at=row.created_at,
            signs_from=row.signs_from,
            revoked_at=row.revoked_at,
            private=import_key(private) if private is not None else None,
        )

    def _unseal(self, row: StoredKey) -> dict[str, Any] | None:
        if self._encryption is None:
            return None
        try:
            jwk: dict[str, Any] = json.loads(self._encryption.unseal(row.private_key))
        except CannotDecrypt:
            # Verifying goes on; signing does not, and says so to whoever asks for a token.
            _log.critical(
                "signing key %s cannot be decrypted: is AUTHSERVER_KEY_ENCRYPTION_KEY the right one?", row.kid
            )
            return None
        return jwk
