"""The keys that encrypt signing keys at rest: a list in which the newest encrypts and all decrypt."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence

from joserfc.jwk import OctKey

from authserver.oauth.jose import CannotDecrypt, decrypt, encrypt

_KEY_BYTES = 32


class KeyEncryption:
    """A list of keys of 256 bits, the newest first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = [OctKey.import_key(key) for key in keys]

    def seal(self, text: bytes) -> str:
        """Encrypt under the newest key."""
        return encrypt(text, self._keys[0])

    def unseal(self, sealed: str) -> bytes:
        """Decrypt under whichever key it was. Raises CannotDecrypt."""
        for key in self._keys:
            try:
                return decrypt(sealed, key)
            except CannotDecrypt:
                continue
        raise CannotDecrypt

    def is_newest(self, sealed: str) -> bool:
        """Whether the newest key made it; if not, it is to be sealed anew before that key goes."""
        try:
            decrypt(sealed, self._keys[0])
        except CannotDecrypt:
            return False
        return True


def read_key_encryption(text: str) -> KeyEncryption:
    """Read keys in base64url, separated by white space or commas, the newest first. Raises ValueError."""
    words = re.split(r"[\s,]+", text.strip(" \t\r\n,"))
    try:
        keys = [urlsafe_b64decode(word + "=" * (-len(word) % 4)) for word in words]
    except (binascii.Error, ValueError):
        keys = []
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise ValueError(
            "must be one or several keys of 32 bytes in base64url, the newest first; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return KeyEncryption(keys)
