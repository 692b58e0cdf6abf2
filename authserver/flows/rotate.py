"""Rotate, revoke and tidy the signing keys. One process at a time; all others follow at their next request."""

from __future__ import annotations

import json
from collections.abc import Callable

from authserver.flows.server import AuthorizationServer
from authserver.oauth.jose import CannotDecrypt, generate_key
from authserver.oauth.key_encryption import KeyEncryption
from authserver.oauth.signing_keys import (
    KEEP_AFTER_SIGNING,
    KeyRing,
    SigningKey,
    is_rotation_due,
    next_signing_time,
)
from authserver.store.signing_keys import StoredKey

Tell = Callable[[str], None]


class RotationUnderWay(Exception):
    """There is a key already that waits for its time to sign."""


class NoKeyEncryption(Exception):
    """Signing keys can be made only where they can be encrypted."""


def rotate(server: AuthorizationServer, tell: Tell) -> SigningKey:
    """Make the next signing key: published now, signing when caches have had the time to see it.

    Raises RotationUnderWay, NoKeyEncryption, CannotDecrypt, Unavailable.
    """
    with server.signing_keys.lock(lambda: tell("waiting for another run to finish")):
        ring, now = server.key_ring.load(), server.now()
        if any(ring.state(key, now) == "next" for key in ring.keys):
            raise RotationUnderWay
        if server.policy.key_encryption is None:
            raise NoKeyEncryption
        if not _is_theirs(server, ring, now):
            raise CannotDecrypt
        return _add(server, ring, now)


def revoke_key(server: AuthorizationServer, kid: str, tell: Tell) -> str | None:
    """Revoke a key and with it all tokens that it signed, at once, in every process.

    If it was the one that signs, another takes its place at once, if it can be encrypted so that the servers can use
    it; gives that one's name. Raises NoSuchKey, Unavailable.
    """
    with server.signing_keys.lock(lambda: tell("waiting for another run to finish")):
        ring, now = server.key_ring.load(), server.now()
        signs = any(key.kid == kid and ring.state(key, now) == "active" for key in ring.keys)
        substitute = _make(server, now, now) if signs and _is_theirs(server, ring, now) else None
        server.signing_keys.revoke(kid, now, substitute)
    return substitute.kid if substitute else None


def maintain_keys(server: AuthorizationServer, age: int, tell: Tell) -> None:
    """Rotate at an `age` of the newest key in seconds (0: never), seal under the newest encryption key, tidy up.

    Does nothing where there is no encryption key. Raises CannotDecrypt, Unavailable.
    """
    encryption = server.policy.key_encryption
    if encryption is None:
        return
    with server.signing_keys.lock(lambda: tell("waiting for another run to finish")):
        _reseal(server, encryption, tell)
        ring, now = server.key_ring.load(), server.now()
        if is_rotation_due(ring, now, age, server.policy.signing_algorithm):
            key = _add(server, ring, now)
            tell(f"made signing key {key.kid}, which signs from {key.signs_from} on")
        for key in ring.keys:
            if ring.state(key, now) == "gone" or (key.revoked_at or now) + KEEP_AFTER_SIGNING < now:
                server.signing_keys.delete(key.kid)
                tell(f"deleted signing key {key.kid}, which no living token needs")


def _is_theirs(server: AuthorizationServer, ring: KeyRing, now: int) -> bool:
    """Whether our encryption key is the servers', as far as can be seen: it opens the keys that they use."""
    return server.policy.signs and not ring.undecryptable(now)


def _add(server: AuthorizationServer, ring: KeyRing, now: int) -> SigningKey:
    row = _make(server, now, next_signing_time(ring, now))
    server.signing_keys.add(row)
    return next(key for key in server.key_ring.load().keys if key.kid == row.kid)


def _make(server: AuthorizationServer, now: int, signs_from: int) -> StoredKey:
    encryption = server.policy.key_encryption
    if encryption is None:
        raise NoKeyEncryption
    key = generate_key(server.policy.signing_algorithm)
    return StoredKey(
        kid=key.thumbprint(),
        alg=server.policy.signing_algorithm,
        public_key=key.as_dict(private=False),
        private_key=encryption.seal(json.dumps(key.as_dict(private=True)).encode()),
        created_at=now,
        signs_from=signs_from,
    )


def _reseal(server: AuthorizationServer, encryption: KeyEncryption, tell: Tell) -> None:
    if server.key_ring.load().undecryptable(server.now()):
        raise CannotDecrypt
    _, rows = server.signing_keys.list()
    for row in rows:
        if encryption.is_newest(row.private_key):
            continue
        try:
            private_key = encryption.unseal(row.private_key)
        except CannotDecrypt:
            continue  # it never signs again, and verifies without
        server.signing_keys.reseal(row.kid, encryption.seal(private_key))
        tell(f"encrypted signing key {row.kid} under the newest key")
