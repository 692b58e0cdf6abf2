"""The keys that sign JWTs: an ordered list in which the newest that may sign does, and all verify.

A key is published from its creation, signs from `signs_from` until the next one does, and stays published until the
last token that it signed has expired. Nothing has to be switched: the states follow from the time, alike everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joserfc.jwk import Key

from authserver.oauth import jose
from authserver.oauth.access_token import AccessToken

# Seconds that a verifier may keep the published keys (the JWKS' max-age) ...
JWKS_MAX_AGE = 300
# ... and so the time a key is published before it signs: twice that, for caches that are asked late.
PUBLISH_AHEAD = 2 * JWKS_MAX_AGE
# The longest that a token lives, and ten minutes more for clocks that disagree.
KEEP_AFTER_SIGNING = 86400 + 600
# How many verified JWTs are remembered: some 2 KB each.
_VERIFIED = 4096
_VERIFIED_LENGTH = 2048


class NoSigningKey(Exception):
    """There is no key that may sign now."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. Times are Unix seconds; `private` is there only for a key that signs now or will."""

    kid: str
    alg: str
    public: Key = field(repr=False)
    created_at: int
    signs_from: int
    revoked_at: int | None = None
    private: Key | None = field(default=None, repr=False)

    @property
    def ever_signed(self) -> bool:
        """False for a key that was revoked before its time came, or as it came: it ended no other key's time."""
        return self.revoked_at is None or self.revoked_at > self.signs_from

    def jwk(self) -> dict[str, Any]:
        """The public key as it is published (RFC 7517 §4)."""
        return {**self.public.as_dict(private=False), "kid": self.kid, "alg": self.alg, "use": "sig"}


class KeyRing:
    """All keys as they were at `version`."""

    def __init__(self, version: int, keys: Sequence[SigningKey]) -> None:
        self.version = version
        # Of those made in the same second, one that was revoked made room for the other.
        self.keys = sorted(keys, key=lambda key: (key.signs_from, key.created_at, key.revoked_at is None, key.kid))
        self._by_kid = {key.kid: key for key in self.keys}
        # Whether a signature is right costs more time than all else about a token, and never changes. What was found
        # is kept no longer than the ring is; that the key may still be used, and the expiry, are looked at each time.
        self.verified: dict[str, tuple[str, AccessToken]] = {}

    def signing_key(self, now: int) -> SigningKey:
        """The newest key whose time has come. Raises NoSigningKey."""
        for key in reversed(self.keys):
            if key.revoked_at is None and key.signs_from <= now:
                return key
        raise NoSigningKey("no signing key is active: run 'authserver maintain' with AUTHSERVER_KEY_ENCRYPTION_KEY")

    def verifying_key(self, kid: object, now: int) -> SigningKey | None:
        """The published key of this name."""
        key = self._by_kid.get(kid) if isinstance(kid, str) else None
        return key if key is not None and self.state(key, now) in {"next", "active", "retiring"} else None

    def undecryptable(self, now: int) -> list[SigningKey]:
        """Those that sign or will, and cannot be used to: here is not what they are encrypted with."""
        return [key for key in self.keys if key.private is None and self.state(key, now) in {"next", "active"}]

    def remember_verified(self, value: str, kid: str, token: AccessToken) -> None:
        """Keep what a JWT says, which this key was found to have signed."""
        if len(value) > _VERIFIED_LENGTH:
            return
        if len(self.verified) >= _VERIFIED:
            self.verified.clear()
        self.verified[value] = kid, token

    def published(self, now: int) -> list[SigningKey]:
        """The keys of the JWKS, the newest first."""
        return [key for key in reversed(self.keys) if self.verifying_key(key.kid, now)]

    def state(self, key: SigningKey, now: int) -> str:
        """`next`, `active`, `retiring`, `gone` or `revoked`."""
        if key.revoked_at is not None:
            return "revoked"
        if key.signs_from > now:
            return "next"
        superseded_at = self._superseded_at(key)
        if superseded_at is None or superseded_at > now:
            return "active"
        return "retiring" if now < superseded_at + KEEP_AFTER_SIGNING else "gone"

    def _superseded_at(self, key: SigningKey) -> int | None:
        later = self.keys[self.keys.index(key) + 1 :]
        return next((each.signs_from for each in later if each.ever_signed), None)


def sign_claims(typ: str, claims: Mapping[str, Any], key: SigningKey) -> str:
    """A JWT of a type (RFC 8725 §3.11). Raises NoSigningKey if the private key is not at hand."""
    if key.private is None:
        raise NoSigningKey(f"signing key {key.kid} is encrypted with a key that this process does not have")
    return jose.sign({"typ": typ, "kid": key.kid}, claims, key.private, key.alg)


def next_signing_time(ring: KeyRing, now: int) -> int:
    """When a key that is made now may sign: at once only if there is no other that could."""
    try:
        ring.signing_key(now)
    except NoSigningKey:
        return now
    return now + PUBLISH_AHEAD


def is_rotation_due(ring: KeyRing, now: int, age: int, algorithm: str) -> bool:
    """Whether the next key is to be made: the newest is almost `age` seconds old, of another algorithm, or missing."""
    usable = [key for key in ring.keys if key.revoked_at is None]
    if not usable:
        return True
    newest = usable[-1]
    return newest.alg != algorithm or (age > 0 and now + PUBLISH_AHEAD >= newest.signs_from + age)
