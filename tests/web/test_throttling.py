"""T24: repeated failed authentication is throttled, everywhere, and the rightful client is not locked out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.flows.throttle import MINUTE
from authserver.web.client_address import ClientAddress

ENDPOINTS = ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/revocations"]
LIMIT = 4
WRONG = {"grant_type": "client_credentials", "token": "x", "client_secret": "wrong"}


@pytest.fixture
def policy(policy):
    return replace(policy, failures_per_minute=LIMIT)


@pytest.fixture(autouse=True)
def start_of_a_minute(clock):
    clock.now -= clock.now % MINUTE


@pytest.fixture
def fail(app):
    """Fail to authenticate; give the status."""

    def post(client_id="service-a", path="/oauth/token", app=app, address="192.0.2.1"):
        answer = app.post(path, WRONG | {"client_id": client_id}, status="*", extra_environ={"REMOTE_ADDR": address})
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status_int

    return post


@pytest.mark.parametrize("client_id", ["service-a", "nobody"])
def test_t24_after_too_many_failures_the_rest_of_the_minute_is_refused(app, service_a, fail, clock, asked, client_id):
    assert [fail(client_id) for _ in range(LIMIT + 2)] == [401] * LIMIT + [429] * 2
    clock.advance(20)
    assert asked(lambda: fail(client_id)) == 0
    answer = app.post(
        "/oauth/token", WRONG | {"client_id": client_id}, status=429, extra_environ={"REMOTE_ADDR": "192.0.2.1"}
    )
    assert answer.headers["Retry-After"] == "40"
    assert answer.json["error"] == "temporarily_unavailable"
    assert "WWW-Authenticate" not in answer.headers
    clock.advance(40)
    assert fail(client_id) == 401


def test_t24_all_endpoints_and_all_processes_count_together(app, other_app, service_a, fail):
    statuses = [fail(path=ENDPOINTS[at % 4], app=(app, other_app)[at % 2]) for at in range(LIMIT)]
    assert statuses == [401] * LIMIT
    # The process that has counted the last one knows; the other learns with its next failure.
    assert {fail(app=other_app), fail(app=app)} <= {401, 429}
    assert fail(app=other_app) == fail(app=app) == 429


def test_t24_the_rightful_client_is_not_locked_out(app, service_a, fail):
    token = service_a.token(app)
    for _ in range(LIMIT + 1):
        fail()
    assert fail() == 429
    here, elsewhere = {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "192.0.2.2"}
    form = service_a.form | {"grant_type": "client_credentials", "token": token}
    for environ in (here, elsewhere):
        for path in ENDPOINTS[:3]:
            app.post(path, form, status=200, extra_environ=environ)


def test_t24_another_client_and_another_address_are_not_concerned(fail, service_a, service_b):
    for _ in range(LIMIT + 1):
        fail()
    assert fail() == 429
    assert fail("service-b") == 401
    assert fail(address="192.0.2.2") == 401


def test_t24_success_writes_nothing(app, service_a, asked):
    service_a.token(app)
    assert asked(lambda: service_a.token(app)) == 1


def test_t24_refusals_that_are_no_failed_authentication_do_not_count(app, service_a):
    for _ in range(LIMIT + 2):
        app.post("/oauth/token", service_a.form | {"grant_type": "password"}, status=400)
        app.post("/oauth/token", service_a.form | {"grant_type": "client_credentials", "scope": "other"}, status=400)


def test_t24_registration_and_its_management_are_throttled(app):
    wrong = {"Authorization": "Bearer wrong"}
    for act in (
        lambda: app.post_json("/clients/register", {}, headers=wrong, status="*"),
        lambda: app.get("/clients/register/service-a", headers=wrong, status="*"),
    ):
        assert [act().status_int for _ in range(LIMIT + 1)] == [401] * LIMIT + [429]
    right = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
    app.post_json("/clients/register", {}, headers=right, status=201)


def test_t24_maintenance_forgets(server, clock, fail, service_a):
    fail()
    server.authentication_failures.forget(server.now() // MINUTE)
    assert server.authentication_failures.count(b"x" * 32, server.now() // MINUTE) == 1
    server.authentication_failures.forget(server.now() // MINUTE + 1)
    assert server.authentication_failures.count(b"x" * 32, server.now() // MINUTE) == 1


# Where a request comes from


class Request:
    """What is looked at of a request."""

    def __init__(self, peer: str, forwarded_for: str | None = None) -> None:
        self.env = {"REMOTE_ADDR": peer}
        self._forwarded_for = forwarded_for

    def get_header(self, _name: str) -> str | None:
        return self._forwarded_for


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "address"),
    [
        ("", "192.0.2.1", None, "192.0.2.1"),
        ("", "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1", "198.51.100.7", "198.51.100.7"),
        ("192.0.2.1", "192.0.2.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("192.0.2.0/24", "192.0.2.1", "203.0.113.9, 198.51.100.7,192.0.2.8", "198.51.100.7"),
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.9", "192.0.2.9"),
        ("192.0.2.1", "192.0.2.1", "nonsense", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1", "203.0.113.9, nonsense", "192.0.2.1"),
        ("*", "192.0.2.1", "203.0.113.9, 198.51.100.7", "203.0.113.9"),
        ("192.0.2.1", "::ffff:192.0.2.1", "198.51.100.7", "198.51.100.7"),
        ("", "2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("*", "", "198.51.100.7", ""),
    ],
)
def test_the_address_is_the_last_that_no_trusted_proxy_has(trusted, peer, forwarded_for, address):
    assert ClientAddress(trusted)(Request(peer, forwarded_for)) == address


@given(st.text(), st.text())
def test_any_text_for_an_address_is_survived(peer, forwarded_for):
    ClientAddress("10.0.0.0/8")(Request(peer, forwarded_for))
