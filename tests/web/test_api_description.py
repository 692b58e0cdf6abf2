"""The API description (OpenAPI 3.1): it describes what is served, and all of it, and answers are as it says.

Every answer that any test of the front door gets is held against it: see `Description` in conftest.py.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Any

import falcon.inspect
import pytest
import webtest
from openapi_spec_validator import validate

import authserver
from authserver.app import create_app
from authserver.flows.rotate import revoke_key, rotate
from authserver.flows.server import Policy, make_server
from authserver.oauth.key_encryption import read_key_encryption
from authserver.store.database import Database
from authserver.web.openapi import read_description

RESOURCE = "https://b.example"
INITIAL = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
GRANT = {"grant_type": "client_credentials"}
LARGE = {"x": "x" * 70_000}
FILE = "authserver/web/openapi.json"


@pytest.fixture
def description(new_description):
    """One that has seen no other test."""
    return new_description


@pytest.fixture
def policy(policy):
    """The server signs JWTs, so that it has all endpoints."""
    return Policy(
        issuer=policy.issuer,
        initial_access_token_hash=policy.initial_access_token_hash,
        key_encryption=read_key_encryption(secrets.token_urlsafe(32)),
    )


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method not in ("parameters", "servers")
    }


def served(app: falcon.App) -> set[tuple[str, str]]:
    """What the application has a responder for. `on_request` is how an endpoint refuses all other methods."""
    return {
        (method.method, route.path)
        for route in falcon.inspect.inspect_routes(app)
        for method in route.methods
        if not method.internal and method.function_name != "on_request"
    }


def test_it_is_valid(app):
    validate(read_description())
    validate(app.get("/openapi.json").json)


def test_every_route_is_described_and_every_described_route_is_there(server):
    routes, described = served(create_app(server, api_docs=True)), operations(read_description())
    assert routes - described == set(), f"add these operations to {FILE}, with every status and schema"
    assert described - routes == set(), f"take these operations out of {FILE}, or serve them"


def test_what_a_server_does_not_have_it_does_not_describe(database):
    server = make_server(Policy("https://as.example"), database)
    app = create_app(server)
    document = webtest.TestApp(app).get("/openapi.json").json
    assert "/.well-known/jwks.json" not in document["paths"]
    assert operations(document) == served(app)


def test_it_says_where_the_server_is(app, policy):
    document = app.get("/openapi.json").json
    assert document["servers"] == [{"url": policy.issuer}]
    assert document["info"]["version"] == authserver.__version__


def test_an_issuer_with_a_path_has_its_probes_and_metadata_at_the_root(database):
    app = create_app(make_server(Policy("https://as.example/tenant"), database))
    document = webtest.TestApp(app).get("/tenant/openapi.json").json
    assert document["servers"] == [{"url": "https://as.example/tenant"}]
    for path, item in document["paths"].items():
        (server,) = item.get("servers", document["servers"])
        prefix = server["url"].removeprefix("https://as.example")
        for method in item.keys() - {"servers", "parameters"}:
            assert (method.upper(), prefix + path) in served(app), path


@dataclass
class Tour:
    """A way through every operation to every answer there is, but for the server's own defects."""

    app: webtest.TestApp
    app_without_database: webtest.TestApp
    app_without_schema: webtest.TestApp
    app_without_patience: webtest.TestApp
    service_a: Any
    service_b: Any
    jwt: Any
    follower: Any

    def forms(self) -> None:
        form = self.service_a.form
        for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/revocations"):
            self.app.post(path, "a=%", status=400)
            self.app.post(path, {"token": "x"}, status=401)
            self.app.post(path, LARGE, status=413)
            self.app_without_database.post(path, {**form, **GRANT, "token": "x"}, status=503)
        for refused in ({"grant_type": "x"}, {**GRANT, "scope": "x"}, {**GRANT, "resource": "x:y"}):
            self.app.post("/oauth/token", {**form, **refused}, status=400)
        self.app.post("/oauth/token", {**self.service_b.form, **GRANT}, status=400)

    def tokens(self) -> None:
        for client in (self.service_a, self.jwt):
            token = client.token(self.app)
            assert self.service_b.introspect(self.app, token)["active"] is True
            signed = {"Accept": "application/token-introspection+jwt"}
            self.app.post("/oauth/introspect", {**self.service_b.form, "token": token}, headers=signed)
            client.revoke(self.app, token)
            assert self.service_b.introspect(self.app, token) == {"active": False}

    def feed(self) -> None:
        path, gone = "/oauth/revocations", "0-1.1:9:"
        self.app.get(path, status=401)
        self.app.authorization = self.service_a.basic
        self.app.get(path, status=403)
        self.app.authorization = self.app_without_database.authorization = self.follower.basic
        self.app.get(path)
        self.app.get(f"{path}?cursor=x", status=400)
        self.app.get(f"{path}?cursor={gone}", status=410)
        self.app_without_database.get(path, status=503)
        kinds = {event["type"] for event in self.app.get(f"{path}?cursor=0").json["events"]}
        assert kinds == {"client", "key", "token"}
        self.app.authorization = self.app_without_database.authorization = None
        self.app.post(path, self.follower.form)
        self.app.post(path, {**self.follower.form, "cursor": "x"}, status=400)
        self.app.post(path, self.service_a.form, status=403)
        self.app.post(path, {**self.follower.form, "cursor": gone}, status=410)

    def registration(self) -> None:
        path = "/clients/register"
        made = self.app.post_json(path, {"client_name": "x", "scope": "read"}, headers=INITIAL, status=201).json
        self.app.post_json(path, {"scope": 1}, headers=INITIAL, status=400)
        self.app.post_json(path, {}, status=401)
        self.app.post_json(path, LARGE, headers=INITIAL, status=413)
        self.app_without_schema.post_json(path, {}, headers=INITIAL, status=503)
        path += f"/{made['client_id']}"
        own = {"Authorization": f"Bearer {made['registration_access_token']}"}
        self.app.get(path, headers=own)
        self.app.put_json(path, {"client_id": made["client_id"]}, headers=own)
        self.app.put_json(path, {}, headers=own, status=400)
        self.app.put_json(path, LARGE, headers=own, status=413)
        for method in ("GET", "PUT", "DELETE"):
            self.app.request(path, method=method, status=401)
            self.app_without_database.request(path, method=method, headers=own, status=503)
        self.app.delete(path, headers=own, status=204)

    def throttling(self) -> None:
        app = self.app_without_patience
        for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/revocations"):
            for status in (401, 429):
                form = {"client_id": path, "client_secret": "wrong", "grant_type": "client_credentials", "token": "x"}
                app.post(path, form, status=status)
        app.authorization = ("Basic", ("someone", "wrong"))
        app.get("/oauth/revocations", status=401)
        app.get("/oauth/revocations", status=429)
        app.authorization = None
        wrong = {"Authorization": "Bearer wrong"}
        app.post_json("/clients/register", {}, headers=wrong, status=401)
        app.post_json("/clients/register", {}, headers=wrong, status=429)
        app.get("/clients/register/nobody", headers=wrong, status=401)
        for method in ("GET", "PUT", "DELETE"):
            app.request("/clients/register/nobody", method=method, headers=wrong, status=429)

    def budget(self) -> None:
        for status in (200, 429):
            self.app_without_patience.post("/oauth/token", {**self.service_a.form, **GRANT}, status=status)

    def discovery_and_probes(self) -> None:
        for well_known in ("oauth-authorization-server", "openid-configuration"):
            self.app.get(f"/.well-known/{well_known}")
        self.app.get("/openapi.json")
        self.app.get("/docs")
        tag = self.app.get("/.well-known/jwks.json").headers["ETag"]
        self.app.get("/.well-known/jwks.json", headers={"If-None-Match": tag}, status=304)
        self.app_without_database.get("/.well-known/jwks.json", status=503)
        self.app.get("/health")
        self.app.get("/ready")
        self.app_without_database.get("/ready", status=503)
        self.app_without_schema.get("/ready", status=503)


@pytest.fixture
def tour(
    app,
    app_without_database,
    server,
    policy,
    make_client,
    service_a,
    service_b,
    make_database,
    description,
    serving_database,
):
    revoke_key(server, rotate(server, lambda _line: None).kid, lambda _line: None)
    jwt = make_client(scopes=["read"], audiences=[RESOURCE], access_token_format="jwt")
    follower = make_client("follower", grant_types=[], permissions=["revocations:read"])
    server.clients.revoke_tokens(follower.client_id)
    empty = Database(make_database())
    app_without_schema = type(app)(make_server(policy, empty), description)
    impatient = replace(policy, failures_per_minute=1, tokens_per_minute=1)
    app_without_patience = type(app)(make_server(impatient, serving_database), description)
    app.app = create_app(make_server(policy, serving_database), api_docs=True)
    yield Tour(app, app_without_database, app_without_schema, app_without_patience, service_a, service_b, jwt, follower)
    empty.close()


def test_every_described_answer_can_be_had(description, tour):
    for part in (
        tour.forms,
        tour.tokens,
        tour.feed,
        tour.registration,
        tour.budget,
        tour.throttling,
        tour.discovery_and_probes,
    ):
        part()
    missing = description.described() - description.given
    missing = {answer for answer in missing if answer[2] != "500"}
    assert missing == set(), f"have the tour above get these answers, or take them out of {FILE}"


def test_a_defect_of_the_server_is_described_too(policy, database, description, app, service_a):
    def broken() -> float:
        raise RuntimeError

    defective = type(app)(make_server(policy, database, clock=broken), description)
    for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/revocations"):
        defective.post(path, service_a.form, status=500)


def test_an_answer_that_is_not_described_is_noticed(description, app, service_a):
    answer = app.post("/oauth/token", {**service_a.form, "grant_type": "client_credentials"})
    token = ("POST", "/oauth/token")
    without = [(name, value) for name, value in answer.headerlist if name.lower() != "cache-control"]
    cases: list[tuple[str, tuple[str, str], dict[str, Any]]] = [
        ("change the schema", token, {"app_iter": [b'{"access_token": "x"}']}),
        ("change the schema", token, {"app_iter": [answer.body.replace(b"{", b'{"new": 1, ', 1)]}),
        ("add 418", token, {"status": "418 Teapot"}),
        ("add POST /new", ("POST", "/new"), {}),
        ("add GET /oauth/token", ("GET", "/oauth/token"), {}),
        ("content 'text/plain'", token, {"headerlist": [("Content-Type", "text/plain")]}),
        ("add {'retry-after'}", token, {"headerlist": [*answer.headerlist, ("Retry-After", "1")]}),
        ("not in the answer: cache-control", token, {"headerlist": without}),
    ]
    for message, operation, changes in cases:
        other = answer.copy()
        for name, value in changes.items():
            setattr(other, name, value)
        with pytest.raises(AssertionError, match=re.escape(message)):
            description.check(*operation, other)
