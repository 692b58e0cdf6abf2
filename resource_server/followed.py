"""Verifiers that remember for as long as a token lives, because the revocation feed tells them when it ended."""

from typing import Final, Protocol

from resource_server.access_token import AccessToken
from resource_server.cache import key_of
from resource_server.deadline import Deadline
from resource_server.errors import UnavailableError
from resource_server.feed import Trouble
from resource_server.follower import Follower
from resource_server.jwt import JwtVerifier
from resource_server.stats import Stats
from resource_server.verifier import TokenVerifier

_PATIENCE: Final = 3.0


class Follow(Protocol):
    """Returns this process's follower."""

    def __call__(self) -> Follower:
        """Return it."""


class Fallback:
    """What to do while the feed is silent: `unaided`, or `without_feed` if the server says that it has none."""

    def __init__(self, unaided: TokenVerifier, without_feed: TokenVerifier, stats: Stats) -> None:
        self._unaided, self._without_feed, self._stats = unaided, without_feed, stats

    def __call__(self, follower: Follower, token: str, deadline: Deadline) -> AccessToken | None:
        """Find out about `token` with no help of what is remembered."""
        reason = follower.problem or Trouble.LOST.value
        self._stats.count("fallbacks", reason)
        verify = self._without_feed if reason == Trouble.NO_FEED.value else self._unaided
        answer = verify(token, deadline)
        # what the feed told while the answer was under way holds, whether or not it is all that there is to know
        return follower.era.unless_revoked(key_of(token), answer)


class FollowedIntrospection:
    """Introspects each token once and remembers the answer until the token expires or is revoked."""

    def __init__(
        self, ask: TokenVerifier, follow: Follow, fallback: Fallback, stats: Stats, patience: float = _PATIENCE
    ) -> None:
        self._ask, self._follow, self._fallback, self._stats = ask, follow, fallback, stats
        self._patience = patience

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token`."""
        follower = self._follow()
        if (era := follower.fresh()) is None:
            return self._fallback(follower, token, deadline or Deadline.after(self._patience))
        digest = key_of(token)
        if (hit := era.answers.get(digest)) is not None:
            self._stats.count("cache_hits")
            return era.unless_revoked(digest, hit.token)
        self._stats.count("cache_misses")
        deadline, own = deadline or Deadline.after(self._patience), False

        def ask() -> AccessToken | None:
            nonlocal own
            # the flight before this one may have landed between our miss and our take-off
            if (hit := era.answers.get(digest)) is not None:
                return hit.token
            own = True
            answer = self._ask(token, deadline)
            era.answers.put(digest, answer)
            return answer

        answer = era.flights.share(digest, ask, deadline)
        if not own and follower.fresh() is not era:
            # the call may have begun before a revocation that nobody has told us of
            return self._fallback(follower, token, deadline)
        return era.unless_revoked(digest, answer)


class FollowedJwt:
    """Verifies JWTs locally and heeds the feed."""

    def __init__(self, local: JwtVerifier, follow: Follow, fallback: Fallback, patience: float = _PATIENCE) -> None:
        self._local, self._follow, self._fallback, self._patience = local, follow, fallback, patience

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token`."""
        deadline = deadline or Deadline.after(self._patience)
        follower, digest = self._follow(), key_of(token)
        facts = self._local.verify(token, digest, deadline)
        # only now: fetching keys takes time
        if (era := follower.fresh()) is None:
            return self._fallback(follower, token, deadline)
        return era.unless_revoked(digest, facts)


class Confirmed:
    """Verifies JWTs locally and has each confirmed by introspection; without anyone to ask nothing is good."""

    def __init__(self, local: JwtVerifier, ask: TokenVerifier | None) -> None:
        self._local, self._ask = local, ask

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token`."""
        facts = self._local(token, deadline)
        if self._ask is None:
            raise UnavailableError("whether a JWT is revoked is not known, and there is nobody to ask")
        return None if self._ask(token, deadline) is None else facts
