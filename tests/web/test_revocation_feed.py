"""GET /oauth/revocations: what followers are told, and when they must start anew."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode

import psycopg
import pytest

from authserver.flows.rotate import revoke_key, rotate
from authserver.oauth.key_encryption import read_key_encryption
from authserver.oauth.revocation_feed import MAX_LIMIT
from authserver.store.revocations import RETENTION, SKEW

RESOURCE = "https://b.example"
FEED = "/oauth/revocations"


@pytest.fixture
def policy(policy):
    """The server signs JWTs."""
    return type(policy)(issuer=policy.issuer, key_encryption=read_key_encryption(secrets.token_urlsafe(32)))


@pytest.fixture
def follower(make_client):
    return make_client("follower", grant_types=[], permissions=["revocations:read"])


@pytest.fixture
def ask(app, follower, basic):
    """Ask the feed as the follower."""
    headers = basic(follower.client_id, follower.secret)
    return lambda status=200, **query: app.get(FEED, query, headers=headers, status=status).json


@pytest.fixture
def follow(ask):
    """All events after a cursor, page by page, and the cursor to go on from."""

    def follow(cursor: str, limit: int = 1000) -> tuple[list[dict], str]:
        events = []
        while True:
            page = ask(cursor=cursor, limit=limit)
            events += page["events"]
            cursor = page["cursor"]
            if not page["more"]:
                return events, cursor

    return follow


def short_hash(token: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


def test_a_follower_starts_now_and_is_told_what_is_revoked_afterwards(app, ask, follow, service_a, make_client, server):
    rotate(server, lambda _line: None)
    jwt_client = make_client(scopes=["read"], audiences=[RESOURCE], access_token_format="jwt")
    before = service_a.token(app)
    service_a.revoke(app, before)
    start = ask()
    assert start["events"] == []
    assert start["more"] is False
    assert start["poll_after"] == 1
    for client in (service_a, jwt_client):
        token = client.token(app)
        client.revoke(app, token)
        client.revoke(app, token)
        events, cursor = follow(start["cursor"])
        exp = events[-1].pop("exp")
        assert events[-1] == {"type": "token", "hash": short_hash(token)}
        assert client.introspect(app, client.token(app))["exp"] == exp
    assert len(events) == 2
    assert follow(cursor)[0] == []


def test_a_client_that_is_deleted_or_loses_its_tokens_is_an_event(app, ask, follow, service_a, server, clock):
    cursor = ask()["cursor"]
    server.clients.revoke_tokens("service-a")
    server.clients.delete("service-a")
    events, _ = follow(cursor)
    assert [(e["type"], e["client_id"]) for e in events] == [("client", "service-a")] * 2
    assert clock() < events[0]["issued_before"] < events[1]["issued_before"] <= clock() + 10
    assert all(e["exp"] >= e["issued_before"] + 86400 for e in events)


def test_a_revoked_key_is_an_event(app, ask, follow, server):
    key = rotate(server, lambda _line: None)
    cursor = ask()["cursor"]
    revoke_key(server, key.kid, lambda _line: None)
    events, _ = follow(cursor)
    assert [(e["type"], e["kid"]) for e in events] == [("key", key.kid)]
    assert events[0]["exp"] >= server.now() + 86400


def test_another_clients_token_unknown_and_expired_ones_are_no_events(app, ask, follow, service_a, service_b, clock):
    token = service_a.token(app)
    cursor = ask()["cursor"]
    service_b.revoke(app, token)
    service_b.revoke(app, "unknown")
    clock.advance(3600)
    service_a.revoke(app, token)
    assert follow(cursor)[0] == []


def test_from_the_beginning_all_that_is_remembered_is_told_in_pages(app, follow, service_a, clock):
    tokens = [service_a.token(app) for _ in range(7)]
    for token in tokens:
        service_a.revoke(app, token)
    for limit in (1, 3, 7, 1000):
        events, _ = follow("0", limit)
        assert [e["hash"] for e in events] == [short_hash(token) for token in tokens]
    clock.advance(3600 + SKEW)
    assert follow("0")[0] == []


def test_what_commits_between_the_pages_is_told_in_the_next_poll(ask, follow, app, service_a):
    tokens = [service_a.token(app) for _ in range(4)]
    cursor = ask()["cursor"]
    for token in tokens[:3]:
        service_a.revoke(app, token)
    page = ask(cursor=cursor, limit=2)
    assert page["more"] is True
    service_a.revoke(app, tokens[3])
    rest, cursor = follow(page["cursor"], 2)
    later, _ = follow(cursor)
    seen = {e["hash"] for e in page["events"] + rest + later}
    assert seen == {short_hash(token) for token in tokens}


def test_one_poll_is_one_round_trip(ask, asked):
    cursor = ask()["cursor"]
    assert asked(lambda: ask(cursor=cursor)) == 1


def test_what_is_rolled_back_is_never_told_and_what_commits_late_is_not_missed(ask, follow, database_url):
    insert = "INSERT INTO revocations (expires_at, short_hash) VALUES (4000000000, %s)"
    late, never, early = (secrets.token_bytes(23) for _ in range(3))
    with (
        psycopg.connect(database_url) as first,
        psycopg.connect(database_url) as second,
        psycopg.connect(database_url) as third,
    ):
        cursor = ask()["cursor"]
        first.execute(insert, [late])
        second.execute(insert, [never])
        third.execute(insert, [early])
        third.commit()
        second.rollback()
        events, cursor = follow(cursor)
        assert len(events) == 1
        first.commit()
        events, cursor = follow(cursor)
        assert len(events) == 1
        events, cursor = follow(cursor)
        assert events == []


def test_after_a_restore_or_a_failover_the_cursor_is_gone(ask, database_url):
    cursor = ask()["cursor"]
    epoch, seen = cursor.split(".")
    assert ask(status=410, cursor=f"{epoch}.{10**9}:{10**9}:")["error"] == "cursor_gone"
    assert ask(status=410, cursor=f"00000000-1.{seen}")["error"] == "cursor_gone"
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE revocation_feed SET epoch = gen_random_uuid()")
    assert ask(status=410, cursor=cursor)["error"] == "cursor_gone"
    assert ask(cursor=ask()["cursor"])["events"] == []


def test_a_cursor_that_is_older_than_what_is_remembered_is_gone(ask, server, clock):
    cursor = ask()["cursor"]
    clock.advance(1)
    server.clients.revoke_tokens("follower")
    server.revocations.note_mark(server.now())
    clock.advance(RETENTION)
    assert ask(cursor=cursor)["more"] is False
    clock.advance(1)
    assert ask(status=410, cursor=cursor)["error"] == "cursor_gone"
    assert ask(cursor=ask()["cursor"])["events"] == []
    server.revocations.note_mark(server.now())


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "-1",
        "1",
        "e.1:2",
        "e.2:1:",
        "e.0:0:",
        "e.1:9:3,2",
        "e.1:9:9",
        "e.1:9:2,2",
        "e.1:1:.2:2:",
        "e..",
        "é",
        "a" * 99,
    ],
)
def test_a_malformed_cursor_is_refused(ask, cursor):
    assert ask(status=400, cursor=cursor)["error"] == "invalid_request"


LATE = 10**18 - 1


@pytest.mark.parametrize("seen", [f"{LATE}:{LATE}:", f"1:{LATE}:", f"2:2:.2:2:.{LATE}.{LATE}"])
def test_a_cursor_beyond_all_numbers_is_gone_or_empty_but_no_failure(ask, seen):
    answer = ask(status="*", cursor=f"{ask()['epoch']}.{seen}")
    assert answer.get("error") == "cursor_gone" or answer["events"] == []


@pytest.mark.parametrize("limit", ["0", "-1", "x", str(MAX_LIMIT + 1), "9999999"])
def test_a_limit_out_of_bounds_is_refused(ask, limit):
    assert ask(status=400, limit=limit)["error"] == "invalid_request"


def test_the_feed_is_for_those_with_the_permission(app, service_b, follower, basic):
    headers = basic(service_b.client_id, service_b.secret)
    assert app.get(FEED, headers=headers, status=403).json["error"] == "unauthorized_client"
    assert app.get(FEED, headers=basic("follower", "wrong"), status=401).json["error"] == "invalid_client"
    assert app.get(FEED, status=401).headers["WWW-Authenticate"].startswith("Basic ")
    assert app.get(FEED, follower.form, status=401).json["error"] == "invalid_client"
    assert app.post(FEED, follower.form).json["events"] == []
    answer = app.get(FEED, headers=basic(follower.client_id, follower.secret))
    assert answer.headers["Cache-Control"] == "no-store"
    assert app.put(FEED, status=405).headers["Allow"] == "GET, POST"


def test_no_registration_gives_itself_the_permission(app):
    headers = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
    answer = app.post_json("/clients/register", {"permissions": ["revocations:read"]}, headers=headers, status="4*")
    assert answer.status_int in (400, 401)


def test_without_the_database_the_feed_is_unavailable(app_without_database, basic):
    answer = app_without_database.get(FEED, headers=basic("follower", "x"), status=503)
    assert answer.headers["Retry-After"]
