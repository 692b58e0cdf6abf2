"""S16, S17: when keys are fetched, how often, and what happens when they cannot be."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import webtest

from resource_server import Guard, ResourceServer
from resource_server.app import create_app
from resource_server.deadline import Deadline
from resource_server.endpoint import Endpoint
from resource_server.errors import UnavailableError
from resource_server.jwks import COOLDOWN, MAX_STALE, Jwks
from resource_server.jwt import JwtVerifier
from resource_server.transport import Http

CROWD = 12


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client(make_config, issuer, clock):
    """The example service with a clock for its keys that the test moves."""
    endpoint = Endpoint(f"{issuer.url}/.well-known/jwks.json", http=Http(read_timeout=1, deadline=4), clock=clock)
    keys = Jwks(lambda _: endpoint.get(), ["ES256"], clock=clock)
    server = ResourceServer(Guard(JwtVerifier(keys, issuer.url, "https://me", clock=clock)))
    return webtest.TestApp(create_app(make_config(), server))


def ask(client, token, status):
    return client.get("/protected", headers={"Authorization": f"Bearer {token}"}, status=status)


def test_s16_random_kids_cause_one_fetch_per_cooldown_and_good_keys_stay(client, issuer, clock):
    good = issuer.token("k1")
    ask(client, good, 200)
    assert issuer.fetches == 1
    for n in range(1000):
        clock.now += 0.001
        ask(client, issuer.token("k1", header={"kid": secrets.token_hex(8)}), 401)
        if n % 100 == 0:
            ask(client, good, 200)
    assert issuer.fetches == 2
    clock.now += COOLDOWN
    ask(client, issuer.token("k1", header={"kid": "x"}), 401)
    ask(client, good, 200)
    assert issuer.fetches == 3


def test_s16_a_new_key_is_accepted_the_first_time(client, issuer, clock):
    ask(client, issuer.token("k1"), 200)
    for kid in ("k2", "k3"):
        clock.now += COOLDOWN
        issuer.add(kid)
        ask(client, issuer.token(kid), 200)
    ask(client, issuer.token("k1"), 200)
    assert issuer.fetches == 3


def test_s16_a_crowd_at_the_start_causes_one_fetch(issuer):
    endpoint, meet = Endpoint(f"{issuer.url}/.well-known/jwks.json"), threading.Barrier(CROWD)
    verifier, tokens = JwtVerifier(Jwks(endpoint.get, ["ES256"]), issuer.url, "https://me"), []
    tokens = [issuer.token("k1") for _ in range(CROWD)]

    def verify(token):
        meet.wait(30)
        return verifier(token).subject

    with ThreadPoolExecutor(CROWD) as pool:
        assert list(pool.map(verify, tokens)) == ["s"] * CROWD
    assert issuer.fetches == 1


@pytest.mark.parametrize(("max_age", "kept"), [(0, 60), (60, 60), (900, 900), (86400, 3600)])
def test_max_age_is_respected_within_bounds(client, issuer, clock, max_age, kept):
    issuer.max_age = max_age
    ask(client, issuer.token("k1"), 200)
    clock.now += kept - 1
    ask(client, issuer.token("k1"), 200)
    assert issuer.fetches == 1
    clock.now += 1
    ask(client, issuer.token("k1"), 200)
    assert issuer.fetches == 2


def test_a_key_that_was_removed_stops_with_the_next_fetch_also_for_remembered_tokens(client, issuer, clock):
    issuer.add("k2")
    first, second = issuer.token("k1"), issuer.token("k2")
    ask(client, first, 200)
    ask(client, second, 200)
    issuer.remove("k1")
    ask(client, first, 200)
    clock.now += 300
    ask(client, first, 401)
    ask(client, second, 200)


def test_a_key_that_was_replaced_under_its_name_drops_remembered_tokens(client, issuer, clock):
    old = issuer.token("k1")
    ask(client, old, 200)
    issuer.remove("k1")
    issuer.add("k1")
    clock.now += 300
    ask(client, old, 401)
    ask(client, issuer.token("k1"), 200)


@pytest.mark.parametrize("failure", [500, 404, "nonsense", "no set", "hang up", "silent"])
def test_s17_old_keys_serve_for_a_bounded_time_while_fetching_fails(client, issuer, answers, upstream, clock, failure):
    token = issuer.token("k1", exp=4_000_000_000)
    ask(client, token, 200)
    upstream.documents["/.well-known/jwks.json"] = {
        "nonsense": answers.with_(200, b"<html>"),
        "no set": answers.with_(200, {"keyz": []}),
        "hang up": answers.hang_up(),
        "silent": answers.hang(upstream),
    }.get(failure) or answers.with_(failure)
    clock.now += 300
    ask(client, token, 200)
    ask(client, issuer.token("k1"), 200)
    fetched = issuer.fetches
    clock.now += COOLDOWN - 1
    ask(client, token, 200)
    assert issuer.fetches == fetched
    # a key that nobody has seen cannot be known to be wrong either
    assert ask(client, issuer.token("k1", header={"kid": "new"}), 503).headers["Retry-After"]
    clock.now += MAX_STALE - 300 - COOLDOWN
    ask(client, token, 200)
    clock.now += 2
    assert ask(client, token, 503).headers["Retry-After"]


def test_s17_it_heals(client, issuer, answers, upstream, clock):
    good = upstream.documents["/.well-known/jwks.json"]
    upstream.documents["/.well-known/jwks.json"] = answers.with_(500)
    for _ in range(3):
        ask(client, issuer.token("k1"), 503)
        clock.now += 1
    upstream.documents["/.well-known/jwks.json"] = good
    ask(client, issuer.token("k1"), 200)
    issuer.add("k2")
    clock.now += COOLDOWN
    ask(client, issuer.token("k2"), 200)


def test_a_set_without_a_usable_key_is_503(client, issuer):
    issuer.remove("k1")
    ask(client, issuer.token("k1"), 503)


def test_waiting_for_another_threads_fetch_ends_with_the_deadline():
    began, finish = threading.Event(), threading.Event()

    def fetch(_deadline):
        began.set()
        finish.wait(30)
        raise UnavailableError("down")

    keys = Jwks(fetch, ["ES256"])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(keys.find, "k", "ES256")
        began.wait(30)
        with pytest.raises(UnavailableError, match="deadline"):
            keys.find("k", "ES256", Deadline.after(0.01))
        finish.set()
        with pytest.raises(UnavailableError, match="down"):
            first.result(30)
