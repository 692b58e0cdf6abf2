"""A hot request costs one round trip to PostgreSQL: counted on the wire, not in the driver."""

from __future__ import annotations

import pytest
import webtest

from authserver.app import create_app
from authserver.flows.register import create_client
from authserver.flows.server import Policy, make_server
from authserver.oauth.registration import ClientMetadata
from authserver.store.database import Database

CLIENT = "service-a"


@pytest.fixture
def served(wire, policy: Policy):
    """The front door on a database that is reached through the counter, and a client's form."""
    database = Database(wire.conninfo)
    server = make_server(policy, database)
    made = create_client(server, CLIENT, ClientMetadata(scopes=("read",), default_scopes=("read",)))
    yield webtest.TestApp(create_app(server)), {"client_id": CLIENT, "client_secret": made.secret}
    database.close()


@pytest.fixture
def count(served, wire):
    """Make a request three times, then count its fourth: statements are prepared by then, the client remembered."""
    app, form = served

    def count(path: str, expected: int, make_form) -> int:
        for _ in range(3):
            app.post(path, form | make_form(), status=expected)
        last = form | make_form()
        before = wire.round_trips
        app.post(path, last, status=expected)
        return wire.round_trips - before

    return count


@pytest.fixture
def new_token(served):
    app, form = served
    return lambda: app.post("/oauth/token", {"grant_type": "client_credentials", **form}).json["access_token"]


def test_a_token_costs_one_round_trip(count):
    assert count("/oauth/token", 200, lambda: {"grant_type": "client_credentials"}) == 1


def test_an_introspection_of_an_active_token_costs_one_round_trip(count, new_token):
    token = new_token()
    assert count("/oauth/introspect", 200, lambda: {"token": token}) == 1


def test_an_introspection_of_an_unknown_token_costs_one_round_trip(count, unknown_token):
    assert count("/oauth/introspect", 200, lambda: {"token": unknown_token()}) == 1


def test_an_introspection_of_a_malformed_token_costs_one_round_trip(count):
    assert count("/oauth/introspect", 200, lambda: {"token": "no token of ours"}) == 1


def test_a_revocation_costs_one_round_trip(count, new_token):
    assert count("/oauth/revoke", 200, lambda: {"token": new_token()}) == 1


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke"])
def test_a_wrong_secret_costs_one_round_trip(count, path):
    wrong = {"client_secret": "wrong", "grant_type": "client_credentials", "token": "x"}
    assert count(path, 401, lambda: wrong) == 1


def test_an_unknown_client_costs_one_round_trip(count):
    wrong = {"client_id": "nobody", "client_secret": "wrong", "grant_type": "client_credentials"}
    assert count("/oauth/token", 401, lambda: wrong) == 1
