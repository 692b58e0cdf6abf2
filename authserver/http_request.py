"""What a request says and where it ends (RFC 9112): functions on bytes, without I/O.

Stricter than most readers: what another one, such as a proxy in front, could take differently is refused here. A body
has a Content-Length (§6.3 item 6 lets a server insist on it): OAuth requests are small forms, and clients know how long
they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

# In bytes, but for the number of fields. A line is the first one or a field.
MAX_HEAD = 32768
MAX_FIELDS = 64
MAX_LINE = 8192
MAX_BODY = 65536

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE = re.compile(rf"({_NAME}{{1,32}}) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])")
_FIELDS = re.compile(rf"(?:{_NAME}++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
_ABSOLUTE = re.compile(r"https?://[^/?@]+(?=[/?]|$)", re.IGNORECASE)
_END = b"\r\n\r\n"


class Refused(Exception):
    """Not a request that is read here. The bytes after it mean nothing: the connection must close."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Head(NamedTuple):
    """A request line with its fields, names in lower case, and what they say about the body and the connection.

    `path` and `query` are as they came, still percent-encoded; `length` is the body's, in bytes.
    """

    method: str
    path: str
    query: str
    minor_version: str
    fields: Mapping[str, list[str]]
    length: int
    waits_to_go_on: bool
    stays_open: bool

    def __repr__(self) -> str:
        """Without the fields: credentials are among them."""
        return f"Head({self.method})"


def read_head(received: bytes) -> Head:
    """Read a head without the empty line that ends it. Raises Refused."""
    # RFC 9112 §2.2: some clients end a body with a line end that they did not announce.
    text = received.removeprefix(b"\r\n").decode("latin-1")
    line, _, rest = text.partition("\r\n")
    request_line = _REQUEST_LINE.fullmatch(line)
    if request_line is None or (rest and _FIELDS.fullmatch(f"{rest}\r\n") is None):
        raise Refused(HTTPStatus.BAD_REQUEST)
    lines = rest.split("\r\n") if rest else []
    if len(lines) > MAX_FIELDS or max(map(len, lines), default=0) > MAX_LINE:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    if len(line) > MAX_LINE:
        raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG)
    fields: dict[str, list[str]] = {}
    for each in lines:
        name, _, value = each.partition(":")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    method, target, minor_version = request_line.groups()
    # RFC 9112 §3.2
    if len(fields.get("host", ())) != 1 and (minor_version == "1" or "host" in fields):
        raise Refused(HTTPStatus.BAD_REQUEST)
    # RFC 9110 §5.3: joined they would be one value that neither is, and pass for a form.
    if len(fields.get("content-type", ())) > 1:
        raise Refused(HTTPStatus.BAD_REQUEST)
    path, query = _path_and_query(target)
    length = _length(fields, minor_version)
    waits = "expect" in fields and _waits_to_go_on(fields["expect"], minor_version)
    return Head(method, path, query, minor_version, fields, length, waits, _stays_open(fields, minor_version))


def _path_and_query(target: str) -> tuple[str, str]:
    """RFC 9112 §3.2; `*` is a path that nothing has. Raises Refused for the name of a host that is to be called."""
    if not target.startswith("/") and target != "*":
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise Refused(HTTPStatus.BAD_REQUEST)
        target = target[absolute.end() :]
    path, _, query = target.partition("?")
    return path or "/", query


def _length(fields: Mapping[str, list[str]], minor_version: str) -> int:
    """How long the body is (RFC 9112 §6.3). Raises Refused."""
    announced, codings = fields.get("content-length"), fields.get("transfer-encoding")
    if codings is not None:
        if announced or minor_version == "0":  # RFC 9112 §6.1: somebody may be smuggling
            raise Refused(HTTPStatus.BAD_REQUEST)
        chunked = ",".join(codings).lower() == "chunked"
        raise Refused(HTTPStatus.LENGTH_REQUIRED if chunked else HTTPStatus.NOT_IMPLEMENTED)
    if announced is None:
        return 0
    if len(announced) > 1 or not (announced[0].isascii() and announced[0].isdigit()):
        raise Refused(HTTPStatus.BAD_REQUEST)
    digits = announced[0].lstrip("0") or "0"
    if len(digits) > len(str(MAX_BODY)) or int(digits) > MAX_BODY:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(digits)


def _waits_to_go_on(expected: list[str], minor_version: str) -> bool:
    """Whether the client sends its body only after a 100 (RFC 9110 §10.1.1). Raises Refused if it expects more."""
    if {value.lower() for value in expected} != {"100-continue"}:
        raise Refused(HTTPStatus.EXPECTATION_FAILED)
    # An HTTP/1.0 client does not know what a 100 is.
    return minor_version == "1"


def _stays_open(fields: Mapping[str, list[str]], minor_version: str) -> bool:
    """Whether the client may use the connection again (RFC 9112 §9.3)."""
    if "connection" not in fields:
        return minor_version == "1"
    options = {option.strip().lower() for value in fields["connection"] for option in value.split(",")}
    return "close" not in options and (minor_version == "1" or "keep-alive" in options)


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

    def take(self) -> tuple[Head, bytes, bytes] | None:
        """Head and body of the request, and what came behind it; None while it is not whole. Raises Refused."""
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
        return self.head, bytes(self._received[: self.head.length]), bytes(self._received[self.head.length :])

    def must_be_told_to_go_on(self) -> bool:
        """Whether the client waits for a 100 (Continue); it is told once, and not if it sends the body anyway."""
        if self._told or self.head is None or not self.head.waits_to_go_on or self._received:
            return False
        self._told = True
        return True
