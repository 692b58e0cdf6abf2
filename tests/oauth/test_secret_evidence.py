"""Which secrets may be dropped: what is said of each, in a table of histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.oauth.client import ClientSecret
from authserver.oauth.secret_evidence import DAY, EXPIRES_SOON, IDLE_AFTER, PRECISION, weigh

NOW = 1_800_000_000
LONG_AGO = NOW - 365 * DAY


def secret(created: int, used: int | None = None, expires: int | None = None) -> ClientSecret:
    return ClientSecret("x", b"", created, expires, used)


IDLE = secret(LONG_AGO, NOW - 30 * DAY)
NEVER_USED = secret(LONG_AGO)
IN_USE = secret(NOW - 20 * DAY, NOW - DAY)


@pytest.mark.parametrize(
    ("secrets", "safe"),
    [
        ([IDLE], [False]),
        ([IDLE, IN_USE], [True, False]),
        ([NEVER_USED, IN_USE], [True, False]),
        # The newer one must be the one that is in use: an old one that is may be somebody's only one.
        ([IN_USE, IDLE], [False, False]),
        ([IDLE, secret(NOW - 20 * DAY)], [False, False]),
        ([IDLE, secret(NOW - 20 * DAY, NOW - DAY, expires=NOW)], [False, True]),
        ([secret(LONG_AGO, NOW - IDLE_AFTER), IN_USE], [False, False]),
        # What is stored may be an hour old.
        ([secret(LONG_AGO, NOW - IDLE_AFTER - PRECISION), IN_USE], [True, False]),
        ([secret(NOW - DAY), IN_USE], [False, False]),
        ([secret(LONG_AGO, NOW, expires=NOW)], [True]),
    ],
)
def test_a_secret_is_safe_to_drop_if_a_newer_one_is_in_use_and_nobody_uses_it(secrets, safe):
    assert [each.safe_to_drop for each in weigh(secrets, NOW)] == safe


@pytest.mark.parametrize(
    ("expires", "soon"),
    [(None, False), (NOW, False), (NOW + 1, True), (NOW + EXPIRES_SOON, True), (NOW + EXPIRES_SOON + 1, False)],
)
def test_what_expires_within_a_month_is_warned_about(expires, soon):
    (evidence,) = weigh([secret(LONG_AGO, NOW, expires)], NOW)
    assert evidence.expires_soon is soon
    assert ("expires soon" in evidence.advice) is soon


TIMES = st.integers(LONG_AGO, NOW + 60 * DAY)


@given(st.lists(st.builds(secret, TIMES, st.none() | st.integers(LONG_AGO, NOW), st.none() | TIMES)))
def test_whoever_follows_the_advice_drops_no_secret_that_was_used_lately(secrets):
    for evidence in weigh(secrets, NOW):
        if evidence.safe_to_drop and not evidence.expired:
            assert (evidence.secret.last_used_at or 0) <= NOW - IDLE_AFTER
            assert len(secrets) > 1
