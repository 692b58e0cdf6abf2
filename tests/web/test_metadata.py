"""Metadata (RFC 8414): statements M1 and M2."""

from __future__ import annotations

import time
from typing import Any

import pytest
import webtest

from authserver.app import create_app
from authserver.flows.server import Policy, make_server
from authserver.oauth.credentials import hash_credential

INITIAL = "initial-access-token-of-the-tests-0123456789"


@pytest.mark.parametrize("issuer", ["https://as.example", "http://127.0.0.1:8000", "https://as.example/tenant/1"])
@pytest.mark.parametrize("document", ["oauth-authorization-server", "openid-configuration"])
def test_m1_every_url_derives_from_the_issuer(database: Any, issuer: str, document: str) -> None:
    app = webtest.TestApp(create_app(make_server(Policy(issuer), database)))
    path = issuer.partition("://")[2].partition("/")[2]
    suffixes = ["", f"/{path}"] if path else [""]
    for suffix in suffixes:
        metadata = app.get(f"/.well-known/{document}{suffix}").json
        assert metadata["issuer"] == issuer
        urls = [value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))]
        assert urls
        assert all(url.startswith(f"{issuer}/") for url in urls)
    app.get(f"/.well-known/{document}/other", status=404)


def private_key(signer: Any) -> dict[str, Any]:
    return {"scopes": ["read"], "token_endpoint_auth_method": "private_key_jwt", "jwks": signer.jwks()}


@pytest.mark.parametrize("issuer", ["https://as.example", "https://as.example/tenant"])
def test_m2_what_is_advertised_works_and_what_works_is_advertised(
    database: Any, make_client: Any, make_signer: Any, issuer: str
) -> None:
    policy = Policy(issuer, initial_access_token_hash=hash_credential(INITIAL))
    app = webtest.TestApp(create_app(make_server(policy, database)))
    metadata = app.get("/.well-known/oauth-authorization-server").json
    client = make_client("c", scopes=["read"])

    def path(name: str) -> str:
        return str(metadata[name]).removeprefix("https://as.example")

    methods = {"client_secret_basic", "client_secret_post", "private_key_jwt"}
    for endpoint in ("token", "introspection", "revocation"):
        assert set(metadata[f"{endpoint}_endpoint_auth_methods_supported"]) == methods
        algorithms = metadata[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
        for algorithm in algorithms:
            signer = make_signer(algorithm)
            key_client = make_client(f"{endpoint}-{algorithm}", **private_key(signer))
            claims = {"iss": key_client.client_id, "sub": key_client.client_id, "aud": issuer, "jti": "1"}
            assertion = {
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": signer.sign(claims | {"exp": int(time.time()) + 60}),
            }
            app.post(path(f"{endpoint}_endpoint"), {"grant_type": "client_credentials", "token": "x", **assertion})
    assert metadata["grant_types_supported"] == ["client_credentials"]
    token = app.post(path("token_endpoint"), {"grant_type": "client_credentials", **client.form}).json["access_token"]
    assert app.post(path("introspection_endpoint"), {"token": token, **client.form}).json["active"] is True
    app.post(path("revocation_endpoint"), {"token": token, **client.form})
    assert app.post(path("introspection_endpoint"), {"token": token, **client.form}).json == {"active": False}
    made = app.post_json(
        path("registration_endpoint"), {}, headers={"Authorization": f"Bearer {INITIAL}"}, status=201
    ).json
    own = {"Authorization": f"Bearer {made['registration_access_token']}"}
    app.get(made["registration_client_uri"].removeprefix("https://as.example"), headers=own)
    known = {"token", "introspection", "revocation", "registration"}
    assert {name.removesuffix("_endpoint") for name in metadata if name.endswith("_endpoint")} == known
