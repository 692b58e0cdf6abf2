"""The rules of the key ring, for whatever history of rotations and revocations."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.oauth.jose import generate_key
from authserver.oauth.signing_keys import (
    KEEP_AFTER_SIGNING,
    PUBLISH_AHEAD,
    KeyRing,
    NoSigningKey,
    SigningKey,
    is_rotation_due,
    next_signing_time,
)

MAX_LIFETIME = 86400
KEY = generate_key("ES256")


def key(number: int, created_at: int, signs_from: int, revoked_at: int | None = None) -> SigningKey:
    return SigningKey(f"k{number}", "ES256", KEY, created_at, signs_from, revoked_at, KEY)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[SigningKey], int]:
    """Keys as rotations and revocations leave them, and the time after the last of those."""
    keys: list[SigningKey] = []
    now = 1_000_000
    for number in range(draw(st.integers(1, 7))):
        now += draw(st.integers(0, 3 * MAX_LIFETIME))
        ring = KeyRing(0, keys)
        if any(ring.state(each, now) == "next" for each in keys):
            continue
        keys.append(key(number, now, next_signing_time(ring, now)))
        revoked = draw(st.none() | st.sampled_from(keys))
        if revoked is not None and revoked.revoked_at is None:
            now += draw(st.integers(0, 2 * PUBLISH_AHEAD))
            was_active = KeyRing(0, keys).state(revoked, now) == "active"
            keys[keys.index(revoked)] = replace(revoked, revoked_at=now)
            if was_active:
                keys.append(key(100 + number, now, now))
    return keys, now


@given(histories(), st.integers(0, 4 * MAX_LIFETIME))
def test_there_is_always_one_that_signs_and_it_is_published(history: tuple[list[SigningKey], int], later: int) -> None:
    keys, now = history
    ring = KeyRing(1, keys)
    signing = ring.signing_key(now + later)
    assert signing in ring.published(now + later)
    assert [each for each in keys if ring.state(each, now + later) == "active"] == [signing]
    assert signing.revoked_at is None


@given(histories(), st.integers(0, 2 * MAX_LIFETIME), st.integers(1, MAX_LIFETIME))
def test_what_was_signed_verifies_until_it_expires(
    history: tuple[list[SigningKey], int], later: int, lifetime: int
) -> None:
    keys, now = history
    ring = KeyRing(1, keys)
    signing = ring.signing_key(now + later)
    for at in (now + later, now + later + lifetime // 2, now + later + lifetime - 1):
        assert ring.verifying_key(signing.kid, at) is signing


@given(histories(), st.integers(0, 2 * MAX_LIFETIME))
def test_a_key_signs_only_after_it_was_published_for_long(history: tuple[list[SigningKey], int], later: int) -> None:
    keys, now = history
    signing = KeyRing(1, keys).signing_key(now + later)
    # Signing at once is for the first key, and for the one that takes a revoked one's place.
    at_once = signing is keys[0] or int(signing.kid[1:]) >= 100
    assert signing.signs_from - signing.created_at == (0 if at_once else PUBLISH_AHEAD)


def test_revoked_gone_and_unknown_keys_verify_nothing() -> None:
    ring = KeyRing(1, [key(1, 0, 0), key(2, 10, 10), key(3, 20, 20, revoked_at=30)])
    assert ring.verifying_key("k1", 10 + KEEP_AFTER_SIGNING - 1)
    assert ring.verifying_key("k1", 10 + KEEP_AFTER_SIGNING) is None
    assert ring.verifying_key("k3", 25) is None
    for kid in ("k9", None, 1, ["k1"], {}):
        assert ring.verifying_key(kid, 0) is None


def test_a_key_revoked_in_the_second_of_its_making_ends_no_other_keys_time() -> None:
    for revoked, made in ((1, 2), (2, 1)):
        ring = KeyRing(1, [key(revoked, 10, 10, revoked_at=10), key(made, 10, 10)])
        kid = key(made, 10, 10).kid
        assert ring.signing_key(10**9).kid == kid
        assert {each.kid: ring.state(each, 10**9) for each in ring.keys}[kid] == "active"
        assert ring.published(10**9)[0].kid == ring.keys[-1].kid == kid, "the newest"


def test_a_next_key_that_was_revoked_before_its_time_ends_nobodys_time() -> None:
    ring = KeyRing(1, [key(1, 0, 0), key(2, 10, 610, revoked_at=300)])
    assert ring.state(ring.keys[0], 10**6) == "active"


def test_no_key_is_called_like_an_option_of_a_command() -> None:
    # Of names at random one in 64 is.
    assert not [kid for kid in (generate_key("EdDSA").thumbprint() for _ in range(1500)) if kid.startswith("-")]


def test_an_empty_ring_signs_nothing() -> None:
    with pytest.raises(NoSigningKey):
        KeyRing(1, []).signing_key(0)
    assert is_rotation_due(KeyRing(1, []), 0, 0, "ES256")


def test_rotation_is_due_by_age_and_by_algorithm() -> None:
    ring = KeyRing(1, [key(1, 0, 0)])
    assert not is_rotation_due(ring, 1000 - PUBLISH_AHEAD - 1, 1000, "ES256")
    assert is_rotation_due(ring, 1000 - PUBLISH_AHEAD, 1000, "ES256")
    assert not is_rotation_due(ring, 10**9, 0, "ES256")
    assert is_rotation_due(ring, 1, 0, "EdDSA")
