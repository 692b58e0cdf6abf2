"""JWT access tokens, checked without asking anyone (RFC 9068 §4)."""

import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from joserfc.util import urlsafe_b64decode

from resource_server.access_token import AccessToken, require_audience
from resource_server.cache import Shelf, key_of
from resource_server.claims import ClaimError, access_token
from resource_server.deadline import Clock, Deadline
from resource_server.errors import InvalidTokenError
from resource_server.jwk import VerifyingKey
from resource_server.jwks import Jwks
from resource_server.per_process import PerProcess
from resource_server.stats import Stats
from resource_server.strict_json import json_object

_PARTS: Final = 3
# RFC 9068 §4; media types are case-insensitive and may leave out "application/" (RFC 7515 §4.1.9)
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
# RFC 9068 §2.2
_REQUIRED: Final = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")


@dataclass(frozen=True, slots=True)
class Jwt:
    """A JWS in compact form (RFC 7515 §7.1), taken apart but not verified."""

    header: Mapping[str, Any]
    payload: str = field(repr=False)
    signature: str = field(repr=False)
    signed: str = field(repr=False)

    @classmethod
    def parse(cls, token: str) -> "Jwt | None":
        """Take `token` apart; None if it does not look like a JWT: three parts, the first of them a JSON object."""
        parts = token.split(".")
        header = _header(parts[0]) if len(parts) == _PARTS else None
        if header is None:
            return None
        return cls(header, parts[1], parts[2], token.rpartition(".")[0])


class JwtVerifier:
    """Verifies the JWTs of one issuer for one audience.

    What is verified is remembered by the token's hash until it expires, as long as its key stays published:
    facts, never decisions. `size` bounds how many.
    """

    def __init__(
        self,
        keys: Jwks,
        issuer: str,
        audience: str,
        *,
        size: int = 10_000,
        stats: Stats | None = None,
        wall: Clock = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self._stats, self._wall = stats or Stats(), wall
        self._verified = PerProcess(lambda: Shelf[tuple[AccessToken, VerifyingKey]](size, clock))

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken:
        """Return the facts. Raises `InvalidTokenError` or, without keys, `UnavailableError`."""
        return self.verify(token, key_of(token), deadline)

    def verify(self, token: str, digest: bytes, deadline: Deadline | None = None) -> AccessToken:
        """Do the same for who has the token's digest at hand."""
        shelf = self._verified()
        if (hit := shelf.get(digest)) is not None:
            facts, key = hit
            if self._keys.find(key.kid, key.alg, deadline) is key:
                self._stats.count("cache_hits")
                return facts
            shelf.drop(digest)
        self._stats.count("cache_misses")
        if (jwt := Jwt.parse(token)) is None:
            raise InvalidTokenError("not a JWT")
        facts, key = self._verify(jwt, deadline)
        if facts.expires_at is not None:
            shelf.put(digest, (facts, key), facts.expires_at - self._wall())
        return facts

    def forget(self) -> None:
        """Forget what this process has verified."""
        self._verified.discard()

    def _verify(self, jwt: Jwt, deadline: Deadline | None) -> tuple[AccessToken, VerifyingKey]:
        kid, alg = self._named_key(jwt.header)
        claims = json_object(_decoded(jwt.payload))
        # compared before a key is looked for: what others issued must not make us fetch
        if claims is None or claims.get("iss") != self._issuer:
            raise InvalidTokenError("JWT of another issuer")
        if (key := self._keys.find(kid, alg, deadline)) is None:
            raise InvalidTokenError("JWT with a key that the issuer does not publish for its algorithm")
        if not key.signed(jwt.signed.encode("ascii"), _decoded(jwt.signature)):
            raise InvalidTokenError("JWT with a wrong signature")
        return self._facts(claims, kid), key

    def _named_key(self, header: Mapping[str, Any]) -> tuple[str, str]:
        """Check the header (RFC 9068 §4, RFC 8725 §3); what else it holds, such as `jku` or `jwk`, is not looked at."""
        typ, alg, kid = header.get("typ"), header.get("alg"), header.get("kid")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise InvalidTokenError("JWT that is no access token by its typ")
        # RFC 7515 §4.1.11: nothing that could be critical is understood here
        if "crit" in header:
            raise InvalidTokenError("JWT with critical header parameters")
        if not isinstance(alg, str) or alg not in self._keys.algorithms:
            raise InvalidTokenError("JWT with an algorithm that is not accepted")
        if not isinstance(kid, str) or not kid:
            raise InvalidTokenError("JWT that does not name its key")
        return kid, alg

    def _facts(self, claims: dict[str, Any], kid: str) -> AccessToken:
        for name in _REQUIRED:
            if claims.get(name) in (None, "", []):
                raise InvalidTokenError(f"JWT without {name}")
        if not isinstance(claims["jti"], str):
            raise InvalidTokenError("JWT in which jti is not a string")
        try:
            facts = access_token(claims, kid)
        except ClaimError as error:
            reason = str(error)
        else:
            require_audience(facts, self._audience)
            return facts
        raise InvalidTokenError(f"JWT in which {reason}")


# The tokens that a key signs begin alike.
@lru_cache(maxsize=64)
def _header(part: str) -> Mapping[str, Any] | None:
    header = json_object(_decoded(part))
    return None if header is None else MappingProxyType(header)


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part.encode("ascii"))
    except (binascii.Error, ValueError):
        # no JSON and no signature is empty, so this is refused as either
        return b""
