"""S18: cached answers and locally validated JWTs end with the revocation feed, and nothing stale passes without it."""

import hashlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import webtest

from resource_server import Guard, ResourceServer
from resource_server.access_token import AccessToken
from resource_server.app import create_app
from resource_server.deadline import Deadline
from resource_server.errors import UnavailableError
from resource_server.feed import Feed, Page, Trouble, Unchanged, Unread
from resource_server.followed import Fallback, FollowedIntrospection
from resource_server.follower import FRESH, Follower
from resource_server.following import Following
from resource_server.stats import Stats
from resource_server.tombstones import ClientRevoked, FullError, KeyRevoked, TokenRevoked, Tombstones
from resource_server.transport import Http, Transport
from resource_server.validation import Validation

FEED = "/oauth/revocations"
PATIENCE = 30.0  # seconds; a limit, never a pace
LATER = 4_000_000_000


@dataclass
class Clocks:
    """The real clocks, which a test sets ahead where it would have to wait."""

    ahead: float = 0.0

    def monotonic(self):
        return time.monotonic() + self.ahead

    def wall(self):
        return time.time() + self.ahead


@dataclass
class Service:
    """The example service with a feed, and what a test wants to know of it."""

    guard: Guard
    client: webtest.TestApp
    validation: Validation
    upstream: object
    clocks: Clocks

    def ask(self, token, status=None):
        answer = self.client.get("/protected", headers={"Authorization": f"Bearer {token}"}, expect_errors=True)
        assert status is None or answer.status_int == status, answer
        assert answer.status_int in {200, 401, 503}
        return answer.status_int

    @property
    def introspections(self):
        return sum(call.path == "/oauth/introspect" for call in self.upstream.calls)

    def until_refused(self, token, revoked_at, bound=3.0):
        """Ask until the answer is no more 200; no request that began after the bound may be answered so."""
        while (asked_at := self.clocks.monotonic()) and self.ask(token) == 200:
            assert asked_at - revoked_at < bound

    @property
    def polls(self):
        return sum(call.path == FEED for call in self.upstream.calls)

    def until_nearly_stale(self):
        """Let polls go wrong, and then most of the time pass for which the last good one counts."""
        before = self.polls
        self.until(lambda _: self.polls >= before + 2)
        self.clocks.ahead += FRESH - 1.0

    def until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition(self.validation.status()):
            assert time.monotonic() < end, self.validation.status()
            time.sleep(0.005)

    def until_fresh(self):
        self.validation._following()
        self.until(lambda status: status.fresh)


@pytest.fixture
def make_service(make_config, upstream, feed, monkeypatch):
    made, clocks = [], Clocks()
    monkeypatch.setattr(
        "resource_server.validation.Follower", partial(Follower, clock=clocks.monotonic, wall=clocks.wall)
    )
    monkeypatch.setattr("resource_server.validation.Following", partial(Following, clock=clocks.monotonic))

    def make(**changes):
        settings = {"revocations_url": upstream.url + FEED, "deadline": 3, "read_timeout": 1, "threads": 8} | changes
        config = make_config(**settings)
        validation = Validation(config)
        made.append(validation)
        server = ResourceServer(Guard(validation.verify, status=validation.status, metadata=None))
        return Service(server.guard, webtest.TestApp(create_app(config, server)), validation, upstream, clocks)

    yield make
    upstream.released.set()
    for validation in made:
        validation.close()


@pytest.fixture
def service(make_service):
    service = make_service()
    service.until_fresh()
    return service


@pytest.fixture
def jwt_service(make_service, issuer):
    service = make_service(validation="jwt", issuer=issuer.url, resource="https://me", introspect_url=None)
    service.until_fresh()
    return service


def test_s18_a_remembered_answer_ends_with_the_revocation(service, upstream, feed):
    upstream.knows("t", exp=LATER)
    for _ in range(5):
        service.ask("t", 200)
    assert service.introspections == 1
    del upstream.tokens["t"]
    feed.revoke("t")
    service.until_refused("t", time.monotonic())
    service.ask("t", 401)
    assert service.introspections == 1
    assert service.validation.status().tombstones == 1
    assert service.validation.status().cache_hits >= 4


def test_s18_a_cursor_is_fetched_before_anything_is_remembered(make_service, upstream, feed, answers):
    feed.behaviour = answers.with_(500)
    service = make_service()
    upstream.knows("t")
    for _ in range(3):
        service.ask("t", 200)
    assert service.introspections == 3
    feed.behaviour = None
    service.until_fresh()
    service.ask("t", 200)
    service.ask("t", 200)
    assert service.introspections == 4
    assert feed.cursors[0] is None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "client", "client_id": "c", "issued_before": 2_000_000_000, "exp": LATER},
        {"type": "key", "kid": "k1", "exp": LATER},
        "token",
    ],
)
def test_s18_a_jwt_ends_with_each_kind_of_revocation(jwt_service, issuer, feed, event):
    token = issuer.token("k1", iat=1_900_000_000, exp=LATER)
    other = issuer.add("k2") and issuer.token("k2", iat=2_000_000_000, exp=LATER)
    jwt_service.ask(token, 200)
    if event == "token":
        feed.revoke(token)
    else:
        feed.events.append(event)
    jwt_service.until_refused(token, time.monotonic())
    jwt_service.until(lambda _: jwt_service.ask(token) == 401)
    assert jwt_service.introspections == 0
    assert jwt_service.ask(other) in {200, 401}


def test_s18_a_jwt_revoked_before_the_start_is_refused(make_service, issuer, feed):
    token = issuer.token("k1")
    feed.page = 2
    for n in range(7):
        feed.revoke(f"other {n}")
    feed.revoke(token)
    service = make_service(validation="jwt", issuer=issuer.url, resource="https://me", introspect_url=None)
    # until the whole feed has been read nobody can tell, and there is nobody to ask
    assert service.ask(token) in {401, 503}
    service.until_fresh()
    service.ask(token, 401)
    service.ask(issuer.token("k1"), 200)
    assert feed.cursors[:4] == ["0", "1.2", "1.4", "1.6"]


def test_s18_revoked_while_its_introspection_is_in_flight():
    """The answer was decided before the revocation and arrives after its tombstone: not served, not remembered."""
    asked, arrive, pages = threading.Event(), threading.Event(), [Page("e", "1", more=False)]
    token = AccessToken("s", "c", frozenset({"read"}), expires_at=LATER)

    def ask(_token, _deadline=None):
        asked.set()
        assert arrive.wait(30)
        return token

    follower, stats = Follower(lambda _cursor, _etag: pages[-1], whole=False), Stats()
    verify = FollowedIntrospection(ask, lambda: follower, Fallback(ask, ask, stats), stats)
    follower.poll()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(verify, "t")
        assert asked.wait(30)
        joiner = pool.submit(verify, "t")
        flight = follower.era.flights._flights[hashlib.sha256(b"t").digest()]
        while not flight._condition._waiters:
            time.sleep(0)
        pages.append(Page("e", "2", more=False, events=(TokenRevoked(hashlib.sha256(b"t").digest()[:16], LATER),)))
        follower.poll()
        arrive.set()
        assert leader.result(30) is None
        assert joiner.result(30) is None
    assert verify("t") is None


def test_s18_a_shared_answer_that_lands_after_freshness_was_lost_is_asked_for_again():
    now, calls, asked, arrive = [0.0], [], threading.Event(), threading.Event()
    token = AccessToken("s", "c", frozenset({"read"}), expires_at=LATER)

    def ask(_token, _deadline=None):
        calls.append(1)
        asked.set()
        assert arrive.wait(30)
        return token if len(calls) == 1 else None

    follower = Follower(lambda *_: Page("e", "1", more=False), whole=False, clock=lambda: now[0], wall=lambda: now[0])
    stats = Stats()
    verify = FollowedIntrospection(ask, lambda: follower, Fallback(ask, ask, stats), stats)
    follower.poll()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(verify, "t")
        assert asked.wait(30)
        joiner = pool.submit(verify, "t")
        flight = follower.era.flights._flights[hashlib.sha256(b"t").digest()]
        while not flight._condition._waiters:
            time.sleep(0)
        now[0] = 3.5
        arrive.set()
        assert leader.result(30) is token
        assert joiner.result(30) is None
    assert len(calls) == 2


@pytest.fixture
def broken_feed(upstream, answers):
    page = {"epoch": "1", "cursor": "1.0", "more": True, "events": []}
    return {
        "paused": answers.hang(upstream),
        "500": answers.with_(500),
        "nonsense": answers.with_(200, b"<html>"),
        "unknown event": answers.with_(200, page | {"more": False, "events": [{"type": "planet", "exp": LATER}]}),
        "endless": answers.with_(200, page),
        "refused": answers.with_(401),
        "cut": answers.hang_up(),
    }


FAULTS = ["paused", "500", "nonsense", "unknown event", "endless", "refused", "cut"]


@pytest.mark.parametrize("fault", FAULTS)
def test_s18_feed_lost_every_request_introspects_and_with_the_server_lost_too_503(
    service, upstream, feed, answers, broken_feed, fault
):
    upstream.knows("t", exp=LATER)
    service.ask("t", 200)
    feed.behaviour = broken_feed[fault]
    revoked_at = service.clocks.monotonic()
    del upstream.tokens["t"]
    feed.revoke("t")
    service.until_nearly_stale()
    # remembered for a while, though never beyond the bound
    service.until_refused("t", revoked_at, 3.1)
    service.until(lambda status: status.fresh is False)
    upstream.knows("u")
    before = service.introspections
    for _ in range(3):
        service.ask("u", 200)
        service.ask("t", 401)
    assert service.introspections == before + 6
    upstream.behaviours = [answers.with_(500)] * 8
    upstream.behaviour = answers.with_(500)
    assert service.ask("u") == 503
    assert service.ask("t") == 503
    upstream.behaviour, upstream.behaviours, feed.behaviour = None, [], None
    upstream.released.set()
    service.until_fresh()
    assert service.validation.status().fallbacks


@pytest.mark.parametrize("fault", ["500", "cut"])
def test_s18_a_jwt_without_the_feed_is_confirmed_or_503(
    make_service, issuer, upstream, feed, answers, broken_feed, fault
):
    service = make_service(validation="auto", issuer=issuer.url, resource="https://me")
    service.until_fresh()
    token = upstream.knows(issuer.token("k1"), aud="https://me")
    service.ask(token, 200)
    assert service.introspections == 0
    feed.behaviour = broken_feed[fault]
    service.until_nearly_stale()
    service.until(lambda status: status.fresh is False)
    service.ask(token, 200)
    assert service.introspections == 1
    del upstream.tokens[token]
    service.ask(token, 401)
    upstream.behaviour = answers.with_(500)
    service.ask(token, 503)


def test_s18_in_jwt_mode_a_lost_feed_is_503(jwt_service, issuer, feed, answers):
    token = issuer.token("k1")
    jwt_service.ask(token, 200)
    feed.behaviour = answers.with_(500)
    jwt_service.until_nearly_stale()
    jwt_service.until(lambda status: status.fresh is False)
    jwt_service.ask(token, 503)
    jwt_service.ask("not-a-jwt", 401)
    feed.behaviour = None
    jwt_service.until_fresh()
    jwt_service.ask(token, 200)


def test_s18_a_slow_feed_keeps_the_bound(service, upstream, feed, answers):
    upstream.knows("t", exp=LATER)
    slow = threading.Event()

    def behave(handler):
        slow.wait(0.8)
        answers.with_(*feed.answer(handler.path.rpartition("cursor=")[2].partition("&")[0]))(handler)

    feed.behaviour = behave
    service.ask("t", 200)
    del upstream.tokens["t"]
    feed.revoke("t")
    service.until_refused("t", time.monotonic())
    slow.set()


def test_s18_410_and_another_epoch_drop_everything(service, upstream, feed):
    upstream.knows("t", exp=LATER)
    service.ask("t", 200)
    assert service.introspections == 1
    # restored from a backup: the revocation is in no feed any more, and the token is unknown
    del upstream.tokens["t"]
    feed.epoch = "2"
    service.until_refused("t", time.monotonic())
    service.until_fresh()
    service.ask("t", 401)
    assert service.introspections >= 2
    assert service.validation.status().polls["gone"] == 1


def test_s18_404_falls_back_to_what_was_chosen(make_service, upstream, feed, answers, issuer):
    feed.behaviour = answers.with_(404)
    plain, brief = make_service(), make_service(cache_ttl=30)
    local = {"validation": "jwt", "issuer": issuer.url, "resource": "https://me"}
    accepting = make_service(**local, jwt_without_feed="accept")
    asking = make_service(**local)
    upstream.knows("t")
    for service in (plain, brief, accepting, asking):
        service.validation._following()
        service.until(lambda status: status.problem == "no_feed")
    for _ in range(3):
        plain.ask("t", 200)
        brief.ask("t", 200)
    # three times for the one, once for the other that remembers
    assert plain.introspections == 4
    token = issuer.token("k1")
    accepting.ask(token, 200)
    asking.ask(token, 401)
    upstream.knows(token, aud="https://me")
    asking.ask(token, 200)
    assert plain.validation.status().fallbacks == {"no_feed": 3}


def test_s18_refused_credentials_are_loud(service, upstream, feed, answers, caplog):
    feed.behaviour = answers.with_(403)
    # It is logged after the status has changed.
    service.until(lambda _: logging.CRITICAL in {each.levelno for each in caplog.records if "follower" in each.name})
    assert service.validation.status().problem == "refused"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_s18_a_thread_that_died_is_replaced(service, upstream, feed):
    upstream.knows("t", exp=LATER)
    service.ask("t", 200)
    runner = service.validation._following._runner()
    poll = runner.follower.poll

    def die():
        runner.follower.poll = poll
        raise SystemExit

    first, runner.follower.poll = runner._thread, die
    first.join(5)
    assert not first.is_alive()
    service.ask("t")
    assert runner._thread is not first
    service.until_fresh()
    feed.revoke("t")
    service.until_refused("t", time.monotonic())
    service.until(lambda _: service.ask("t") == 401)


def test_s18_an_accident_in_a_poll_does_not_end_the_thread(service, feed, caplog):
    runner = service.validation._following._runner()
    poll = runner.follower.poll

    def stumble():
        runner.follower.poll = poll
        raise ZeroDivisionError

    runner.follower.poll = stumble
    thread = runner._thread
    while runner.follower.poll is stumble:
        time.sleep(0.005)
    end = time.monotonic() + 20
    while "polling the revocation feed failed" not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.005)
    service.until_fresh()
    assert runner._thread is thread


def test_the_feed_is_read_as_the_client_we_are(service, upstream, basic_pair):
    call = next(call for call in upstream.calls if call.path == FEED)
    assert basic_pair(call.authorization) == "resource+server:p%3Aw%2B%C3%BC"
    assert call.query == "limit=1000"


def test_an_unchanged_feed_is_asked_for_by_its_tag(upstream, answers):
    page = {"epoch": "e", "cursor": "c", "more": False, "events": []}
    feed = Feed(Transport(f"{upstream.url}{FEED}", Http()))
    upstream.behaviours = [answers.with_(200, page, ETag='"x"'), answers.with_(304, b"", ETag='"x"')]
    assert feed("c", None) == Page("e", "c", more=False, etag='"x"')
    assert feed("c", '"x"') == Unchanged()
    answered = [Page("e", "c", more=False, etag='"x"'), Page("e", "c", more=False, etag='"x"'), Unchanged()]
    sent = []
    follower = Follower(lambda cursor, etag: sent.append((cursor, etag)) or answered.pop(0), whole=False)
    for _ in range(3):
        follower.poll()
    assert sent == [(None, None), ("c", None), ("c", '"x"')]
    assert follower.fresh()


EMPTY = {"epoch": "1", "cursor": "1", "more": False, "events": []}


@pytest.mark.parametrize(
    ("status", "body", "trouble"),
    [
        (200, EMPTY | {"cursor": 7}, Trouble.LOST),
        (200, EMPTY | {"epoch": ""}, Trouble.LOST),
        (200, EMPTY | {"more": "no"}, Trouble.LOST),
        (200, EMPTY | {"events": {}}, Trouble.LOST),
        (200, EMPTY | {"events": [7]}, Trouble.LOST),
        (200, EMPTY | {"poll_after": "x"}, Trouble.LOST),
        (
            200,
            {"epoch": "1", "cursor": "1", "more": False, "events": [{"type": "token", "hash": "!", "exp": 1}]},
            Trouble.LOST,
        ),
        (
            200,
            {"epoch": "1", "cursor": "1", "more": False, "events": [{"type": "token", "hash": "AAAA", "exp": 1}]},
            Trouble.LOST,
        ),
        (200, EMPTY | {"events": [{"type": "key", "kid": "k"}]}, Trouble.LOST),
        (
            200,
            {"epoch": "1", "cursor": "1", "more": False, "events": [{"type": "client", "client_id": "c", "exp": 1}]},
            Trouble.LOST,
        ),
        (200, b" " * (1024 * 1024 + 1), Trouble.LOST),
        (302, b"", Trouble.LOST),
        (304, b"", Trouble.LOST),
        (400, {"error": "invalid_request"}, Trouble.LOST),
        (429, b"", Trouble.LOST),
        (401, b"", Trouble.REFUSED),
        (403, b"", Trouble.REFUSED),
        (404, b"", Trouble.NO_FEED),
        (410, b"", Trouble.GONE),
    ],
)
def test_what_is_no_page_is_trouble(upstream, answers, status, body, trouble):
    upstream.behaviour = answers.with_(status, body, Location="/elsewhere")
    assert Feed(Transport(f"{upstream.url}{FEED}", Http()))("c", None).trouble is trouble


def test_poll_after_and_backing_off_stay_within_bounds():
    now, answer = [100.0], [Page("e", "1", more=False)]
    follower = Follower(lambda *_: answer[0], whole=False, clock=lambda: now[0])
    for asked, waited in ((0.5, 0.5), (0.0, 0.2), (60, 1.0), (-1, 0.2)):
        answer[0] = Page("e", "1", more=False, poll_after=asked)
        assert follower.poll() - now[0] == pytest.approx(waited)
    answer[0] = Unread(Trouble.LOST, "x")
    assert [round(follower.poll() - now[0], 3) for _ in range(6)] == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    answer[0] = Unread(Trouble.NO_FEED, "x")
    assert follower.poll() - now[0] == 60


def test_a_full_memory_is_not_fresh_until_there_is_room():
    now = [1000.0]
    pages = [tuple(TokenRevoked(bytes([n]) * 16, 1100) for n in range(3))]
    follower = Follower(
        lambda cursor, _: Page("e", "1", more=False, events=() if cursor == "1" else pages[0]),
        whole=True,
        size=2,
        clock=lambda: now[0],
        wall=lambda: now[0],
    )
    follower.poll()
    assert follower.fresh() is None
    assert follower.problem == "full"
    # they have expired, and the clocks may differ by the grace
    now[0] = 1221.0
    follower.poll()
    assert follower.fresh() is None  # the pass counts from when it began
    follower.poll()
    assert follower.fresh()


def test_tombstones_are_kept_until_expiry_and_never_given_up():
    stones = Tombstones(size=3)
    token = AccessToken("s", "c", frozenset(), issued_at=50, key_id="k")
    stones.add(TokenRevoked(b"a" * 16, 100), 0)
    stones.add(KeyRevoked("k", 100), 0)
    stones.add(ClientRevoked("c", 50, 100), 0)
    for again in (TokenRevoked(b"a" * 16, 200), ClientRevoked("c", 40, 90), KeyRevoked("k", 90)):
        stones.add(again, 0)
    with pytest.raises(FullError):
        stones.add(TokenRevoked(b"b" * 16, 100), 0)
    stones.add(TokenRevoked(b"c" * 16, 100), 220)  # long expired: not worth a place
    stones.purge(219)
    assert len(stones) == 3
    assert stones.cover(b"x" * 32, token)
    stones.purge(220)
    assert len(stones) == 1
    assert stones.cover(b"a" * 32, AccessToken(None, None, frozenset()))
    assert not stones.cover(b"x" * 32, token)


@pytest.mark.parametrize(("issued_at", "covered"), [(49, True), (50, False), (None, True)])
def test_a_client_event_covers_what_was_issued_before(issued_at, covered):
    stones = Tombstones()
    stones.add(ClientRevoked("c", 50, 100), 0)
    assert stones.cover(b"x" * 32, AccessToken("s", "c", frozenset(), issued_at=issued_at)) is covered
    assert not stones.cover(b"x" * 32, AccessToken("s", "d", frozenset(), issued_at=issued_at))


@pytest.mark.parametrize("step", [3600.0, -3600.0, 5.0, -5.0])
def test_s18_a_step_of_the_clock_is_not_trusted(step):
    now, skew, events = [1000.0], [0.0], [(TokenRevoked(b"t" * 16, 1400),)]
    sent = []

    def feed(cursor, _etag):
        sent.append(cursor)
        return Page("e", "1", more=False, events=() if cursor == "1" else events[0])

    follower = Follower(feed, whole=True, clock=lambda: now[0], wall=lambda: now[0] + skew[0])
    follower.poll()
    era = follower.fresh()
    assert era
    skew[0] = step
    assert follower.fresh() is None
    now[0] += 61
    follower.poll()
    assert follower.fresh()
    # set back, it may have made us forget too early: everything is read anew
    assert sent == (["0", "1"] if step > 0 else ["0", "0"])
    skew[0] = 0
    now[0] += 1
    assert follower.fresh() is None
    follower.poll()
    assert follower.fresh().tombstones.cover(b"t" * 32, AccessToken(None, None, frozenset()))


def test_a_thread_that_cannot_be_begun_costs_nothing_but_the_cache(monkeypatch, caplog):
    following = Following(lambda: Follower(lambda *_: Page("e", "1", more=False), whole=False))
    monkeypatch.setattr(threading.Thread, "start", lambda _self: (_ for _ in ()).throw(RuntimeError("no more")))
    assert following().fresh() is None
    monkeypatch.undo()
    end = time.monotonic() + PATIENCE
    while following().fresh() is None:
        assert time.monotonic() < end
    following.stop()


def test_waiting_for_a_shared_introspection_ends_with_the_deadline():
    asked, arrive = threading.Event(), threading.Event()

    def ask(_token, _deadline=None):
        asked.set()
        arrive.wait(30)

    follower, stats = Follower(lambda *_: Page("e", "1", more=False), whole=False), Stats()
    verify = FollowedIntrospection(ask, lambda: follower, Fallback(ask, ask, stats), stats)
    follower.poll()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(verify, "t")
        assert asked.wait(30)
        with pytest.raises(UnavailableError):
            verify("t", Deadline.after(0.01))
        arrive.set()
        assert first.result(30) is None
