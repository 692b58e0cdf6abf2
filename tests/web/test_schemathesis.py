"""Requests that nobody thought of, made from the API description: none makes the server fail or lie about itself.

The description is the test's own data here: what it allows is sent, what it forbids is sent too, and every answer must
be one that it describes. Seeded, so that each run sends the same.
"""

from __future__ import annotations

import secrets
from typing import Any

import hypothesis
import pytest
import schemathesis
import webtest
from hypothesis import HealthCheck
from schemathesis.config import SchemathesisConfig

from authserver.app import create_app
from authserver.flows.rotate import rotate
from authserver.flows.server import Policy, make_server
from authserver.oauth.key_encryption import read_key_encryption
from authserver.web.openapi import read_description

INITIAL = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
CONFIG = {
    "seed": 6749,
    "generation": {"deterministic": True, "database": "none", "mode": "all"},
    # No case depends on what was answered before: that holds random numbers of the server's.
    "phases": {"fuzzing": {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}}},
    "checks": {
        # A refusal is right for what is well-formed but not this client's to ask, and unknown or odd parameters are
        # ignored where the RFCs say so: neither tells whether the server is right.
        "positive_data_acceptance": {"enabled": False},
        "negative_data_rejection": {"enabled": False},
    },
}
CREDENTIALS = ("client_id", "client_secret", "client_assertion", "client_assertion_type")
# One client and one database for all examples of an operation: none of them changes what another one may see.
SETTINGS = hypothesis.settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
api = schemathesis.openapi.from_dict(read_description(), config=SchemathesisConfig.from_dict(CONFIG))
api.config.update(base_url="https://as.example")


class FrontDoor:
    """What the cases are sent to: the library wants it before there is a test, and so a server."""

    app: Any

    def __call__(self, *arguments: Any) -> Any:
        return self.app(*arguments)


api.app = FrontDoor()


@pytest.fixture
def policy(policy):
    """The server signs JWTs, so that it has all endpoints."""
    return Policy(
        failures_per_minute=10**9,  # what the checks expect of wrong credentials is 401, however often
        issuer=policy.issuer,
        initial_access_token_hash=policy.initial_access_token_hash,
        key_encryption=read_key_encryption(secrets.token_urlsafe(32)),
    )


@pytest.fixture(autouse=True)
def front_door(server, policy, serving_database):
    rotate(server, lambda _line: None)
    api.app.app = create_app(make_server(policy, serving_database), api_docs=True)


@pytest.fixture
def client(make_client):
    return make_client(scopes=["read"], audiences=["https://b.example"], permissions=["revocations:read"])


@api.parametrize()
@SETTINGS
def test_nobody_makes_the_server_fail(case: schemathesis.Case) -> None:
    case.call_and_validate()


@api.parametrize()
@SETTINGS
def test_a_client_does_not_make_the_server_fail(case: schemathesis.Case, client: Any, basic: Any) -> None:
    """Likewise, past authentication."""
    if "{client_id}" in case.path:
        made = webtest.TestApp(api.app).post_json("/clients/register", {}, headers=INITIAL).json
        case.path_parameters["client_id"] = made["client_id"]
        if isinstance(case.body, dict) and "client_id" in case.body:
            case.body = {**case.body, "client_id": made["client_id"]}
        headers = {"Authorization": f"Bearer {made['registration_access_token']}"}
    elif case.path == "/clients/register":
        headers = INITIAL
    else:
        headers = basic(client.client_id, client.secret)
        if isinstance(case.body, dict):
            case.body = {name: value for name, value in case.body.items() if name not in CREDENTIALS}
    case.call_and_validate(headers=headers)
