"""Access tokens as JWTs (RFC 9068): signed here, and read back at introspection and revocation."""

from __future__ import annotations

from typing import Any

from authserver.oauth import jose
from authserver.oauth.access_token import AccessToken
from authserver.oauth.signing_keys import KeyRing, SigningKey, sign_claims

TYPE = "at+jwt"  # RFC 9068 §2.1
MAX_LENGTH = 8192


class UnknownKey(Exception):
    """The token names a key that is not in the ring; a newer ring might have it."""


def sign_access_token(token: AccessToken, issuer: str, key: SigningKey) -> str:
    """The token as a JWT (RFC 9068 §2.2). Raises NoSigningKey if the private key is not at hand."""
    claims = {
        "iss": issuer,
        "sub": token.client_id,
        "aud": list(token.audience),
        "exp": token.expires_at,
        "iat": token.issued_at,
        "jti": token.jti,
        "client_id": token.client_id,
        "scope": token.scope,
    }
    return sign_claims(TYPE, claims, key)


def looks_like_jwt(value: str) -> bool:
    """Whether a token is worth decoding: three parts, ASCII, of a size that this server makes."""
    return value.count(".") == 2 and value.isascii() and len(value) <= MAX_LENGTH  # noqa: PLR2004 - RFC 7515 §3.1


def read_access_token(value: str, issuer: str, ring: KeyRing, now: int) -> AccessToken | None:
    """The facts of a JWT that this server signed and that has not expired; None for any other text.

    Raises UnknownKey.
    """
    if not looks_like_jwt(value):
        return None
    if (known := ring.verified.get(value)) is not None:
        kid, verified = known
        if ring.verifying_key(kid, now) is None:
            raise UnknownKey
        return verified if verified.expires_at > now else None
    try:
        unverified = jose.take_apart(value)
        if unverified.header.get("typ") != TYPE:
            return None
        key = ring.verifying_key(unverified.header.get("kid"), now)
        if key is None:
            raise UnknownKey
        claims = unverified.verify(key.public, key.alg)
    except jose.BadSignature:
        return None
    token = _facts(claims, issuer, now)
    if token is not None:
        ring.remember_verified(value, key.kid, token)
    return token


def _facts(claims: dict[str, Any], issuer: str, now: int) -> AccessToken | None:
    # Signed by us and so of our shape; the issuer tells installations apart that share a database dump.
    if claims["iss"] != issuer or claims["exp"] <= now:
        return None
    return AccessToken(
        client_id=claims["client_id"],
        scope=claims["scope"],
        audience=claims["aud"],
        issued_at=claims["iat"],
        expires_at=claims["exp"],
        jti=claims["jti"],
    )
