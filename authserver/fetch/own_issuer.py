"""Ask a server for its own metadata, as its clients do: the operator's issuer, which may be at any address."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from authserver.oauth.metadata import WELL_KNOWN

TIMEOUT = 5.0  # seconds, for each step
_MAX_BYTES = 65_536


class NotReached(Exception):
    """There is no such answer; the message says why, in a few words."""


@dataclass(frozen=True)
class Reached:
    """The document, and until when the certificate is good (Unix seconds; None without TLS)."""

    document: Any
    certificate_expires_at: int | None


def metadata_url(issuer: str) -> str:
    """Where an issuer's metadata is (RFC 8414 §3.1)."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN[0]}{parts.path}"


def ask_issuer(issuer: str, tls: ssl.SSLContext) -> Reached:
    """The metadata of an issuer. Raises NotReached. Follows no redirect and heeds no proxy settings."""
    parts = urlsplit(metadata_url(issuer))
    host = parts.hostname or ""
    connection = (
        HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=tls)
        if parts.scheme == "https"
        else HTTPConnection(host, parts.port, timeout=TIMEOUT)
    )
    try:
        connection.connect()
        expires_at = _expiry(connection.sock) if isinstance(connection.sock, ssl.SSLSocket) else None
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(_MAX_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise NotReached(f"its certificate is not good: {error.verify_message}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NotReached(f"{type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200:  # noqa: PLR2004 - the only success there is
        raise NotReached(f"it answers {answer.status}")
    try:
        return Reached(json.loads(body), expires_at)
    except (ValueError, RecursionError):
        raise NotReached("its answer is no JSON") from None


def _expiry(sock: ssl.SSLSocket) -> int | None:
    certificate = sock.getpeercert() or {}
    not_after = certificate.get("notAfter")
    return int(ssl.cert_time_to_seconds(not_after)) if isinstance(not_after, str) else None
