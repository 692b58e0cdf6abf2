"""Throttle repeated failed authentication (RFC 6749 §2.3.1), for each client and address, in all processes together.

Secrets and tokens of 256 random bits cannot be guessed; what is kept down is the work that attempts cause, and the
noise. Nothing is written for who succeeds. Who is throttled is answered from memory, without the database. The
rightful client is not locked out: elsewhere nobody has failed in its name, and even from the same address its
credential passes wherever it is remembered, which is looked at first.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from authserver.oauth.errors import InvalidToken, Throttled
from authserver.store.authentication_failures import AuthenticationFailures

T = TypeVar("T")

# Failures of one client from one address in one minute, after which the rest of the minute is refused.
LIMIT = 10
MINUTE = 60
_REMEMBERED = 10_000


def who_failed(name: object, address: str) -> bytes:
    """What failures are counted for."""
    return hashlib.sha256(repr((name, address)).encode(errors="surrogateescape")).digest()


class Throttle:
    """What this process knows of who has failed too often."""

    def __init__(self, failures: AuthenticationFailures) -> None:
        self._failures = failures
        self._refused_until: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def require_patience(self, who: bytes, now: int) -> None:
        """Return unless too many attempts have failed. Raises Throttled."""
        until = self._refused_until.get(who, 0)
        if until > now:
            raise Throttled(until - now)

    def failed(self, who: bytes, now: int) -> None:
        """Count a failure. Raises Unavailable."""
        minute = now // MINUTE
        if self._failures.count(who, minute) < LIMIT:
            return
        with self._lock:
            self._refused_until[who] = (minute + 1) * MINUTE
            self._refused_until.move_to_end(who)
            if len(self._refused_until) > _REMEMBERED:
                self._refused_until.popitem(last=False)

    def bearer(self, name: str, address: str, now: int, act: Callable[[], T]) -> T:
        """Do something that a bearer token allows or does not. Raises Throttled, Unavailable, and what `act` raises."""
        who = who_failed(name, address)
        self.require_patience(who, now)
        try:
            return act()
        except InvalidToken:
            self.failed(who, now)
            raise
