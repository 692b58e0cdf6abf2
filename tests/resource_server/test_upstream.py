"""S11: whatever the authorization server does wrong, the caller gets 503, in time."""

import logging
import time

import pytest

from resource_server.breaker import Breaker
from resource_server.endpoint import Endpoint
from resource_server.errors import UnavailableError
from resource_server.transport import Http

FOREVER = 15.0  # far above the deadline of a hasty client, far below the patience of the stand-in


@pytest.fixture
def hasty_client(make_client):
    return make_client(read_timeout=0.2, deadline=0.3)


def assert_unavailable(client, bearer):
    started = time.monotonic()
    answer = client.get("/protected", headers=bearer("t"), status=503)
    assert time.monotonic() - started < FOREVER
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert answer.json["error"] == "temporarily_unavailable"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 404, 429, 500, 502, 503, 504])
def test_s11_any_other_status_is_503(client, upstream, answers, bearer, status):
    body = b"" if status == 204 else {"active": True, "scope": "read"}
    upstream.behaviour = answers.with_(status, body, Location="/elsewhere")
    assert_unavailable(client, bearer)
    assert {call.path for call in upstream.calls} == {"/oauth/introspect"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'"x"',
        b'{"active": true',
        b'{"active": NaN}',
        b"\xff",
        b"[" * 60000,
        b'{"active": false, "active": true, "scope": "read"}',
        b'{"active": true, "x": "' + b"a" * 70000 + b'"}',
    ],
)
def test_s11_nonsense_is_503(client, upstream, answers, bearer, body):
    upstream.behaviour = answers.with_(200, body)
    assert_unavailable(client, bearer)


def test_s11_silence_is_503(hasty_client, upstream, answers, bearer):
    upstream.behaviour = answers.hang(upstream)
    assert_unavailable(hasty_client, bearer)


@pytest.mark.parametrize(
    ("head", "each"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
    ],
)
def test_s11_a_dribbling_server_is_503_by_the_deadline(hasty_client, upstream, answers, bearer, head, each):
    upstream.behaviour = answers.dribble(upstream, head, each)
    assert_unavailable(hasty_client, bearer)


def test_s11_a_server_that_hangs_up_is_503(client, upstream, answers, bearer):
    upstream.behaviour = answers.hang_up()
    assert_unavailable(client, bearer)
    assert len(upstream.calls) == 2


def test_s11_refused_name_and_tls_are_503(make_client, upstream, refused_url, bearer):
    tls = upstream.url.replace("http:", "https:")
    for url in (refused_url, "http://nonexistent.invalid/introspect", tls):
        assert_unavailable(make_client(introspect_url=url), bearer)


@pytest.mark.parametrize(("status", "body"), [(401, b"{}"), (403, b""), (400, b'{"error": "invalid_client"}')])
def test_s11_our_own_credentials_refused_is_503_and_loud(client, upstream, answers, bearer, caplog, status, body):
    upstream.behaviour = answers.with_(status, body)
    assert_unavailable(client, bearer)
    assert [r.levelno for r in caplog.records if r.name == "resource_server.endpoint"] == [logging.CRITICAL]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_s11_one_retry_heals_a_hiccup(client, upstream, answers, bearer, status):
    upstream.knows("t")
    upstream.behaviours = [answers.with_(status)]
    client.get("/protected", headers=bearer("t"), status=200)
    assert len(upstream.calls) == 2


def test_s11_one_retry_heals_a_lost_connection(client, upstream, answers, bearer):
    upstream.knows("t")
    upstream.behaviours = [answers.hang_up()]
    client.get("/protected", headers=bearer("t"), status=200)


@pytest.mark.parametrize(
    ("sent", "told"),
    [("7", "7"), ("86400", "30"), ("0", "1"), ("-1", "1"), ("Wed, 21 Oct 2026 07:28:00 GMT", "1")],
)
def test_s11_retry_after_is_passed_on_within_bounds(client, upstream, answers, bearer, sent, told):
    upstream.behaviour = answers.with_(503, Retry_After=sent)
    assert assert_unavailable(client, bearer).headers["Retry-After"] == told
    assert len(upstream.calls) == 1


def test_s11_a_dead_server_is_left_alone(client, upstream, answers, bearer):
    upstream.behaviour = answers.with_(500)
    for _ in range(20):
        assert_unavailable(client, bearer)
    assert len(upstream.calls) <= 10


def test_the_breaker_lets_one_probe_through_per_cooldown():
    now = [0.0]
    breaker = Breaker(threshold=2, cooldown=10, clock=lambda: now[0])
    for _ in range(2):
        breaker.admit()
        breaker.failed()
    with pytest.raises(UnavailableError) as refused:
        breaker.admit()
    assert refused.value.retry_after == 10
    now[0] = 10
    breaker.admit()
    with pytest.raises(UnavailableError):
        breaker.admit()
    breaker.succeeded()
    breaker.admit()


def test_connections_are_kept_and_reused(upstream):
    endpoint = Endpoint(f"{upstream.url}/x", "id", "secret", http=Http())
    for _ in range(3):
        endpoint.post({"token": "t"})
    assert len({call.client for call in upstream.calls}) == 1
    endpoint.close()


def test_a_pause_that_does_not_fit_the_deadline_is_not_made(upstream, answers):
    upstream.behaviour, pauses = answers.with_(502), []
    endpoint = Endpoint(upstream.url, "id", "s", sleep=pauses.append, jitter=lambda: 60.0)
    with pytest.raises(UnavailableError):
        endpoint.post({})
    assert (len(upstream.calls), pauses) == (1, [])
    endpoint.close()
