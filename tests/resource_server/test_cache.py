"""S12, S13: what is remembered, for how long, and who asks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resource_server.access_token import AccessToken
from resource_server.cache import TokenCache, key_of
from resource_server.deadline import Deadline
from resource_server.errors import UnavailableError
from resource_server.single_flight import SingleFlight
from resource_server.verifier import CachedVerifier

GOOD = AccessToken("s", "c", frozenset({"read"}))
CROWD = 12


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_s12_concurrent_misses_share_one_call():
    calls, waiting = [], threading.Barrier(CROWD)

    def verify(token, _deadline=None):
        calls.append(token)
        return GOOD

    verifier = CachedVerifier(verify, lambda: TokenCache(30))

    def ask(_):
        waiting.wait(30)
        return verifier("t")

    with ThreadPoolExecutor(CROWD) as pool:
        assert list(pool.map(ask, range(CROWD))) == [GOOD] * CROWD
    assert calls == ["t"]


def test_s12_a_failed_call_is_not_cached():
    outcomes = [UnavailableError("first"), GOOD]

    def verify(_token, _deadline=None):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    verifier = CachedVerifier(verify, lambda: TokenCache(30))
    with pytest.raises(UnavailableError):
        verifier("t")
    assert verifier("t") is GOOD


@pytest.mark.parametrize("heals", [True, False])
def test_s12_a_failed_shared_call_costs_each_waiter_one_retry_in_company(heals):
    flights, joined, calls = SingleFlight(), threading.Event(), []

    def call():
        calls.append(1)
        if len(calls) == 1:
            joined.wait(30)
        if len(calls) == 1 or not heals:
            raise UnavailableError("down", 7)
        return "fine"

    def ask(_):
        try:
            return flights.share(b"k", call, Deadline.after(30))
        except UnavailableError as error:
            return error.retry_after

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(ask, 0)
        while not calls:
            pass
        waiter = pool.submit(ask, 1)
        # the waiter has joined once it sleeps on the future's condition
        flight = flights._flights[b"k"]
        while not flight._condition._waiters:
            pass
        joined.set()
        assert leader.result(30) == 7
        assert waiter.result(30) == ("fine" if heals else 7)
    assert len(calls) == 2
    assert not flights._flights


def test_s12_waiting_ends_with_the_deadline():
    flights, ended = SingleFlight(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.share, b"k", lambda: ended.wait(30), Deadline.after(30))
        while b"k" not in flights._flights:
            pass
        with pytest.raises(UnavailableError):
            flights.share(b"k", lambda: None, Deadline.after(0.01))
        ended.set()
        assert leader.result(30) is True


@pytest.mark.parametrize(("exp", "life"), [(None, 10), (5000, 10), (1004, 4)])
def test_s13_life_is_the_least_of_exp_and_ttl(clock, exp, life):
    cache = TokenCache(10, wall=Clock(1000.0), clock=clock)
    cache.put(b"k", AccessToken("s", "c", frozenset(), expires_at=exp))
    clock.now += life - 0.5
    assert cache.get(b"k")
    clock.now += 0.5
    assert cache.get(b"k") is None


def test_s13_expired_is_not_stored(clock):
    cache = TokenCache(10, wall=clock, clock=clock)
    cache.put(b"k", AccessToken("s", "c", frozenset(), expires_at=1000))
    assert len(cache) == 0


def test_s13_inactive_answers_are_brief_and_cannot_push_out_good_ones(clock):
    cache = TokenCache(30, size=3, wall=clock, clock=clock)
    cache.put(b"good", GOOD)
    for n in range(100):
        cache.put(b"bad%d" % n, None)
    assert len(cache) == 4
    assert cache.get(b"good").token is GOOD
    assert cache.get(b"bad99").token is None
    clock.now += 5
    assert cache.get(b"bad99") is None
    assert cache.get(b"good")


def test_s13_the_least_used_goes_first(clock):
    cache = TokenCache(30, size=2, wall=clock, clock=clock)
    for key in (b"a", b"b"):
        cache.put(key, GOOD)
    cache.get(b"a")
    cache.put(b"c", GOOD)
    assert [bool(cache.get(key)) for key in (b"a", b"b", b"c")] == [True, False, True]


@pytest.mark.parametrize("ttl", [0, -1, 31])
def test_s13_no_cache_lives_longer_than_30_seconds(ttl):
    with pytest.raises(ValueError, match="30"):
        TokenCache(ttl)


def test_s14_the_cache_knows_tokens_by_hash_only():
    assert key_of("t").hex() == "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8"
