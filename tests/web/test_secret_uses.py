"""When a secret was last used: noted once an hour, by whichever process comes first, and at no request's expense."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from authserver.flows.register import add_secret
from authserver.flows.secret_uses import INTERVAL


@pytest.fixture
def last_used(server) -> Callable[[], int | None]:
    """When the one secret of service A was last used, as it is stored."""

    def load() -> int | None:
        client = server.clients.load("service-a")
        assert client is not None
        return client.secrets[0].last_used_at

    return load


@pytest.fixture
def operator(database_url) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_a_use_is_noted_and_then_for_an_hour_no_other(app, service_a, last_used, clock, asked):
    assert last_used() is None
    service_a.token(app)
    first = last_used()
    assert first == int(clock())
    clock.advance(INTERVAL - 1)
    assert asked(lambda: service_a.token(app)) == 1
    assert last_used() == first
    clock.advance(1)
    assert asked(lambda: service_a.token(app)) == 2
    assert last_used() == first + INTERVAL


def test_another_process_does_not_note_it_again(app, other_app, service_a, last_used, clock, asked):
    service_a.token(app)
    clock.advance(INTERVAL // 2)
    # It loads the client, whose row says when.
    service_a.token(other_app)
    assert asked(lambda: service_a.token(other_app)) == 1
    assert last_used() == int(clock()) - INTERVAL // 2


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/revoke"])
def test_every_endpoint_is_a_use(app, service_a, last_used, path):
    app.post(path, service_a.form | {"token": "x"})
    assert last_used() is not None


def test_a_wrong_secret_is_no_use(app, service_a, last_used):
    wrong = service_a.form | {"client_secret": "wrong", "token": "x"}
    app.post("/oauth/introspect", wrong, status=401)
    assert last_used() is None


def test_of_several_secrets_the_one_that_was_presented(app, server, service_a):
    second = add_secret(server, "service-a", "next", None)
    app.post("/oauth/introspect", service_a.form | {"client_secret": second, "token": "x"})
    client = server.clients.load("service-a")
    assert [secret.last_used_at is not None for secret in client.secrets] == [False, True]


def test_a_use_that_cannot_be_noted_fails_no_request(app, service_a, last_used, operator):
    operator.execute("REVOKE UPDATE (last_used_at) ON client_secrets FROM authserver_app")
    try:
        service_a.token(app)
        assert last_used() is None
    finally:
        operator.execute("GRANT UPDATE (last_used_at) ON client_secrets TO authserver_app")
    service_a.token(app)


def test_no_request_waits_for_another_that_notes(app, service_a, last_used, operator):
    with operator.transaction():
        operator.execute("SELECT FROM client_secrets FOR UPDATE")
        service_a.token(app)
        assert last_used() is None


def test_noting_a_use_disturbs_no_cache(app, other_app, service_a, clock, asked):
    for each in (app, other_app):
        service_a.token(each)
    clock.advance(INTERVAL)
    service_a.token(app)
    assert asked(lambda: service_a.token(app)) == 1
