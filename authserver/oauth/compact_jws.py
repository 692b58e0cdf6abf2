"""Read a JWT that somebody else made (RFC 7519, RFC 7515 §7.1): strictly, and without believing any of it yet."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_LENGTH = 8192
_MAX_KID = 512
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


class InvalidJWS(Exception):
    """Not a JWS in compact form whose payload is a JSON object; the message never quotes it."""


@dataclass(frozen=True, slots=True)
class CompactJWS:
    """A JWS as it was presented: what it says, and what a signature must be checked over."""

    algorithm: str
    kid: str | None
    typ: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read_compact_jws(text: str) -> CompactJWS:
    """The parts of a JWS, unverified. Raises InvalidJWS.

    Of the header only `alg`, `kid` and `typ` are read: a key that the header brings along or points to (`jwk`, `jku`,
    `x5u`, `x5c`) proves nothing of its sender (RFC 8725 §3.10).
    """
    if len(text) > MAX_LENGTH:
        raise InvalidJWS("too long")
    segments = text.split(".")
    if len(segments) != 3:  # noqa: PLR2004 - header, payload, signature
        raise InvalidJWS("not three segments")
    header, claims = (_object(_decode(segment)) for segment in segments[:2])
    # RFC 7515 §4.1.11: extensions that must be understood. None is understood here.
    if "crit" in header or "b64" in header:
        raise InvalidJWS("critical extension")
    return CompactJWS(
        algorithm=_text(header, "alg") or "none",
        kid=_text(header, "kid"),
        typ=_text(header, "typ"),
        claims=claims,
        signed=f"{segments[0]}.{segments[1]}".encode(),
        signature=_decode(segments[2]),
    )


def _text(header: Mapping[str, Any], member: str) -> str | None:
    value = header.get(member)
    if value is not None and (not isinstance(value, str) or len(value) > _MAX_KID):
        raise InvalidJWS(f"header member {member} is malformed")
    return value


def _decode(segment: str) -> bytes:
    """Base64url without padding, in its one canonical form (RFC 7515 §2)."""
    if not _SEGMENT.fullmatch(segment):
        raise InvalidJWS("empty segment, or not base64url")
    try:
        data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise InvalidJWS("not base64url") from None
    if urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise InvalidJWS("not canonical base64url")
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InvalidJWS("not JSON") from None
    if not isinstance(value, dict):
        raise InvalidJWS("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 7515 §4, RFC 7519 §4: of two members of one name, two readers may each believe another.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJWS("duplicate member")
    return members


def _no_constant(_name: str) -> None:
    raise InvalidJWS("NaN or Infinity")
