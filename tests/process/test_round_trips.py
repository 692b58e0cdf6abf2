"""A hot request costs one round trip to PostgreSQL: counted on the wire, not in the driver."""

from __future__ import annotations

import time

import pytest
import webtest

from authserver.app import create_app
from authserver.flows.register import create_client
from authserver.flows.server import Policy, make_server
from authserver.oauth.public_keys import RegisteredKeys
from authserver.oauth.registration import ClientMetadata
from authserver.oauth.trusted_issuer import TrustedIssuer
from authserver.store.database import Database
from authserver.store.trusted_issuers import Binding

CLIENT = "service-a"


@pytest.fixture
def served(wire, policy: Policy, server):
    """The front door on a database that is reached through the counter, and a client's form."""
    database = Database(wire.conninfo)
    made = create_client(server, CLIENT, ClientMetadata(scopes=("read",), default_scopes=("read",)))
    app = webtest.TestApp(create_app(make_server(policy, database)))
    yield app, {"client_id": CLIENT, "client_secret": made.secret}
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
def test_a_wrong_secret_costs_one_round_trip_and_one_to_count_it(count, path):
    wrong = {"client_secret": "wrong", "grant_type": "client_credentials", "token": "x"}
    assert count(path, 401, lambda: wrong) == 2


def test_an_unknown_client_costs_no_more(count):
    wrong = {"client_id": "nobody", "client_secret": "wrong", "grant_type": "client_credentials"}
    assert count("/oauth/token", 401, lambda: wrong) == 2


JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
def count_assertions(wire, policy: Policy, server, make_signer):
    """Like `count`, for a client that is proved by what `make_assertion(signer, number)` gives."""
    database = Database(wire.conninfo)
    signer = make_signer()
    metadata = ClientMetadata(
        token_endpoint_auth_method="private_key_jwt", jwks=signer.jwks(), scopes=("read",), default_scopes=("read",)
    )
    create_client(server, "keyed", metadata, with_secret=False)
    issuer = TrustedIssuer(0, "prod", "https://cluster.example", policy.issuer, RegisteredKeys(signer.jwks()))
    server.trusted_issuers.add(issuer)
    server.trusted_issuers.bind(Binding("prod", "system:serviceaccount:shop:a", "keyed"))
    app = webtest.TestApp(create_app(make_server(policy, database)))

    def count(path: str, issuer: str, subject: str) -> int:
        claims = {"iss": issuer, "sub": subject, "aud": policy.issuer, "exp": int(time.time()) + 60}
        form = {"grant_type": "client_credentials", "token": "x", "client_assertion_type": JWT_BEARER}
        before = 0
        for number in range(4):
            before = wire.round_trips
            app.post(path, form | {"client_assertion": signer.sign(claims | {"jti": str(number)})}, status=200)
        return wire.round_trips - before

    yield count
    database.close()


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke"])
def test_an_assertion_costs_one_round_trip_more(count_assertions, path):
    assert count_assertions(path, "keyed", "keyed") == 2


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke"])
def test_a_token_of_a_workload_costs_one_round_trip(count_assertions, path):
    assert count_assertions(path, "https://cluster.example", "system:serviceaccount:shop:a") == 1
