"""Where a request ends (RFC 9112 §6): functions on bytes, without I/O.

Stricter than the parser that reads the request afterwards: what two readers could take differently is refused here, and
the parser gets exactly the bytes of one request. A body has a Content-Length (§6.3 item 6 lets a server insist on it):
OAuth requests are small forms, and clients know how long they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD = 32768
MAX_BODY = 65536

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(_TOKEN + rb" [^\x00-\x20\x7f]+ HTTP/1\.([01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([^\x00-\x08\x0a-\x1f\x7f]*)")
_END = b"\r\n\r\n"


class Refused(Exception):
    """Not a request that is read here. The bytes after it mean nothing: the connection must close."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request line with its fields, and what they say about the body."""

    data: bytes
    length: int
    waits_to_go_on: bool


def read_head(received: bytes) -> Head:
    """Read a head without the empty line that ends it. Raises Refused."""
    # RFC 9112 §2.2: some clients end a body with a line end that they did not announce.
    line, *lines = received.removeprefix(b"\r\n").split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(line)
    if request_line is None:
        raise Refused(HTTPStatus.BAD_REQUEST)
    values: dict[bytes, list[bytes]] = {}
    kept = [line]
    for field in lines:
        if (match := _FIELD.fullmatch(field)) is None:
            raise Refused(HTTPStatus.BAD_REQUEST)
        name = match[1].lower()
        values.setdefault(name, []).append(match[2].strip(b" \t"))
        if name != b"expect":  # the parser need not know: it gets the body at once
            kept.append(field)
    # RFC 9112 §3.2
    if len(values.get(b"host", ())) != 1 and (request_line[1] == b"1" or b"host" in values):
        raise Refused(HTTPStatus.BAD_REQUEST)
    length = _length(values, request_line[1])
    expected = {value.lower() for value in values.get(b"expect", ())}
    if expected - {b"100-continue"}:
        raise Refused(HTTPStatus.EXPECTATION_FAILED)
    # RFC 9110 §10.1.1: an HTTP/1.0 client does not know what a 100 is.
    return Head(b"\r\n".join(kept) + _END, length, bool(expected) and request_line[1] == b"1")


def _length(values: dict[bytes, list[bytes]], minor_version: bytes) -> int:
    """How long the body is (RFC 9112 §6.3). Raises Refused."""
    announced, codings = values.get(b"content-length", []), values.get(b"transfer-encoding")
    if codings is not None:
        if announced or minor_version == b"0":  # RFC 9112 §6.1: somebody may be smuggling
            raise Refused(HTTPStatus.BAD_REQUEST)
        chunked = b",".join(codings).lower() == b"chunked"
        raise Refused(HTTPStatus.LENGTH_REQUIRED if chunked else HTTPStatus.NOT_IMPLEMENTED)
    if not announced:
        return 0
    if len(announced) > 1 or not announced[0].isdigit():
        raise Refused(HTTPStatus.BAD_REQUEST)
    digits = announced[0].lstrip(b"0") or b"0"
    if len(digits) > len(str(MAX_BODY)) or int(digits) > MAX_BODY:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(digits)


class Incoming:
    """One request while it arrives, in pieces of any size. No byte is looked at twice for want of the next."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._searched = 0
        self._told = False
        self.head: Head | None = None

    def add(self, data: bytes) -> None:
        """Take what has come."""
        self._received += data

    def take(self) -> tuple[bytes, bytes] | None:
        """The whole request and what came behind it; None while it is not whole. Raises Refused."""
        if self.head is None:
            end = self._received.find(_END, max(0, self._searched - len(_END) + 1))
            self._searched = len(self._received)
            if (self._searched if end < 0 else end) > MAX_HEAD:
                raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if end < 0:
                return None
            self.head = read_head(bytes(self._received[:end]))
            del self._received[: end + len(_END)]
        if len(self._received) < self.head.length:
            return None
        body, rest = self._received[: self.head.length], self._received[self.head.length :]
        return self.head.data + body, bytes(rest)

    def must_be_told_to_go_on(self) -> bool:
        """Whether the client waits for a 100 (Continue); it is told once, and not if it sends the body anyway."""
        if self._told or self.head is None or not self.head.waits_to_go_on or self._received:
            return False
        self._told = True
        return True
