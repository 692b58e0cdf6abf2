"""Follows the revocation feed for one process, and says whether what it knows is fresh."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resource_server.deadline import Clock
from resource_server.era import Era, Moment
from resource_server.feed import Page, Source, Trouble, Unchanged, Unread
from resource_server.stats import Stats
from resource_server.tombstones import FullError, Tombstones

_log: Final = logging.getLogger(__name__)

# Seconds for which a complete pass through the feed, counted from its beginning, vouches for what is remembered.
FRESH: Final = 3.0
_SOONEST: Final = 0.2
_LATEST: Final = 1.0
_WITHOUT_FEED: Final = 60.0
# A clock that is set, or stood still with the machine, differs by more than this from one that is merely steered.
_STEP: Final = 1.0
_REPEAT: Final = 60.0
_FROM_THE_BEGINNING: Final = "0"


@dataclass(slots=True)
class _Position:
    """Where in the feed to read on. `began` is when the pass began that is under way."""

    cursor: str | None
    etag: str | None = None
    epoch: str | None = None
    began: Moment | None = None


class Follower:
    """Polls the feed when told to. `poll` is for one thread, everything else for any.

    `whole` reads all revocations that are retained before anything counts as fresh: who validates JWTs must
    know of those that happened before it started. `forget` is called when everything is to be forgotten.
    """

    era: Era
    _at: _Position

    def __init__(
        self,
        feed: Source,
        *,
        whole: bool,
        stats: Stats | None = None,
        forget: Callable[[], None] = lambda: None,
        size: int = 250_000,
        wall: Clock = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        self._feed, self._whole, self._forget, self._size = feed, whole, forget, size
        self._stats, self._wall, self._clock = stats or Stats(), wall, clock
        self.problem = "starting"
        self._said, self._said_at, self._failures, self._pause = "", 0.0, 0, _LATEST
        self._purged_at, self._last = clock(), self._moment()
        self._start_over()

    def fresh(self) -> Era | None:
        """Return what is known if that can be relied on, None if every token has to be asked about.

        To be called after the fact: an answer may be given if what it rests on is fresh when it is given.
        """
        era = self.era
        if (complete := era.complete) is None:
            return None
        now = self._clock()
        # A clock that jumped may have made us forget a tombstone too early, or have stood still meanwhile.
        stepped = abs(self._wall() - now - complete.offset) > _STEP
        return None if stepped or now - complete.at > FRESH else era

    def age(self) -> float | None:
        """Seconds since the last complete pass began; None if there was none."""
        complete = self.era.complete
        return None if complete is None else self._clock() - complete.at

    def poll(self) -> float:
        """Read the feed to its end, or until it fails. Returns the point of the clock at which to poll again."""
        before, self._last = self._last, self._moment()
        if self._last.offset < before.offset - _STEP:
            _log.warning("the clock was set back: following the revocation feed anew")
            self._start_over()
        self._purge()
        # a pass that was interrupted and goes on has seen the feed as it was when it began
        self._at.began = self._at.began or self._last
        while True:
            answer = self._feed(self._at.cursor, self._at.etag)
            if isinstance(answer, Page):
                answer = self._take(answer) or answer
            if isinstance(answer, Unread):
                return self._failed(answer)
            if isinstance(answer, Unchanged) or not answer.more:
                return self._completed()

    def _take(self, page: Page) -> Unread | None:
        if self._at.epoch not in {None, page.epoch}:
            return Unread(Trouble.GONE, "the epoch changed")
        if page.more and page.cursor == self._at.cursor:
            return Unread(Trouble.LOST, "a page that leads back to itself")
        try:
            for event in page.events:
                self.era.tombstones.add(event, self._wall())
        except FullError:
            # the cursor stays: the page is read again until there is room for it
            return Unread(Trouble.FULL, "more revocations than there is room for")
        # RFC 9110 §13.1.2: an entity tag says something about one URL only, and so about one cursor
        same = page.cursor == self._at.cursor and not page.events
        self._at = _Position(page.cursor, page.etag if same else None, page.epoch, self._at.began)
        self._pause = max(_SOONEST, min(page.poll_after, _LATEST))
        return None

    def _completed(self) -> float:
        self.era.complete, self._at.began, self._failures = self._at.began, None, 0
        self._say("", "following the revocation feed", logging.INFO)
        self._stats.count("polls", "complete")
        self._stats.measure("tombstones", len(self.era.tombstones))
        self._stats.measure("last_poll", self._last.at + self._last.offset)
        return self._last.at + self._pause

    def _failed(self, unread: Unread) -> float:
        trouble = unread.trouble
        self._stats.count("polls", trouble.value)
        level = logging.CRITICAL if trouble is Trouble.REFUSED else logging.WARNING
        self._say(trouble.value, f"revocation feed {trouble.value}: {unread.reason}", level)
        if trouble in {Trouble.GONE, Trouble.NO_FEED}:
            self._start_over()
        if trouble is Trouble.NO_FEED:
            return self._clock() + _WITHOUT_FEED
        self._failures += 1
        return self._clock() + min(_LATEST, _SOONEST * 2.0 ** min(self._failures - 1, 8))

    def _start_over(self) -> None:
        self.era = Era(Tombstones(self._size), wall=self._wall, clock=self._clock)
        self._forget()
        self._at = _Position(_FROM_THE_BEGINNING if self._whole else None)

    def _purge(self) -> None:
        if self._last.at - self._purged_at >= _REPEAT or len(self.era.tombstones) >= self._size:
            self._purged_at = self._last.at
            self.era.tombstones.purge(self._wall())

    def _say(self, problem: str, text: str, level: int) -> None:
        self.problem = problem
        if problem != self._said or (problem and self._last.at - self._said_at >= _REPEAT):
            self._said, self._said_at = problem, self._last.at
            _log.log(level, text)

    def _moment(self) -> Moment:
        now = self._clock()
        return Moment(now, self._wall() - now)
