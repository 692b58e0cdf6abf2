"""Keys that clients and issuers publish at a URL: fetched when needed, remembered for a while, waited for by few.

Whoever may name a URL, or send an assertion with a made-up `kid`, can make this process fetch. So for each holder there
is one fetch at a time and a pause after one that brought nothing; fetches run in threads of their own, a few at a time;
and of the threads that serve requests a few at most wait for one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from authserver.fetch.documents import DEADLINE, FetchFailed
from authserver.oauth.public_keys import InvalidKeySet, KeySet, PublicKey

_log = logging.getLogger("authserver.flows")

Load = Callable[[float], KeySet]
"""Fetch a key set until a deadline (monotonic). May raise FetchFailed, InvalidKeySet."""

# Seconds. A key that was taken away stops working after FRESH at the latest, and while its URL fails after STALE.
FRESH = 300
STALE = 3600
COOLDOWN = 30
MAX_FETCHES = 4
MAX_WAITING = 2
MAX_HOLDERS = 10_000


class KeysUnavailable(Exception):
    """The keys are not known and could not be fetched; the message says why."""


@dataclass(eq=False)
class _Fetch:
    """A fetch that is under way."""

    deadline: float
    done: threading.Event


@dataclass(eq=False)
class _Held:
    """What is known of one holder's keys. Times are those of the clock."""

    keys: KeySet | None = None
    loaded_at: float = -math.inf
    failed_at: float = -math.inf
    failure: str = "not fetched yet"
    # When a fetch was last begun because a key was missing in a set that was still fresh.
    missed_at: float = -math.inf
    fetch: _Fetch | None = None


class RemoteKeys:
    """The key sets this process has fetched lately. Of two such, neither can be kept busy by the other's holders."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        max_waiting: int = MAX_WAITING,
        before_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """At most `max_waiting` threads wait for a fetch; `before_waiting` is called in one that is about to."""
        self._clock, self._before_waiting = clock, before_waiting
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching = threading.BoundedSemaphore(MAX_FETCHES)
        self._waiting = threading.BoundedSemaphore(max_waiting)

    def find(self, holder: Hashable, load: Load, kid: str | None, algorithm: str) -> PublicKey | None:
        """The holder's key for a signature, or None if it has no such key. `load` is how its keys are fetched.

        Raises KeysUnavailable.
        """
        with self._lock:
            held = self._of(holder)
            fetch = self._fetch_if_needed(held, load, kid, algorithm)
        if fetch is not None and self._waiting.acquire(blocking=False):
            self._before_waiting()
            try:
                fetch.done.wait(max(fetch.deadline - time.monotonic(), 0))
            finally:
                self._waiting.release()
        with self._lock:
            if held.keys is None or self._age(held.loaded_at) >= STALE:
                raise KeysUnavailable(held.failure)
            return held.keys.find(kid, algorithm)

    def _of(self, holder: Hashable) -> _Held:
        held = self._held.setdefault(holder, _Held())
        self._held.move_to_end(holder)
        if len(self._held) > MAX_HOLDERS:
            self._held.popitem(last=False)
        return held

    def _age(self, at: float) -> float:
        return self._clock() - at

    def _fetch_if_needed(self, held: _Held, load: Load, kid: str | None, algorithm: str) -> _Fetch | None:
        """The fetch to wait for, begun here or before; None if what is known has to do."""
        fresh = held.keys is not None and self._age(held.loaded_at) < FRESH
        if fresh and held.keys is not None and held.keys.find(kid, algorithm) is not None:
            return None
        if held.fetch is None and self._age(held.failed_at) >= COOLDOWN:
            if fresh and self._age(held.missed_at) < COOLDOWN:
                return None
            if self._begin(held, load) and fresh:
                held.missed_at = self._clock()
        return held.fetch

    def _begin(self, held: _Held, load: Load) -> bool:
        if not self._fetching.acquire(blocking=False):
            held.failure = "too many fetches at once"
            return False
        held.fetch = fetch = _Fetch(time.monotonic() + DEADLINE, threading.Event())
        # A daemon: a name server that does not answer must not hold up a stop.
        threading.Thread(target=self._run, args=(held, fetch, load), daemon=True).start()
        return True

    def _run(self, held: _Held, fetch: _Fetch, load: Load) -> None:
        keys, failure = None, ""
        try:
            keys = load(fetch.deadline)
        except (FetchFailed, InvalidKeySet) as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - a thread of its own has nobody else to tell
            failure = f"unexpected {type(error).__name__}"
            _log.critical("fetching keys: %s", failure)
        finally:
            self._fetching.release()
            with self._lock:
                if keys is None:
                    held.failed_at, held.failure = self._clock(), failure
                else:
                    held.keys, held.loaded_at = keys, self._clock()
                held.fetch = None
            fetch.done.set()
