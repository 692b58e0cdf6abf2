"""The issuer's keys, fetched when they are needed and kept for a while. Each process keeps its own."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from resource_server.deadline import Clock, Deadline
from resource_server.errors import UnavailableError
from resource_server.jwk import Keys, NotJwkSetError, VerifyingKey, verifying_keys
from resource_server.per_process import PerProcess
from resource_server.stats import Stats
from resource_server.transport import Reply

_log: Final = logging.getLogger(__name__)
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=\"?(\d{1,9})", re.IGNORECASE)
_LEAST_AGE: Final = 60.0
_MOST_AGE: Final = 3600.0
_USUAL_AGE: Final = 300.0
# How long keys serve that could not be fetched again.
MAX_STALE: Final = 24 * 3600.0
# Seconds between fetches that tokens with an unknown kid cause, and between attempts while the server fails.
COOLDOWN: Final = 30.0
_PATIENCE: Final = 3.0
_LONG_AGO: Final = float("-inf")


class _State:
    """One process's keys. Times are the clock's; `lock` is held during a fetch, so there is one at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.keys: Keys = {}
        self.kids: frozenset[str] = frozenset()
        self.fetched = self.fresh_until = _LONG_AGO
        self.tried = self.ended = self.searched = _LONG_AGO
        self.failure: UnavailableError | None = None


class Jwks:
    """Finds keys. `fetch` gets the JWK Set document by a deadline or raises `UnavailableError`.

    The document is fetched again once its max-age is over (60 seconds at least, an hour at most), and when a
    token names a key that is not in it, at most once per `COOLDOWN`. While fetching fails the keys last seen
    serve on, for `MAX_STALE` seconds at most.
    """

    def __init__(
        self,
        fetch: Callable[[Deadline], Reply],
        algorithms: Iterable[str],
        *,
        stats: Stats | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._fetch, self.algorithms = fetch, frozenset(algorithms)
        self._stats, self._clock = stats or Stats(), clock
        self._state = PerProcess(_State)

    def find(self, kid: str, alg: str, deadline: Deadline | None = None) -> VerifyingKey | None:
        """Return the key named `kid` if it is one for `alg`, None if the issuer has no such key.

        Raises `UnavailableError` when that cannot be known: there are no keys, or new ones cannot be fetched.
        """
        state, now = self._state(), self._clock()
        if now >= state.fresh_until:
            self._renew(state, now, deadline)
        key = state.keys.get((kid, alg))
        if key is None and kid not in state.kids:
            self._search(state, now, deadline)
            key = state.keys.get((kid, alg))
            if key is None and state.failure:
                raise UnavailableError(str(state.failure), state.failure.retry_after)
        if not state.keys:
            raise UnavailableError("the JWK Set has no key that could be used")
        return key

    def _renew(self, state: _State, since: float, deadline: Deadline | None) -> None:
        if since - state.fetched >= MAX_STALE:
            with self._turn(state, deadline):
                if state.ended < since:
                    self._load(state, deadline)
                if state.fetched < since and state.failure:
                    raise UnavailableError(str(state.failure), state.failure.retry_after)
        elif since - state.tried >= COOLDOWN or not state.failure:
            # the keys last seen bridge a failure; who waits in vain for another's fetch uses them too
            with suppress(UnavailableError), self._turn(state, deadline):
                if state.ended < since:
                    self._load(state, deadline)

    def _search(self, state: _State, since: float, deadline: Deadline | None) -> None:
        with self._turn(state, deadline):
            if state.ended < since and self._clock() - state.searched >= COOLDOWN:
                state.searched = self._clock()
                self._load(state, deadline)

    def _load(self, state: _State, deadline: Deadline | None) -> None:
        state.tried = self._clock()
        try:
            reply = self._fetch(deadline or Deadline.after(_PATIENCE))
            state.keys = verifying_keys(reply.json or {}, self.algorithms, state.keys)
        except UnavailableError as error:
            # kept for others to raise anew: without the traceback, which would hold on to its frames
            state.failure = UnavailableError(str(error), error.retry_after)
        except NotJwkSetError:
            _log.warning("what was fetched in place of keys is no JWK Set")
            state.failure = UnavailableError("not a JWK Set")
        else:
            state.kids = frozenset(kid for kid, _ in state.keys)
            state.fetched, state.failure = state.tried, None
            state.fresh_until = state.tried + _age(reply.headers.get("Cache-Control", ""))
        finally:
            state.ended = self._clock()
            self._stats.count("jwks_fetches", "failed" if state.failure else "ok")

    @contextmanager
    def _turn(self, state: _State, deadline: Deadline | None) -> Iterator[None]:
        if not state.lock.acquire(timeout=max(0.0, deadline.remaining() if deadline else _PATIENCE)):
            raise UnavailableError("deadline passed while another thread fetched keys")
        try:
            yield
        finally:
            state.lock.release()


def _age(cache_control: str) -> float:
    # RFC 9111 §5.2.2
    found = _MAX_AGE.search(cache_control)
    return max(_LEAST_AGE, min(float(found[1]), _MOST_AGE)) if found else _USUAL_AGE
