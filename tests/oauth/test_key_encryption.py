"""Signing keys at rest: encrypted under a list of keys."""

from __future__ import annotations

import secrets

import pytest

from authserver.oauth.jose import CannotDecrypt
from authserver.oauth.key_encryption import read_key_encryption

OLD, NEW = secrets.token_urlsafe(32), secrets.token_urlsafe(32)


def test_the_newest_encrypts_and_all_decrypt() -> None:
    sealed = read_key_encryption(OLD).seal(b"secret")
    both = read_key_encryption(f"{NEW}, {OLD}\n")
    assert b"secret" not in sealed.encode()
    assert both.unseal(sealed) == b"secret"
    assert not both.is_newest(sealed)
    again = both.seal(b"secret")
    assert both.is_newest(again)
    assert read_key_encryption(NEW).unseal(again) == b"secret"


def test_another_key_and_a_changed_text_decrypt_nothing() -> None:
    sealed = read_key_encryption(OLD).seal(b"secret")
    head, *_, tag = sealed.split(".")
    for wrong in (sealed[:-1], sealed[:-2] + ("AA" if not sealed.endswith("AA") else "BB"), "", "a.b.c.d.e", head, tag):
        with pytest.raises(CannotDecrypt):
            read_key_encryption(OLD).unseal(wrong)
    with pytest.raises(CannotDecrypt):
        read_key_encryption(NEW).unseal(sealed)


TOO_SHORT = "A" * 42


@pytest.mark.parametrize("text", ["short", TOO_SHORT, f"{'A' * 43} short", ",", "é" * 43])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes in base64url") as error:
        read_key_encryption(text)
    assert text.strip(",") == "" or text not in str(error.value)
