"""The revocation feed as text: cursors and events (docs/revocation-feed.md)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from authserver.oauth.errors import CursorGone, InvalidRequest

DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000
POLL_AFTER = 1  # seconds
# From the beginning of what is remembered.
BEGINNING = "0"
_HASH_BYTES = 16
# More transactions that were under way are not listed in a cursor: what comes after them is told again.
_MAX_UNDER_WAY = 32
_SNAPSHOT = r"[0-9]{1,18}:[0-9]{1,18}:(?:[0-9]{1,18}(?:,[0-9]{1,18})*)?"
_CURSOR = re.compile(rf"([0-9A-Fa-f-]{{1,40}})\.({_SNAPSHOT})(?:\.({_SNAPSHOT})\.([0-9]{{1,18}})\.([0-9]{{1,18}}))?")
_LIMIT = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions had committed (PostgreSQL's pg_snapshot): all before `low`, and of those before `high` all but
    the ones `under_way`.
    """

    low: int
    high: int
    under_way: Sequence[int] = ()

    def __str__(self) -> str:
        return f"{self.low}:{self.high}:{','.join(map(str, self.under_way))}"

    def shortened(self) -> Snapshot:
        """One that has seen no more, and lists only so many transactions."""
        if len(self.under_way) <= _MAX_UNDER_WAY:
            return self
        return Snapshot(self.low, self.under_way[_MAX_UNDER_WAY], self.under_way[:_MAX_UNDER_WAY])


NOTHING_SEEN = Snapshot(1, 1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a follower is: it has seen what had committed in a snapshot.

    Between the pages of one poll, `page` says what the first page's snapshot was, and which (transaction id, number)
    came last.
    """

    epoch: str
    seen: Snapshot
    page: tuple[Snapshot, int, int] | None = None

    def __str__(self) -> str:
        return ".".join(map(str, (self.epoch, self.seen, *(self.page or ()))))

    @property
    def after(self) -> tuple[int, int]:
        """Read what comes after this (transaction id, number)."""
        return self.page[1:] if self.page else (self.seen.low, -1)


START = Cursor("", NOTHING_SEEN)


@dataclass(frozen=True, slots=True)
class Revocation:
    """One event. Of `short_hash`, `client_id` and `kid` one is there. Times are Unix seconds."""

    xid: int
    seq: int
    expires_at: int
    short_hash: bytes | None
    client_id: str | None
    issued_before: int | None
    kid: str | None

    def event(self) -> dict[str, Any]:
        """The event as the feed tells it."""
        if self.short_hash is not None:
            shortened = urlsafe_b64encode(self.short_hash[:_HASH_BYTES]).rstrip(b"=").decode()
            return {"type": "token", "hash": shortened, "exp": self.expires_at}
        if self.client_id is not None:
            what: dict[str, Any] = {"client_id": self.client_id, "issued_before": self.issued_before}
            return {"type": "client", **what, "exp": self.expires_at}
        return {"type": "key", "kid": self.kid, "exp": self.expires_at}


@dataclass(frozen=True, slots=True)
class FeedState:
    """Where the server is. What a follower has missed that is below `retained_from` may be forgotten already."""

    epoch: str
    snapshot: Snapshot
    retained_from: int


def read_snapshot(text: str) -> Snapshot:
    """A snapshot in PostgreSQL's notation. Raises ValueError if it contradicts itself."""
    low, high, listed = text.split(":")
    snapshot = Snapshot(int(low), int(high), tuple(map(int, listed.split(",") if listed else ())))
    order = [snapshot.low - 1, *snapshot.under_way]
    if not 0 < snapshot.low <= snapshot.high or order != sorted(set(order)) or order[-1] >= snapshot.high:
        raise ValueError("not a snapshot")
    return snapshot


def read_cursor(text: str | None) -> Cursor | None:
    """The cursor of a request; None to start now. Raises InvalidRequest."""
    if text is None:
        return None
    if text == BEGINNING:
        return START
    match = _CURSOR.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        epoch, seen, first, xid, seq = match.groups()
        page = (read_snapshot(first), int(xid), int(seq)) if first else None
        return Cursor(epoch, read_snapshot(seen), page)
    except ValueError:
        raise InvalidRequest("The cursor is malformed.") from None


def read_limit(text: str | None) -> int:
    """How many events a page may hold. Raises InvalidRequest."""
    if text is None:
        return DEFAULT_LIMIT
    if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidRequest(f"The limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


def check_cursor(cursor: Cursor, state: FeedState) -> None:
    """Return if a follower at this cursor can go on. Raises CursorGone: it must forget what it has cached."""
    if cursor.seen == NOTHING_SEEN:
        return
    if cursor.epoch != state.epoch:
        raise CursorGone("another epoch")
    if cursor.seen.high > state.snapshot.high:
        raise CursorGone("ahead of the database")
    if cursor.seen.low < state.retained_from:
        raise CursorGone("older than what is remembered")


def feed_page(cursor: Cursor | None, state: FeedState, found: Sequence[Revocation], limit: int) -> dict[str, Any]:
    """The answer, from what was found after the cursor: up to one more than `limit`, to see whether there is more."""
    page, more = found[:limit], len(found) > limit
    first = cursor.page[0] if cursor is not None and cursor.page else state.snapshot.shortened()
    if more and cursor is not None:
        following = Cursor(state.epoch, cursor.seen, (first, page[-1].xid, page[-1].seq))
    else:
        following = Cursor(state.epoch, first)
    return {
        "epoch": state.epoch,
        "cursor": str(following),
        "more": more,
        "poll_after": POLL_AFTER,
        "events": [each.event() for each in page],
    }
