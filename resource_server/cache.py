"""A bounded memory of introspection answers, by the hash of the token. It holds facts, never decisions."""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from resource_server.access_token import AccessToken
from resource_server.deadline import Clock

MAX_TTL: Final = 30.0
NEGATIVE_TTL: Final = 5.0


def key_of(token: str) -> bytes:
    """Return the SHA-256 of a token: what the cache holds in its place."""
    return hashlib.sha256(token.encode("ascii")).digest()


@dataclass(frozen=True, slots=True)
class Hit:
    """A remembered answer; `token` is None for an inactive one."""

    token: AccessToken | None
    until: float


class TokenCache:
    """Remembers active tokens for at most `ttl` seconds and inactive ones for at most `NEGATIVE_TTL`.

    The two are counted apart, `size` each: a flood of made-up tokens cannot push out the good ones. No entry
    outlives the token's `exp`. `wall` tells the time of day for `exp`, `clock` measures the time kept.
    """

    def __init__(
        self, ttl: float, size: int = 10_000, *, wall: Clock = time.time, clock: Clock = time.monotonic
    ) -> None:
        if not 0 < ttl <= MAX_TTL:
            raise ValueError(f"a cached answer lives at most {MAX_TTL:.0f} seconds")
        self._ttl, self._size, self._wall, self._clock = ttl, size, wall, clock
        self._lock = threading.Lock()
        self._active: OrderedDict[bytes, Hit] = OrderedDict()
        self._inactive: OrderedDict[bytes, Hit] = OrderedDict()

    def get(self, key: bytes) -> Hit | None:
        """Return what is remembered under `key`, None if nothing is, or no longer."""
        with self._lock:
            shelf = self._active if key in self._active else self._inactive
            hit = shelf.get(key)
            if hit is not None and self._clock() >= hit.until:
                del shelf[key]
                return None
            if hit is not None:
                shelf.move_to_end(key)
            return hit

    def put(self, key: bytes, token: AccessToken | None) -> None:
        """Remember an answer. One without time to live is not stored."""
        life = self._life(token)
        if life <= 0:
            return
        with self._lock:
            shelf, other = (self._inactive, self._active) if token is None else (self._active, self._inactive)
            other.pop(key, None)
            shelf[key] = Hit(token, self._clock() + life)
            shelf.move_to_end(key)
            if len(shelf) > self._size:
                shelf.popitem(last=False)

    def __len__(self) -> int:
        return len(self._active) + len(self._inactive)

    def _life(self, token: AccessToken | None) -> float:
        if token is None:
            return min(self._ttl, NEGATIVE_TTL)
        if token.expires_at is None:
            return self._ttl
        return min(self._ttl, token.expires_at - self._wall())
