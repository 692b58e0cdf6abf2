"""Requests as bytes, so that each generator of load sends the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True)
class Load:
    """Requests to one server, sent one after the other; from the first again unless each is good only `once`."""

    url: str
    requests: Sequence[bytes]
    once: bool = False


def get(url: str, *, authorization: str = "") -> bytes:
    """A GET, perhaps with credentials."""
    parts = urlsplit(url)
    field = f"Authorization: {authorization}\r\n" if authorization else ""
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{field}\r\n".encode()


def post(url: str, form: Mapping[str, str]) -> bytes:
    """A POST of a form."""
    parts, body = urlsplit(url), urlencode(form)
    return (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
