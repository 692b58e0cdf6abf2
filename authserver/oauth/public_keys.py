"""Public keys of others as JWK Sets (RFC 7517): which are good enough, and which one a signature is checked by."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ALGORITHMS = ("ES256", "EdDSA", "RS256", "PS256")
MAX_KEYS = 32
MAX_BYTES = 64 * 1024
# The lower bound is NIST SP 800-131A's, the upper one keeps a signature cheap to check.
RSA_BITS = range(2048, 8193)
RSA_EXPONENTS = range(65537, 2**32)

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# By key type and curve: the algorithms, and the members that are the key.
_KINDS: Mapping[tuple[object, object], tuple[Sequence[str], Sequence[str], type[ECKey | OKPKey | RSAKey]]] = {
    ("EC", "P-256"): (("ES256",), ("crv", "x", "y"), ECKey),
    ("OKP", "Ed25519"): (("EdDSA",), ("crv", "x"), OKPKey),
    ("RSA", None): (("RS256", "PS256"), ("n", "e"), RSAKey),
}


class InvalidKeySet(Exception):
    """Not a JWK Set of public keys that can be used here; the message never quotes it."""


@dataclass(frozen=True)
class PublicKey:
    """A key, and the algorithms that it may be used with."""

    kid: str | None
    algorithms: Sequence[str]
    key: ECKey | OKPKey | RSAKey = field(repr=False)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether this is the key's signature. An algorithm that is not the key's own verifies nothing."""
        return algorithm in self.algorithms and JWSRegistry.algorithms[algorithm].verify(signed, signature, self.key)


@dataclass(frozen=True)
class KeySet:
    """The usable keys of one party."""

    keys: Sequence[PublicKey]

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key for a signature: the one that `kid` names, or without `kid` the only one for the algorithm."""
        able = [key for key in self.keys if algorithm in key.algorithms and kid in (None, key.kid)]
        return able[0] if len(able) == 1 else None


@dataclass(frozen=True)
class RegisteredKeys:
    """A JWK Set as it was registered; read when it is first needed, and then remembered."""

    document: Mapping[str, Any]

    @cached_property
    def key_set(self) -> KeySet:
        """The keys. Raises InvalidKeySet."""
        return read_key_set(self.document)


def read_key_set(document: object) -> KeySet:
    """The usable keys of a JWK Set; those for other purposes are passed over (RFC 7517 §5).

    Raises InvalidKeySet if none is usable, if there are too many or two of one name, and if a private or symmetric key
    is among them: its owner must learn that it is no longer a secret.
    """
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list) or not all(isinstance(key, Mapping) for key in keys):
        raise InvalidKeySet("is not a JWK Set")
    if len(keys) > MAX_KEYS or not _is_storable(document):
        raise InvalidKeySet(f"holds more than {MAX_KEYS} keys, is too large, or holds what JSON cannot")
    if any(not _PRIVATE.isdisjoint(key) or key.get("kty") == "oct" for key in keys):
        raise InvalidKeySet("holds a private or a symmetric key")
    usable = [read for key in keys if (read := _read(key)) is not None]
    if not usable:
        raise InvalidKeySet(f"holds no key that is usable with {', '.join(ALGORITHMS)}")
    kids = [key.kid for key in usable if key.kid is not None]
    if len(set(kids)) != len(kids):
        raise InvalidKeySet("holds two keys of one kid")
    return KeySet(usable)


def verify_for_nobody(algorithm: str, signed: bytes, signature: bytes) -> None:
    """Take the time that it takes to check a signature, where there is no key to check it by."""
    key = _NOBODY.find(None, algorithm)
    if key is not None:
        key.verifies(algorithm, signed, signature)


def _is_storable(document: object) -> bool:
    try:
        text = json.dumps(document, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    # PostgreSQL's jsonb has no NUL.
    return len(text) <= MAX_BYTES and "\\u0000" not in text


def _read(jwk: Mapping[str, Any]) -> PublicKey | None:
    try:
        able, members, kind = _KINDS[jwk.get("kty"), jwk.get("crv") if jwk.get("kty") != "RSA" else None]
    except (KeyError, TypeError):
        return None
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    algorithms = [algorithm for algorithm in able if jwk.get("alg", algorithm) == algorithm]
    kid: Any = jwk.get("kid")
    values: dict[str, Any] = {member: jwk.get(member) for member in members}
    if not algorithms or not isinstance(kid, str | None) or not all(isinstance(v, str) for v in values.values()):
        return None
    if kind is RSAKey and not _is_strong(values):
        return None
    try:
        # Of the JWK only what is the key: all else has been judged above.
        return PublicKey(kid, tuple(algorithms), kind.import_key({"kty": kind.key_type, **values}))
    except (JoseError, ValueError):
        return None


def _is_strong(values: Mapping[str, Any]) -> bool:
    try:
        n, e = (int.from_bytes(urlsafe_b64decode(values[m] + "=" * (-len(values[m]) % 4))) for m in ("n", "e"))
    except ValueError:
        return False
    return n.bit_length() in RSA_BITS and e in RSA_EXPONENTS


# The curves' base points, and a modulus above every signature, so that none is refused before it was worked on: keys of
# no party, by which nothing is ever accepted.
_NOBODY = read_key_set(
    {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
                "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
            },
            {"kty": "OKP", "crv": "Ed25519", "x": "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"},
            {"kty": "RSA", "e": "AQAB", "n": "_" * 341 + "w"},
        ]
    }
)
