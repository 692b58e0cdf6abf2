"""What was verified once is remembered; what can change about it is looked at each time."""

from __future__ import annotations

import pytest

from authserver.oauth import signing_keys
from authserver.oauth.access_token import AccessToken
from authserver.oauth.jose import generate_key
from authserver.oauth.jwt_access_token import UnknownKey, read_access_token, sign_access_token
from authserver.oauth.signing_keys import KEEP_AFTER_SIGNING, KeyRing, SigningKey

ISSUER = "https://as.example"
NOW = 1_800_000_000
TOKEN = AccessToken("service-a", "read", ["https://b.example"], NOW, NOW + 60, "jti-1")


def make_key(kid: str, signs_from: int) -> SigningKey:
    key = generate_key("ES256")
    return SigningKey(kid, "ES256", key, signs_from, signs_from, private=key)


@pytest.fixture
def first() -> SigningKey:
    return make_key("first", NOW)


@pytest.fixture
def ring(first: SigningKey) -> KeyRing:
    return KeyRing(1, [first, make_key("second", NOW + 10)])


def test_a_remembered_token_is_the_same_and_expires(ring: KeyRing, first: SigningKey) -> None:
    value = sign_access_token(TOKEN, ISSUER, first)
    assert [read_access_token(value, ISSUER, ring, NOW) for _ in range(3)] == [TOKEN] * 3
    assert list(ring.verified) == [value]
    assert read_access_token(value, ISSUER, ring, NOW + 59) == TOKEN
    assert read_access_token(value, ISSUER, ring, NOW + 60) is None


def test_a_remembered_tokens_key_goes_its_way(ring: KeyRing, first: SigningKey) -> None:
    long = AccessToken("service-a", "read", ["https://b.example"], NOW, NOW + 10 * KEEP_AFTER_SIGNING, "jti-2")
    value = sign_access_token(long, ISSUER, first)
    assert read_access_token(value, ISSUER, ring, NOW) == long
    assert read_access_token(value, ISSUER, ring, NOW + 9 + KEEP_AFTER_SIGNING) == long
    with pytest.raises(UnknownKey):
        read_access_token(value, ISSUER, ring, NOW + 10 + KEEP_AFTER_SIGNING)


def test_another_ring_knows_nothing_of_it(ring: KeyRing, first: SigningKey) -> None:
    value = sign_access_token(TOKEN, ISSUER, first)
    read_access_token(value, ISSUER, ring, NOW)
    with pytest.raises(UnknownKey):
        read_access_token(value, ISSUER, KeyRing(2, [make_key("third", NOW)]), NOW)


def test_nothing_that_failed_is_remembered(ring: KeyRing, first: SigningKey) -> None:
    value = sign_access_token(TOKEN, ISSUER, first)
    read_access_token(value, ISSUER, ring, NOW)
    other = sign_access_token(TOKEN, ISSUER, make_key("first", NOW))
    head, claims, _signature = value.split(".")
    for forged in (other, f"{head}.{claims}.{other.split('.')[2]}", f"{head}.{claims}.", f" {value}"):
        assert read_access_token(forged, ISSUER, ring, NOW) is None
    assert read_access_token(sign_access_token(TOKEN, "https://other.example", first), ISSUER, ring, NOW) is None
    assert list(ring.verified) == [value]


def test_not_more_is_remembered_than_there_is_room_for(ring, first, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_keys, "_VERIFIED", 3)
    values = [sign_access_token(TOKEN, ISSUER, first) for _ in range(10)]  # ES256 signs the same thing differently
    for value in values * 2:
        assert read_access_token(value, ISSUER, ring, NOW) == TOKEN
        assert len(ring.verified) <= 3
