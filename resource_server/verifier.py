"""From a token to the facts about it: the contract, and the verifier that remembers for a while."""

from collections.abc import Callable
from typing import Final, Protocol

from resource_server.access_token import AccessToken
from resource_server.cache import TokenCache, key_of
from resource_server.deadline import Deadline
from resource_server.per_process import PerProcess
from resource_server.single_flight import SingleFlight
from resource_server.stats import Stats

_PATIENCE: Final = 3.0


class TokenVerifier(Protocol):
    """Finds out about a token, by asking or by looking at it.

    Returns the facts; None, or `InvalidTokenError` with the reason, for a token that is no good. Raises
    `UnavailableError` if it cannot be known now.
    Expiry, audience and scope are not its business: the `Guard` checks them on every request.
    """

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token` by `deadline`."""


class _Memory:
    def __init__(self, cache: TokenCache) -> None:
        self.cache = cache
        self.flights: SingleFlight[AccessToken | None] = SingleFlight()


class CachedVerifier:
    """Puts a `TokenCache` and single flight in front of another verifier. Each process remembers for itself.

    A revoked token stays accepted for as long as it is remembered. Who cannot have that uses the inner
    verifier alone: it also shares no call, because the answer to a call that began before a revocation may be
    older than the revocation.
    """

    def __init__(
        self,
        inner: TokenVerifier,
        make_cache: Callable[[], TokenCache],
        *,
        stats: Stats | None = None,
        patience: float = _PATIENCE,
    ) -> None:
        self._inner, self._stats, self._patience = inner, stats or Stats(), patience
        self._memory = PerProcess(lambda: _Memory(make_cache()))

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token`, from memory if it is there; a failed call leaves nothing behind."""
        memory, key = self._memory(), key_of(token)
        if (hit := memory.cache.get(key)) is not None:
            self._stats.count("cache_hits")
            return hit.token
        self._stats.count("cache_misses")
        deadline = deadline or Deadline.after(self._patience)
        return memory.flights.share(key, lambda: self._ask(memory.cache, key, token, deadline), deadline)

    def _ask(self, cache: TokenCache, key: bytes, token: str, deadline: Deadline) -> AccessToken | None:
        # the flight before this one may have landed between our miss and our take-off
        if (hit := cache.get(key)) is not None:
            return hit.token
        facts = self._inner(token, deadline)
        cache.put(key, facts)
        return facts
