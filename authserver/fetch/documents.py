"""Fetch a JSON document by HTTPS from a URL that somebody else chose.

With the standard library's http.client and not with requests: the address that was checked must be the one that is
connected to (a name may resolve to another the next time), and a whole call must end at its deadline (a server may send
one byte a second). Both need the socket, which requests does not give away.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import SplitResult, urlsplit

from authserver.fetch.addresses import Network, may_connect

DEADLINE = 3.0  # seconds for one document, name resolution included
MAX_BYTES = 64 * 1024
_OK = 200
_URL = re.compile(r"https?://[\x21-\x7e]{1,500}")
_PORTS = {"https": 443, "http": 80}


class FetchFailed(Exception):
    """There is no document; the message says why, and nothing of what was received."""


@dataclass(frozen=True)
class Fetcher:
    """How documents are fetched: what the operator allows beyond HTTPS to public addresses.

    `tls` has the authorities to trust; None: the system's.
    """

    allowed_networks: Sequence[Network] = ()
    allow_http: bool = False
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    resolve: Callable[..., Any] = socket.getaddrinfo

    def check_url(self, url: str) -> SplitResult:
        """The parts of a URL that may be fetched. Raises FetchFailed."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise FetchFailed("malformed URL") from None
        if not _URL.fullmatch(url) or not parts.hostname or "@" in parts.netloc or "#" in url or port == 0:
            raise FetchFailed("malformed URL")
        if parts.scheme != "https" and not self.allow_http:
            raise FetchFailed("not an https URL")
        return parts

    def get_json(self, url: str, deadline: float) -> Any:
        """The document at a URL, until `deadline` (monotonic). Raises FetchFailed.

        No proxy and no credential of the environment is used, and no redirect is followed.
        """
        connection = _Connection(self.check_url(url), self, deadline)
        # Blocked in a read, the call would not look at the clock: the end of the socket wakes it up.
        end = threading.Timer(max(deadline - time.monotonic(), 0), connection.cut)
        end.daemon = True
        end.start()
        try:
            with connection.get() as response:
                return json.loads(_read(response, deadline))
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            late = time.monotonic() >= deadline
            raise FetchFailed("not done in time" if late else f"failed: {type(error).__name__}") from None
        finally:
            end.cancel()
            connection.cut()
            connection.close()


class _Connection(HTTPConnection):
    """A connection to an address that was checked; TLS and the Host header have the name (no DNS rebinding)."""

    def __init__(self, url: SplitResult, fetcher: Fetcher, deadline: float) -> None:
        port = url.port or _PORTS[url.scheme]
        super().__init__(url.hostname or "", port)
        # http.client names the port in Host unless it is this.
        self.default_port = _PORTS[url.scheme]
        self._url, self._fetcher, self._deadline = url, fetcher, deadline
        self._handle: socket.socket | None = None

    def connect(self) -> None:
        refused: OSError | None = None
        for family, address in self._addresses():
            try:
                self.sock = self._connect_to(family, address)
                return
            except OSError as error:
                refused = error
        raise refused or FetchFailed("the name has no address")

    def get(self) -> HTTPResponse:
        """Send the request; give the answer, of which the body is yet to be read."""
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        self.request("GET", target, headers=headers)
        return self.getresponse()

    def cut(self) -> None:
        """End what is under way, also from another thread."""
        if self._handle is not None:
            with suppress(OSError):  # it has ended already
                self._handle.shutdown(socket.SHUT_RDWR)
            self._handle.close()

    def _addresses(self) -> list[tuple[socket.AddressFamily, Any]]:
        found = self._fetcher.resolve(self.host, self.port, type=socket.SOCK_STREAM)
        # One address that is not allowed spoils all: a name with both kinds is a trick or a mistake.
        if not all(may_connect(str(address[0]), self._fetcher.allowed_networks) for *_, address in found):
            raise FetchFailed("the name resolves to an address that is not allowed")
        return [(family, address) for family, *_, address in found]

    def _connect_to(self, family: socket.AddressFamily, address: Any) -> socket.socket:
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(_left(self._deadline))
            plain.connect(address)
            # A second handle on the same connection: TLS takes the first one over.
            self._handle = plain.dup()
            if self._url.scheme != "https":
                return plain
            return (self._fetcher.tls or _system_tls()).wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


@cache
def _system_tls() -> ssl.SSLContext:
    # Not before it is needed: nearly all commands and most servers fetch nothing, and there are many to read.
    return ssl.create_default_context()


def _read(response: HTTPResponse, deadline: float) -> bytes:
    if response.status != _OK:
        raise FetchFailed(f"answered {response.status}")
    body = response.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise FetchFailed(f"longer than {MAX_BYTES} bytes")
    # A socket that was cut looks like the end of a body without Content-Length.
    _left(deadline)
    return body


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
