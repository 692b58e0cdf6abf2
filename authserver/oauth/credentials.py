"""Secrets and tokens that this server makes: at least 256 random bits behind a fixed marker, kept only as a hash.

The marker lets secret scanners recognise a leaked value. SHA-256 is right for values without a dictionary
(RFC 6749 §10.10 asks for 2^-128; these have 2^-256): a slow hash would only slow the rightful caller down.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable

Random = Callable[[int], bytes]
"""Give that many random bytes: `secrets.token_bytes` in production."""

CLIENT_SECRET = "ascs_"  # noqa: S105 - the public marker, not a secret
ACCESS_TOKEN = "asat_"  # noqa: S105 - as above
INITIAL_ACCESS_TOKEN = "asia_"  # noqa: S105 - as above
REGISTRATION_ACCESS_TOKEN = "asra_"  # noqa: S105 - as above

MAX_LABEL = 100
_RANDOM_BYTES = 32
_EXPIRY_DIGITS = 8
_SHORT_HASH_BYTES = 23
_RECOGNISABLE = re.compile(
    rf"({'|'.join((CLIENT_SECRET, ACCESS_TOKEN, INITIAL_ACCESS_TOKEN, REGISTRATION_ACCESS_TOKEN))})[A-Za-z0-9_-]+"
    r"|(eyJ)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*",
    re.IGNORECASE,
)
_CLIENT_SECRET = re.compile(rf"{CLIENT_SECRET}[A-Za-z0-9_-]{{43,500}}")
_OPAQUE = re.compile(rf"{ACCESS_TOKEN}([0-9a-f]{{{_EXPIRY_DIGITS}}})[A-Za-z0-9_-]{{43}}")


class InvalidLabel(ValueError):
    """No name for a credential."""


def check_label(label: str) -> str:
    """The label itself, if a credential may be called so. Raises InvalidLabel."""
    if not 1 <= len(label) <= MAX_LABEL or not label.isprintable():
        raise InvalidLabel(f"a label must be 1 to {MAX_LABEL} printable characters")
    return label


def make_credential(marker: str, random: Random) -> str:
    """A new secret or token: the marker and 256 random bits in base64url."""
    return marker + urlsafe_b64encode(random(_RANDOM_BYTES)).rstrip(b"=").decode()


def is_client_secret(text: str) -> bool:
    """Whether this may be a client's secret that somebody else made: marked as one, with room for 256 random bits."""
    return _CLIENT_SECRET.fullmatch(text) is not None


def make_identifier(random: Random) -> str:
    """A name that nothing else has: 128 random bits in base64url. No secret."""
    return urlsafe_b64encode(random(16)).rstrip(b"=").decode()


def hash_credential(value: str) -> bytes:
    """SHA-256, the only form in which a secret or token is stored."""
    return hashlib.sha256(value.encode()).digest()


def short_hash(token: str) -> bytes:
    """The first 23 bytes of SHA-256, the only form in which an access token is stored.

    One byte more would lengthen its row by 8, and its entry in the index too. That a guess finds one of ten million
    tokens has a chance of less than 2^-160 (RFC 6749 §10.10).
    """
    return hash_credential(token)[:_SHORT_HASH_BYTES]


def make_opaque_token(expires_at: int, random: Random) -> str:
    """A new opaque access token that carries its expiry (Unix seconds) and so names its partition."""
    return make_credential(f"{ACCESS_TOKEN}{expires_at:0{_EXPIRY_DIGITS}x}", random)


def read_opaque_token(token: str) -> int | None:
    """The expiry that a token claims, or None if it is not one of ours.

    The claim proves nothing: a tampered expiry changes the hash, and no such row is found.
    """
    match = _OPAQUE.fullmatch(token)
    return int(match[1], 16) if match else None


def conceal(text: str) -> str:
    """The text with nothing but the marker left of what looks like a secret or token of ours, or like a JWT."""
    # What has neither marker in any case has no credential, and most texts have not. Folded, not in lower case: to the
    # regular expression a long s is an s.
    folded = text.casefold()
    if "as" not in folded and "eyj" not in folded:
        return text
    return _RECOGNISABLE.sub(lambda match: f"{match[1] or match[2]}…", text)
