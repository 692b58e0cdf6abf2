"""Public keys from a JWK Set (RFC 7517), each bound to one algorithm and good for nothing but verifying."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import JWSRegistry

_log: Final = logging.getLogger(__name__)

# RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2: what an algorithm asks of the key. No `none`, nothing symmetric.
ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
}
_PUBLIC: Final = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}
_SECRET: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# RFC 7518 §3.3: 2048 bits or more; the upper limit bounds the work. Base64url characters of the modulus.
_MODULUS_LENGTH: Final = range(342, 1367)


class NotJwkSetError(Exception):
    """A document that is no JWK Set (RFC 7517 §5)."""


Keys = Mapping[tuple[str, str], "VerifyingKey"]


@dataclass(frozen=True, slots=True, eq=False)
class VerifyingKey:
    """A public key under one algorithm. Keys are the same only if they are one object."""

    kid: str
    alg: str
    members: Mapping[str, str] = field(repr=False)
    key: Key = field(repr=False)

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Tell whether `signature` over `text` was made with this key's private part."""
        algorithm = JWSRegistry.algorithms[self.alg]
        try:
            # the header's word is not followed: this key has the one algorithm (RFC 8725 §3.1)
            algorithm.check_key(self.key)
            return algorithm.verify(text, signature, self.key)
        except (JoseError, ValueError):
            return False


def verifying_keys(document: Mapping[str, Any], algorithms: Iterable[str], known: Keys) -> Keys:
    """Read a JWK Set; return its usable keys by `kid` and algorithm. A key that is in `known` stays that object.

    What cannot be used is left out and spoils nothing (RFC 7517 §5). Raises `NotJwkSetError`.
    """
    jwks = document.get("keys")
    if not isinstance(jwks, list):
        raise NotJwkSetError
    found: dict[tuple[str, str], VerifyingKey] = {}
    for jwk in jwks:
        for key in _usable(jwk, algorithms):
            old = known.get((key.kid, key.alg))
            same = old is not None and old.members == key.members
            found.setdefault((key.kid, key.alg), old if old is not None and same else key)
    return found


def _usable(jwk: Any, algorithms: Iterable[str]) -> Iterator[VerifyingKey]:
    if not isinstance(jwk, dict) or not isinstance(kid := jwk.get("kid"), str):
        return
    if _SECRET & jwk.keys():
        # whoever could read the document can sign with it
        _log.error("a JWK Set publishes secret key material; the key is not used")
        return
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return
    kty, alg = jwk.get("kty"), jwk.get("alg")
    kind = (kty, None if kty == "RSA" else jwk.get("crv"))
    fitting = [name for name in algorithms if ALGORITHMS[name] == kind and alg in (None, name)]
    if fitting and (members := _public(jwk)) and (key := _imported(members)):
        for name in fitting:
            yield VerifyingKey(kid, name, members, key)


def _public(jwk: dict[str, Any]) -> dict[str, str] | None:
    names = ("kty", *_PUBLIC[jwk["kty"]])
    return {name: jwk[name] for name in names} if all(isinstance(jwk.get(name), str) for name in names) else None


def _imported(members: Mapping[str, str]) -> Key | None:
    if members["kty"] == "RSA" and len(members["n"]) not in _MODULUS_LENGTH:
        return None
    try:
        return JWKRegistry.import_key({**members})
    except (JoseError, ValueError):
        return None
