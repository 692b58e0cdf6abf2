"""T26: a client that asks for tokens all the time is told to keep them; one that keeps them costs nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

BUDGET = 60
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def policy(policy):
    return replace(policy, tokens_per_minute=BUDGET)


@pytest.fixture(autouse=True)
def start_of_a_minute(clock):
    clock.now -= clock.now % 60


@pytest.fixture
def spend(app, service_a):
    """Get tokens until there are no more; give how many there were, and the answer then."""

    def post(party=service_a, most=1000):
        for issued in range(most):
            answer = app.post("/oauth/token", party.form | GRANT, status="*")
            if answer.status_int != 200:
                return issued, answer
        return most, None

    return post


def test_t26_a_client_that_has_spent_its_budget_is_told_to_wait(app, service_a, service_b, spend, clock):
    clock.advance(20)
    issued, answer = spend()
    assert issued == BUDGET
    assert answer.status_int == 429
    assert answer.headers["Retry-After"] == "40"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {
        "error": "temporarily_unavailable",
        "error_description": "Too many access tokens were requested. Use each one until it expires.",
    }
    # It may still ask about tokens and give them back.
    app.post("/oauth/introspect", service_a.form | {"token": "x"})
    app.post("/oauth/revoke", service_a.form | {"token": "x"})
    clock.advance(40)
    assert spend()[0] == BUDGET


def test_t26_nothing_is_written_for_a_client_that_keeps_its_tokens(app, service_a, asked, database):
    service_a.token(app)
    assert asked(lambda: service_a.token(app)) == 1
    assert database.fetch_all("SELECT * FROM issued_tokens") == []


def test_t26_a_refusal_reads_and_writes_nothing(app, service_a, spend, asked, database):
    spend()
    before = database.fetch_all("SELECT * FROM issued_tokens")
    assert asked(lambda: app.post("/oauth/token", service_a.form | GRANT, status=429)) == 1
    assert database.fetch_all("SELECT * FROM issued_tokens") == before


def test_t26_only_who_has_authenticated_learns_of_it(app, service_a, spend, server):
    spend()
    app.post("/oauth/token", service_a.form | GRANT | {"client_secret": "wrong"}, status=401)
    server.clients.remove_secret("service-a", "first")
    app.post("/oauth/token", service_a.form | GRANT, status=401)


def test_t26_another_client_has_a_budget_of_its_own(app, make_client, service_a, spend):
    spend()
    assert spend(make_client("busy", scopes=["read"], tokens_per_minute=70))[0] == 70
    assert spend(make_client("free", scopes=["read"], tokens_per_minute=0), most=200) == (200, None)


def test_t26_what_is_not_issued_is_not_counted(app, service_a, spend):
    for _ in range(BUDGET + 5):
        app.post("/oauth/token", service_a.form | GRANT | {"scope": "other"}, status=400)
    assert spend()[0] == BUDGET


def test_t26_tokens_that_cannot_be_counted_are_issued(app, service_a, spend, database):
    with database.transaction() as connection:
        connection.execute("ALTER TABLE issued_tokens RENAME TO away")
    try:
        assert spend()[0] == BUDGET  # this process by itself
    finally:
        with database.transaction() as connection:
            connection.execute("ALTER TABLE away RENAME TO issued_tokens")


def test_t26_maintenance_forgets(server, clock):
    minute = server.now() // 60
    server.issued_tokens.add(1, minute, 3)
    server.issued_tokens.forget(minute)
    assert server.issued_tokens.add(1, minute, 0) == 3
    server.issued_tokens.forget(minute + 1)
    assert server.issued_tokens.add(1, minute, 0) == 0


def test_t26_a_request_that_took_long_does_not_count_the_minute_before_against_this_one(
    app, other_app, service_a, spend, clock
):
    clock.advance(30)
    while other_app.post("/oauth/token", service_a.form | GRANT, status="*").status_int == 200:
        pass
    clock.advance(30)
    service_a.token(app)
    clock.advance(-1)
    service_a.token(app)
    clock.advance(1)
    assert spend()[0] == BUDGET - 2
