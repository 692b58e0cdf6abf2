"""A bounded memory of introspection answers, by the hash of the token. It holds facts, never decisions."""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from resource_server.access_token import AccessToken
from resource_server.deadline import Clock

MAX_TTL: Final = 30.0
NEGATIVE_TTL: Final = 5.0

T = TypeVar("T")


def key_of(token: str) -> bytes:
    """Return the SHA-256 of a token: what the cache holds in its place."""
    return hashlib.sha256(token.encode("ascii")).digest()


class Shelf(Generic[T]):
    """A bounded number of values, each for a while; the least used goes first. Safe among threads."""

    def __init__(self, size: int, clock: Clock = time.monotonic) -> None:
        self._size, self._clock = size, clock
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, tuple[T, float]] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        """Return what is remembered under `key`, None if nothing is, or no longer."""
        with self._lock:
            if (found := self._values.get(key)) is None:
                return None
            value, until = found
            if self._clock() >= until:
                del self._values[key]
                return None
            self._values.move_to_end(key)
            return value

    def put(self, key: bytes, value: T, life: float) -> None:
        """Remember `value` for `life` seconds; without time to live it is not stored."""
        if life <= 0:
            return
        with self._lock:
            self._values[key] = (value, self._clock() + life)
            self._values.move_to_end(key)
            if len(self._values) > self._size:
                self._values.popitem(last=False)

    def drop(self, key: bytes) -> None:
        """Forget what is under `key`, if anything is."""
        with self._lock:
            self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Hit:
    """A remembered answer; `token` is None for an inactive one."""

    token: AccessToken | None


class TokenCache:
    """Remembers active tokens for at most `ttl` seconds and inactive ones for at most `NEGATIVE_TTL`.

    The two are counted apart, `size` each: a flood of made-up tokens cannot push out the good ones. No entry
    outlives the token's `exp`; with `until_expiry`, for those who learn of revocations, that alone ends the life
    of an active one that has an `exp`. `wall` tells the time of day for `exp`, `clock` measures the time kept.
    """

    def __init__(
        self,
        ttl: float,
        size: int = 10_000,
        *,
        until_expiry: bool = False,
        wall: Clock = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        if not 0 < ttl <= MAX_TTL:
            raise ValueError(f"a cached answer lives at most {MAX_TTL:.0f} seconds")
        self._ttl, self._until_expiry, self._wall = ttl, until_expiry, wall
        self._active = Shelf[Hit](size, clock)
        self._inactive = Shelf[Hit](size, clock)

    def get(self, key: bytes) -> Hit | None:
        """Return what is remembered under `key`, None if nothing is, or no longer."""
        return self._active.get(key) or self._inactive.get(key)

    def put(self, key: bytes, token: AccessToken | None) -> None:
        """Remember an answer. One without time to live is not stored."""
        if token is None:
            self._active.drop(key)
            self._inactive.put(key, Hit(None), min(self._ttl, NEGATIVE_TTL))
        else:
            self._inactive.drop(key)
            self._active.put(key, Hit(token), self._life(token))

    def __len__(self) -> int:
        return len(self._active) + len(self._inactive)

    def _life(self, token: AccessToken) -> float:
        if token.expires_at is None:
            return self._ttl
        life = token.expires_at - self._wall()
        return life if self._until_expiry else min(self._ttl, life)
