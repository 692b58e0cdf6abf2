"""The revocation feed, the asking side: a cursor in, a page of events or what went wrong out."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import requests
from joserfc.util import urlsafe_b64decode

from resource_server.claims import ClaimError, text_of, time_of
from resource_server.deadline import Deadline
from resource_server.tombstones import HASH_LENGTH, ClientRevoked, Event, KeyRevoked, TokenRevoked
from resource_server.transport import Failure, Reply, Transport

MAX_PAGE: Final = 1024 * 1024
_LIMIT: Final = 1000
# A page that takes longer than this came too late to be of use.
_PATIENCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the feed; `etag` names this answer to this cursor."""

    epoch: str
    cursor: str
    more: bool
    events: tuple[Event, ...] = ()
    poll_after: float = 1.0
    etag: str | None = None


class Trouble(Enum):
    """Why there is no page."""

    LOST = "lost"
    GONE = "gone"
    REFUSED = "refused"
    NO_FEED = "no_feed"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Unread:
    """No page; `reason` is for the log."""

    trouble: Trouble
    reason: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing has happened since the answer that the entity tag names."""


class Source(Protocol):
    """Reads the feed after `cursor` (None: from now on); `etag` is that of the last answer to the same cursor."""

    def __call__(self, cursor: str | None, etag: str | None) -> Page | Unchanged | Unread:
        """Return a page, or why there is none."""


class Feed:
    """Reads the feed over HTTP, one attempt at a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __call__(self, cursor: str | None, etag: str | None) -> Page | Unchanged | Unread:
        """Read a page; see `Source`."""
        params = {"limit": str(_LIMIT)} | ({} if cursor is None else {"cursor": cursor})
        headers = {} if etag is None else {"If-None-Match": etag}
        reply = self._transport.send("GET", Deadline.after(_PATIENCE), params=params, headers=headers)
        if isinstance(reply, Failure):
            return Unread(Trouble.LOST, reply.reason)
        if reply.status == requests.codes.not_modified and etag is not None:
            return Unchanged()
        return _page(reply) if reply.status == requests.codes.ok else _trouble(reply.status)


def _trouble(status: int) -> Unread:
    by_status = {401: Trouble.REFUSED, 403: Trouble.REFUSED, 404: Trouble.NO_FEED, 410: Trouble.GONE}
    return Unread(by_status.get(status, Trouble.LOST), f"status {status}")


def _page(reply: Reply) -> Page | Unread:
    try:
        return _read(reply.json or {}, reply.headers.get("ETag"))
    except ClaimError as error:
        return Unread(Trouble.LOST, f"not a page of the feed: {error}")


def _read(body: dict[str, Any], etag: str | None) -> Page:
    more, events = body.get("more"), body.get("events")
    if not isinstance(more, bool) or not isinstance(events, list):
        raise ClaimError("more or events has the wrong type")
    poll_after = time_of(body, "poll_after")
    return Page(
        epoch=_text(body, "epoch"),
        cursor=_text(body, "cursor"),
        more=more,
        events=tuple(map(_event, events)),
        poll_after=1.0 if poll_after is None else poll_after,
        etag=etag,
    )


def _event(event: Any) -> Event:
    if not isinstance(event, dict):
        raise ClaimError("an event is not an object")
    exp = _whole(event, "exp")
    match event.get("type"):
        case "token":
            return TokenRevoked(_hash(_text(event, "hash")), exp)
        case "client":
            return ClientRevoked(_text(event, "client_id"), _whole(event, "issued_before"), exp)
        case "key":
            return KeyRevoked(_text(event, "kid"), exp)
    # what is not understood cannot be heeded, and to pass over it would be to accept what is revoked
    raise ClaimError("an event has an unknown type")


def _hash(text: str) -> bytes:
    try:
        decoded = urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        decoded = b""
    return decoded if len(decoded) == HASH_LENGTH else _missing("hash")


def _text(members: dict[str, Any], name: str) -> str:
    return text_of(members, name) or _missing(name)


def _whole(members: dict[str, Any], name: str) -> int:
    value = time_of(members, name)
    return value if isinstance(value, int) else _missing(name)


def _missing(name: str) -> Any:
    raise ClaimError(f"{name} is missing or not of its type")
