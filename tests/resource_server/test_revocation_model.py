"""Model check of S18: no order of events lets a revoked token pass later than the bound.

The follower, the era and the verifiers are the real ones; clocks, the authorization server and the points at which
calls go on are the model's. A call runs in a thread of its own and stops where it would wait for the network.
"""

import threading
import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from resource_server.access_token import AccessToken
from resource_server.cache import key_of
from resource_server.errors import AccessError, UnavailableError
from resource_server.feed import Page, Trouble, Unread
from resource_server.followed import Confirmed, Fallback, FollowedIntrospection, FollowedJwt
from resource_server.follower import FRESH, Follower
from resource_server.guard import Guard
from resource_server.stats import Stats
from resource_server.tombstones import ClientRevoked, KeyRevoked, TokenRevoked

TOKENS = ("a", "b")
KINDS = ("token", "client", "key")
START = 1_000_000
EXPIRY = START + 3600
BOUND = FRESH
PAGE = 2


class Call:
    """Something that runs until it would wait for the network, and goes on when told."""

    def __init__(self, model, function, failure):
        self.model, self.function, self.failure = model, function, failure
        self.began, self.resets = model.now, model.resets
        self.blocked, self.done = False, False
        self.answer, self.result = None, None
        self.go = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        self.model.local.call = self
        try:
            self.result = self.function()
        except Exception as error:  # noqa: BLE001 - checked below
            self.result = error
        finally:
            self.done = True

    def wait(self, answer):
        """Called by the fake server inside the call: what it answers is decided now, and arrives when told."""
        self.answer = answer
        self.go.clear()
        self.blocked = True
        assert self.go.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Server:
    """Revocations in transactions that commit in any order, read as docs of the feed say: by a low-water mark."""

    def __init__(self):
        self.epoch, self.next, self.open, self.rows = 1, 1, {}, []
        self.revoked, self.up, self.feed = {}, True, "up"

    def read(self, cursor):
        if self.feed == "missing":
            return Unread(Trouble.NO_FEED, "")
        if self.feed == "down" or not self.up:
            return Unread(Trouble.LOST, "")
        low = min([*self.open, self.next])
        if cursor is None:
            return Page(str(self.epoch), f"{self.epoch}:{low}:0:", more=False)
        epoch, mark, position, carried = (f"{self.epoch}:0:0:" if cursor == "0" else cursor).split(":")
        if int(epoch) != self.epoch:
            return Unread(Trouble.GONE, "")
        after = int(mark), int(position)
        rows = sorted(row for row in self.rows if row[0] >= after[0] and row[0] > after[1])
        events, more, carried = rows[:PAGE], len(rows) > PAGE, carried or str(low)
        following = f"{epoch}:{mark}:{events[-1][0]}:{carried}" if more else f"{epoch}:{carried}:0:"
        return Page(str(self.epoch), following, more, tuple(row[1] for row in events))


def event_for(kind, token):
    if kind == "client":
        return ClientRevoked(f"client-{token}", START + 1, EXPIRY)
    if kind == "key":
        return KeyRevoked(f"key-{token}", EXPIRY)
    return TokenRevoked(key_of(token)[:16], EXPIRY)


def facts(token):
    return AccessToken("s", f"client-{token}", frozenset({"read"}), (), EXPIRY, None, START, f"key-{token}")


class Signed:
    """Stands for the local verifier: every signature is good."""

    def __call__(self, token, _deadline=None):
        return facts(token)

    def verify(self, token, _digest, _deadline=None):
        return facts(token)


class Model(RuleBasedStateMachine):
    follower_class = Follower
    jwt = False

    def __init__(self):
        super().__init__()
        self.now, self.skew, self.resets = 0.0, START, 0
        self.local, self.server = threading.local(), Server()
        self.open_calls, self.eras, self.told = [], [], set()
        clocks = {"wall": lambda: self.now + self.skew, "clock": lambda: self.now}
        self.follower = self.follower_class(
            lambda cursor, _etag: self.local.call.wait(self.server.read(cursor)),
            whole=self.jwt,
            forget=self.reset,
            **clocks,
        )
        stats = Stats()
        fallback = Fallback(Confirmed(Signed(), self.ask) if self.jwt else self.ask, self.ask, stats)
        verifier = (
            FollowedJwt(Signed(), lambda: self.follower, fallback)
            if self.jwt
            else FollowedIntrospection(self.ask, lambda: self.follower, fallback, stats)
        )
        self.guard = Guard(verifier, wall=clocks["wall"])

    def ask(self, token, _deadline=None):
        if not self.server.up:
            raise UnavailableError("down")
        return self.local.call.wait(None if token in self.server.revoked else facts(token))

    def reset(self):
        self.resets += 1
        self.told = set()

    def settle(self):
        """Wait until each call has ended, waits for the server, or waits for another call's answer."""
        if self.follower.era not in self.eras:
            self.eras.append(self.follower.era)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            shared = [f for era in self.eras for f in list(era.flights._flights.values())]
            waiting = sum(len(flight._condition._waiters) for flight in shared)
            running = [call for call in self.open_calls if not call.done and not call.blocked]
            if len(running) == waiting:
                break
            time.sleep(0)
        else:
            raise AssertionError("a call does not settle")
        for call in [call for call in self.open_calls if call.done]:
            self.open_calls.remove(call)
            self.check(call)

    def check(self, call):
        token = call.result
        if not isinstance(token, AccessToken):
            assert isinstance(token, AccessError | float), repr(token)
            return
        name = token.client_id.removeprefix("client-")
        revoked_at = self.server.revoked.get(name)
        assert revoked_at is None or self.now - revoked_at <= BOUND, f"served {self.now - revoked_at} s late"
        # what was told before is refused, bound or not
        assert name not in self.told or call.resets < self.resets, "served though it was known"

    def begin(self, function, failure):
        call = Call(self, function, failure)
        self.open_calls.append(call)
        call.thread.start()
        self.settle()
        return call

    def go_on(self, call):
        call.blocked = False
        call.go.set()
        self.settle()

    def blocked(self, failure):
        return [call for call in self.open_calls if call.blocked and isinstance(call.failure, failure)]

    # one token is asked for; the other one's revocations make the pages many
    def request(self):
        return self.begin(lambda: self.guard.check("Bearer a"), UnavailableError("late"))

    @rule()
    def request_begins(self):
        self.request()

    @precondition(lambda self: self.blocked(UnavailableError))
    @rule(data=st.data(), lost=st.booleans())
    def answer_arrives(self, data, lost):
        call = data.draw(st.sampled_from(self.blocked(UnavailableError)))
        # the deadline of a whole call
        if lost or self.now - call.began > BOUND:
            call.answer = call.failure
        self.go_on(call)

    @rule()
    def request_at_once(self):
        call = self.request()
        if call.blocked:
            self.go_on(call)

    # there is one thread that polls
    @precondition(lambda self: not self.blocked(Unread))
    @rule()
    def poll_begins(self):
        self.begin(self.follower.poll, Unread(Trouble.LOST, "cut"))

    @precondition(lambda self: self.blocked(Unread))
    @rule(lost=st.booleans())
    def page_arrives(self, lost):
        (poll,) = self.blocked(Unread)
        if lost:
            poll.answer = poll.failure
        events, resets = getattr(poll.answer, "events", ()), self.resets
        told = {name for name in TOKENS for kind in KINDS if event_for(kind, name) in events}
        self.go_on(poll)
        if resets == self.resets:
            self.told |= told

    @rule()
    def poll_at_once(self):
        if not self.blocked(Unread):
            self.poll_begins()
        while self.blocked(Unread):
            self.page_arrives(lost=False)

    @rule(token=st.sampled_from(TOKENS), kind=st.sampled_from(KINDS))
    def revocation_begins(self, token, kind):
        self.server.open[self.server.next] = token, event_for(kind, token)
        self.server.next += 1

    @precondition(lambda self: self.server.open)
    @rule(data=st.data())
    def revocation_commits(self, data):
        self.commit(data.draw(st.sampled_from(sorted(self.server.open))))

    @rule(token=st.sampled_from(TOKENS), kind=st.sampled_from(KINDS))
    def revocation_at_once(self, token, kind):
        self.revocation_begins(token, kind)
        self.commit(self.server.next - 1)

    def commit(self, xid):
        token, event = self.server.open.pop(xid)
        self.server.rows.append((xid, event))
        self.server.revoked.setdefault(token, self.now)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 2.9, 61.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(seconds=st.sampled_from([-7200, -5, 5, 7200]))
    def the_wall_clock_steps(self, seconds):
        self.skew += seconds

    @rule(up=st.booleans(), feed=st.sampled_from(["up", "down", "missing"]))
    def the_server_fails(self, up, feed):
        self.server.up, self.server.feed = up, feed

    @precondition(lambda self: not self.server.up or self.server.feed != "up")
    @rule()
    def the_server_heals(self):
        self.server.up, self.server.feed = True, "up"

    @rule()
    def the_server_begins_an_epoch(self):
        self.server.epoch += 1

    def teardown(self):
        self.server.up = False
        while self.open_calls:
            for call in [call for call in self.open_calls if call.blocked]:
                call.answer = call.failure
                self.go_on(call)
            self.settle()


class JwtModel(Model):
    jwt = True


QUICK = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.parametrize("model", [Model, JwtModel])
def test_s18_no_reachable_state_serves_a_revoked_token_after_the_bound(model):
    run_state_machine_as_test(model, settings=QUICK)


# found without shrinking, and alike each time
MUTANTS = settings(QUICK, max_examples=2000, derandomize=True, phases=[Phase.generate], print_blob=False)


class BelievesItself(Follower):
    """Takes what is remembered for good, however long ago the last poll was."""

    def fresh(self):
        return self.era if self.era.complete else None


class KeepsItsMemory(Follower):
    """Starts over with the cursor alone."""

    def _start_over(self):
        era = getattr(self, "era", None)
        super()._start_over()
        self.era = era or self.era


class TrustsTheClock(Follower):
    """Does not notice that the clock was set."""

    def _moment(self):
        return super()._moment()._replace(offset=0.0)

    def fresh(self):
        complete = self.era.complete
        return self.era if complete and self._clock() - complete.at <= FRESH else None


class CountsFromTheResumption(Follower):
    """Takes a pass that was interrupted for one that began when it went on."""

    def poll(self):
        self._at.began = None
        return super().poll()


class IgnoresTombstones(Follower):
    """Forgets to look for tombstones before it gives an answer."""

    def _start_over(self):
        super()._start_over()
        self.era.unless_revoked = lambda _digest, token: token


def remember(model):
    model.poll_at_once()
    model.request_at_once()


def long_after(model):
    remember(model)
    model.revocation_at_once("a", "token")
    model.time_passes(61.0)
    model.request_at_once()


def after_a_new_epoch(model):
    remember(model)
    model.revocation_at_once("a", "token")
    model.the_server_begins_an_epoch()
    for _ in range(3):
        model.poll_at_once()
        model.time_passes(2.0)
    model.request_at_once()


def after_it_was_told(model):
    remember(model)
    model.revocation_at_once("a", "client")
    model.poll_at_once()
    model.request_at_once()


def while_the_clock_is_wrong(model):
    model.revocation_at_once("a", "token")
    model.poll_at_once()
    model.the_wall_clock_steps(7200)
    model.time_passes(61.0)
    model.poll_at_once()
    model.the_wall_clock_steps(-7200)
    model.request_at_once()


def in_a_pass_that_was_interrupted(model):
    model.poll_at_once()
    model.revocation_begins("a", "token")
    for _ in range(3):
        model.revocation_at_once("b", "token")
    model.poll_begins()
    model.page_arrives(lost=False)
    model.page_arrives(lost=True)
    model.commit(1)
    model.time_passes(2.9)
    model.poll_at_once()
    model.time_passes(2.0)
    model.request_at_once()


def while_an_unaided_answer_is_under_way(model):
    call = model.request()  # before the feed was ever read
    model.poll_at_once()
    model.revocation_at_once("a", "token")
    model.poll_at_once()
    model.go_on(call)


@pytest.mark.parametrize(
    ("model", "mutant", "story"),
    [
        (Model, BelievesItself, long_after),
        (Model, KeepsItsMemory, after_a_new_epoch),
        (Model, IgnoresTombstones, after_it_was_told),
        (Model, IgnoresTombstones, while_an_unaided_answer_is_under_way),
        (JwtModel, IgnoresTombstones, while_an_unaided_answer_is_under_way),
        (JwtModel, BelievesItself, long_after),
        (JwtModel, TrustsTheClock, while_the_clock_is_wrong),
        (JwtModel, CountsFromTheResumption, in_a_pass_that_was_interrupted),
        (JwtModel, IgnoresTombstones, after_it_was_told),
    ],
)
def test_each_mistake_shows_in_a_story_that_the_real_one_survives(model, mutant, story):
    story(model())
    wrong = type(mutant.__name__, (model,), {"follower_class": mutant})
    with pytest.raises(AssertionError, match="served"):
        story(wrong())


def test_the_search_finds_a_mistake_by_itself():
    wrong = type("Wrong", (JwtModel,), {"follower_class": IgnoresTombstones})
    with pytest.raises(AssertionError, match="served"):
        run_state_machine_as_test(wrong, settings=MUTANTS)
