"""Signed and encrypted JSON (RFC 7515, RFC 7516), narrowed to what this server makes and accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import CompactSignature, JWSRegistry

SIGNING_ALGORITHMS = ("ES256", "EdDSA", "RS256")
RSA_BITS = 3072
_CONTENT_ENCRYPTION = {"alg": "dir", "enc": "A256GCM"}


class BadSignature(Exception):
    """Not a JWS in compact form, or not one that this key signed with this algorithm."""


class CannotDecrypt(Exception):
    """Not a JWE that this key made."""


class _OneAlgorithm(JWSRegistry):
    """Accepts one algorithm, by name, whatever the header says; also EdDSA, which joserfc warns about (RFC 9864)."""

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise BadSignature
        return self.algorithms[name]


_REGISTRIES = {name: _OneAlgorithm(algorithms=[name]) for name in SIGNING_ALGORITHMS}


def generate_key(algorithm: str) -> Key:
    """A new private key for one of SIGNING_ALGORITHMS.

    Its thumbprint, by which it will be called, does not begin as an option of a command does.
    """
    while (key := _generate(algorithm)).thumbprint().startswith("-"):
        pass
    return key


def _generate(algorithm: str) -> Key:
    if algorithm == "ES256":
        return ECKey.generate_key("P-256")
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519")
    return RSAKey.generate_key(RSA_BITS)


def import_key(jwk: Mapping[str, Any]) -> Key:
    """A key from its stored JWK, public or private."""
    return JWKRegistry.import_key(dict(jwk))


def sign(header: dict[str, Any], claims: Mapping[str, Any], key: Key, algorithm: str) -> str:
    """A JWT (RFC 7519) in compact form. `header` comes in addition to `alg`."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jws.serialize_compact({"alg": algorithm, **header}, payload, key, registry=_REGISTRIES[algorithm])


@dataclass(frozen=True, slots=True)
class UnverifiedJWT:
    """A JWT that was taken apart. Its header serves to find the key by, and nothing else."""

    header: dict[str, Any]
    _signed: CompactSignature

    def verify(self, key: Key, algorithm: str) -> dict[str, Any]:
        """The claims, if this key signed them with this algorithm. Raises BadSignature."""
        try:
            # What the header names is compared with the key's own algorithm, never followed (RFC 8725 §3.1).
            if not jws.validate_compact(self._signed, key, registry=_REGISTRIES[algorithm]):
                raise BadSignature
            claims = json.loads(self._signed.payload)
        except (JoseError, ValueError, RecursionError):
            raise BadSignature from None
        if not isinstance(claims, dict):
            raise BadSignature
        return claims


def take_apart(token: str) -> UnverifiedJWT:
    """Read a JWT in compact form. Raises BadSignature for any other text."""
    try:
        # The limits are joserfc's; which registry it is does not matter yet.
        signed = jws.extract_compact(token.encode("ascii"), registry=_REGISTRIES["ES256"])
    except (JoseError, ValueError, RecursionError):
        raise BadSignature from None
    if not isinstance(signed.protected, dict):
        raise BadSignature
    return UnverifiedJWT(signed.protected, signed)


def encrypt(text: bytes, key: OctKey) -> str:
    """A JWE in compact form under a key of 256 bits, which its header names."""
    return jwe.encrypt_compact({**_CONTENT_ENCRYPTION, "kid": key.thumbprint()}, text, key)


def decrypt(token: str, key: OctKey) -> bytes:
    """What `encrypt` was given. Raises CannotDecrypt."""
    try:
        return jwe.decrypt_compact(token, key, algorithms=list(_CONTENT_ENCRYPTION.values())).plaintext or b""
    except (JoseError, ValueError):
        raise CannotDecrypt from None
