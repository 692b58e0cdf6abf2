"""A circuit breaker: a server that keeps failing is left alone for a moment."""

import math
import threading
import time
from collections.abc import Callable

from resource_server.deadline import Clock
from resource_server.errors import UnavailableError


class Breaker:
    """Counts failures in a row; after `threshold` of them lets one call through per `cooldown` seconds.

    `tell` hears whether it is open: at first, and whenever that changes.
    """

    def __init__(
        self,
        threshold: int = 5,
        cooldown: float = 1.0,
        clock: Clock = time.monotonic,
        tell: Callable[[bool], None] = lambda _is_open: None,
    ) -> None:
        self._threshold, self._cooldown, self._clock = threshold, cooldown, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0
        self._tell = tell
        tell(False)

    def admit(self) -> None:
        """Let the call pass or raise `UnavailableError`; who passes reports `succeeded` or `failed`."""
        with self._lock:
            if self._failures < self._threshold:
                return
            now = self._clock()
            if now < self._open_until:
                wait = math.ceil(self._open_until - now)
                raise UnavailableError("circuit breaker open", retry_after=wait)
            # this caller is the probe; should it never report, the next one may try after another cooldown
            self._open_until = now + self._cooldown

    def succeeded(self) -> None:
        """Close the circuit."""
        with self._lock:
            if self._failures >= self._threshold:
                self._tell(False)
            self._failures = 0

    def failed(self) -> None:
        """Count a failure; the one that reaches the threshold, and each after it, opens the circuit."""
        with self._lock:
            self._failures += 1
            if self._failures == self._threshold:
                self._tell(True)
            self._open_until = self._clock() + self._cooldown
