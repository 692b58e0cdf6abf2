"""What one process has learnt since it began to follow the feed at one point."""

from typing import Final, NamedTuple

from resource_server.access_token import AccessToken
from resource_server.cache import MAX_TTL, TokenCache
from resource_server.deadline import Clock
from resource_server.single_flight import SingleFlight
from resource_server.tombstones import Tombstones

_SIZE: Final = 10_000


class Moment(NamedTuple):
    """A point in time: `at` of the monotonic clock, `offset` what the time of day was ahead of that."""

    at: float
    offset: float


class Era:
    """Answers, calls under way and tombstones that belong together.

    When the feed has to be followed anew, a new era replaces this one as a whole: a request that still holds
    the old one finds in it what it knew, and what it adds there reaches nobody.
    """

    def __init__(self, tombstones: Tombstones, *, wall: Clock, clock: Clock) -> None:
        self.tombstones = tombstones
        self.answers = TokenCache(MAX_TTL, _SIZE, until_expiry=True, wall=wall, clock=clock)
        self.flights: SingleFlight[AccessToken | None] = SingleFlight()
        # the beginning of the last complete pass through the feed
        self.complete: Moment | None = None

    def unless_revoked(self, digest: bytes, token: AccessToken | None) -> AccessToken | None:
        """Return `token`, None if it is revoked as far as is known.

        Whoever gets an answer out of this era passes it through here last. So an answer that was stored after
        its tombstone had arrived does no harm, and storing needs no lock.
        """
        return None if token is None or self.tombstones.cover(digest, token) else token
