"""Client assertions (RFC 7521 §4.2, RFC 7523 §2.2): a client proves itself with a JWT that it signed."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authserver.oauth.compact_jws import CompactJWS, InvalidJWS, read_compact_jws
from authserver.oauth.errors import InvalidClient

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PRIVATE_KEY_JWT = "private_key_jwt"
CLIENT_ASSERTION = "client_assertion"

SKEW = 30  # seconds that clocks may disagree
MAX_AHEAD = 300  # seconds from now to the expiry of an assertion that a client makes
# No header may pass one kind of JWT off as another (RFC 8725 §3.11).
_TYPES = frozenset({None, "jwt", "jose", "client-authentication+jwt"})
# Names of clients, and of issuers and subjects: those of Kubernetes have up to 339 characters.
NAME = re.compile(r"[\x20-\x7e]{1,512}")
_MAX_JTI = 512


@dataclass(frozen=True, slots=True)
class AssertionCredential:
    """What a caller presented: an assertion, and perhaps the client_id that it is to prove; and from which address."""

    client_id: str | None
    assertion: str = field(repr=False)
    address: str = ""

    @property
    def method(self) -> str:
        """How it is called beside the methods by secret: whose assertion it is, is not known before it is read."""
        return CLIENT_ASSERTION


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion that was read and is not verified."""

    issuer: str
    subject: str
    client_id: str | None
    jws: CompactJWS

    @property
    def is_self_issued(self) -> bool:
        """Whether it is the client's own (RFC 7523 §3), and not one that a trusted issuer made for a workload."""
        return self.issuer == self.subject


@dataclass(frozen=True, slots=True)
class SingleUse:
    """What makes an assertion usable once: to be remembered until it would no longer be accepted anyway."""

    jti_hash: bytes = field(repr=False)
    until: int


def read_assertion(credential: AssertionCredential) -> Assertion:
    """Read an assertion; believe nothing of it yet. Raises InvalidClient."""
    try:
        jws = read_compact_jws(credential.assertion)
    except InvalidJWS as error:
        raise InvalidClient(f"malformed assertion: {error}") from None
    if (jws.typ.lower().removeprefix("application/") if jws.typ else None) not in _TYPES:
        raise InvalidClient("the assertion's typ is that of another kind of JWT")
    issuer, subject = jws.claims.get("iss"), jws.claims.get("sub")
    if not (isinstance(issuer, str) and NAME.fullmatch(issuer)):
        raise InvalidClient("the assertion's iss is missing or malformed")
    if not (isinstance(subject, str) and NAME.fullmatch(subject)):
        raise InvalidClient("the assertion's sub is missing or malformed")
    return Assertion(issuer, subject, credential.client_id, jws)


def check_self_issued(assertion: Assertion, server_issuer: str, now: int) -> SingleUse:
    """What must be used only once of an assertion whose claims are in order (RFC 7523 §3). Raises InvalidClient."""
    claims = assertion.jws.claims
    if not assertion.is_self_issued:
        raise InvalidClient("the assertion's iss is not its sub")
    if assertion.client_id not in (None, assertion.subject):
        raise InvalidClient("the client_id is not the assertion's sub")
    # Not the token endpoint, and no list: what is for several servers can be passed on (draft-ietf-oauth-rfc7523bis).
    if claims.get("aud") != server_issuer:
        raise InvalidClient("the assertion's aud is not this server's issuer")
    expires_at = check_times(claims, now)
    if expires_at > now + MAX_AHEAD + SKEW:
        raise InvalidClient(f"the assertion's exp is more than {MAX_AHEAD} s ahead")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
        raise InvalidClient("the assertion's jti is missing or malformed")
    # A client_id has no NUL. A lone surrogate, which JSON can escape, is no UTF-8.
    named = f"{assertion.subject}\0{jti}".encode("utf-8", "surrogatepass")
    return SingleUse(hashlib.sha256(named).digest(), math.ceil(expires_at) + SKEW)


def check_times(claims: Mapping[str, Any], now: int) -> float:
    """The expiry, if the assertion is good at this time by `exp`, `nbf` and `iat`. Raises InvalidClient."""
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise InvalidClient("the assertion's exp is missing")
    if expires_at + SKEW <= now:
        raise InvalidClient("the assertion has expired")
    for claim in ("nbf", "iat"):
        at = _time(claims, claim)
        if at is not None and at > now + SKEW:
            raise InvalidClient(f"the assertion's {claim} is ahead of now")
    return expires_at


def _time(claims: Mapping[str, Any], claim: str) -> float | None:
    """A NumericDate (RFC 7519 §2)."""
    value = claims.get(claim)
    if value is None and claim not in claims:
        return None
    # 2^53: beyond it a float is no longer exact, and no clock will get there.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise InvalidClient(f"the assertion's {claim} is not a time")
    return value
