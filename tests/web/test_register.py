"""Registration (RFC 7591) and its management (RFC 7592): statements C1 to C6."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import webtest

from authserver.app import create_app
from authserver.flows.server import Policy, make_server

REGISTER = "/clients/register"
RESOURCE = "https://b.example"
INITIAL = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
FULL = {
    "client_name": "Billing",
    "scope": "read write",
    "default_scope": "read",
    "audiences": [RESOURCE],
    "resource_identifiers": ["https://billing.example"],
    "grant_types": ["client_credentials"],
    "token_endpoint_auth_method": "client_secret_post",
}


def register(app: webtest.TestApp, document: dict[str, Any], status: int = 201) -> dict[str, Any]:
    answer: dict[str, Any] = app.post_json(REGISTER, document, headers=INITIAL, status=status).json
    return answer


def own(made: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['registration_access_token']}"}


def manage(made: dict[str, Any]) -> str:
    uri: str = made["registration_client_uri"]
    return uri.removeprefix("https://as.example")


def token_form(made: dict[str, Any]) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": made["client_id"],
        "client_secret": made["client_secret"],
    }


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, 'Bearer realm="authserver"'),
        ("Basic YTpi", 'Bearer realm="authserver"'),
        ("Bearer wrong", 'Bearer realm="authserver", error="invalid_token"'),
        ("Bearer ", 'Bearer realm="authserver", error="invalid_token"'),
        ("Bearer \u00e4", 'Bearer realm="authserver", error="invalid_token"'),
    ],
)
def test_c1_without_an_initial_access_token_401(
    app: webtest.TestApp, authorization: str | None, challenge: str
) -> None:
    headers = {"Authorization": authorization.encode().decode("latin-1")} if authorization else {}
    answer = app.post_json(REGISTER, {}, headers=headers, status=401)
    assert answer.headers["WWW-Authenticate"] == challenge
    assert answer.headers["Cache-Control"] == "no-store"


def test_c1_registration_is_closed_when_no_token_is_configured(database: Any) -> None:
    closed = webtest.TestApp(create_app(make_server(Policy("https://as.example"), database)))
    closed.post_json(REGISTER, {}, headers=INITIAL, status=401)
    closed.post_json(REGISTER, {}, headers={"Authorization": "Bearer "}, status=401)


def test_c2_the_answer_holds_all_that_was_registered(app: webtest.TestApp, clock: Any) -> None:
    made = register(app, FULL)
    assert {name: made[name] for name in FULL} == FULL
    assert made["client_secret_expires_at"] == 0
    assert abs(made["client_id_issued_at"] - clock.now) < 60
    assert made["registration_client_uri"] == f"https://as.example{REGISTER}/{made['client_id']}"
    assert made["registration_access_token"].startswith("asra_")
    answer = app.post("/oauth/token", token_form(made)).json
    assert answer["scope"] == "read"


def test_c3_unknown_metadata_and_redirect_uris_are_ignored(app: webtest.TestApp) -> None:
    made = register(app, {"redirect_uris": ["https://x.example/cb"], "x_colour": "blue", "client_id": "chosen"})
    assert "redirect_uris" not in made
    assert "x_colour" not in made
    assert made["client_id"] != "chosen"


@pytest.mark.parametrize(
    "document",
    [
        {"scope": 'a"b'},
        {"scope": ["read"]},
        {"scope": "read", "default_scope": "write"},
        {"grant_types": ["password"]},
        {"grant_types": "client_credentials"},
        {"token_endpoint_auth_method": "none"},
        {"token_endpoint_auth_method": {}},
        {"audiences": ["not a uri"]},
        {"audiences": ["https://b.example#fragment"]},
        {"audiences": [f"https://b.example/{n}" for n in range(17)]},
        {"resource_identifiers": [None]},
        {"jwks": {"keys": []}},
        {"jwks_uri": "https://keys.example/"},
        {"token_endpoint_auth_signing_alg": "ES256"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": None},
        {"client_name": ""},
        {"client_name": "x" * 201},
        {"client_name": "a\nb"},
        {"client_name": "a\u0000b"},
    ],
)
def test_c3_bad_metadata_is_refused(app: webtest.TestApp, document: dict[str, Any]) -> None:
    assert register(app, document, 400)["error"] == "invalid_client_metadata"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b'"x"', b"[" * 50_000, b'{"client_name": "\\ud800"}', b"\xff"]
)
def test_c3_a_body_that_is_no_json_object_is_refused(app: webtest.TestApp, body: bytes) -> None:
    answer = app.post(REGISTER, body, headers=INITIAL, content_type="application/json", status=400)
    assert answer.json["error"] == "invalid_client_metadata"


def test_c4_the_server_chooses_the_client_id(app: webtest.TestApp) -> None:
    document = {"client_name": "service-a", "client_id": "service-a"}
    first, second = register(app, document)["client_id"], register(app, document)["client_id"]
    assert first != second
    for client_id in (first, second):
        assert client_id.startswith("client-")
        assert len(client_id) == len("client-") + 32


def test_c5_get_reads_put_replaces_as_a_whole_delete_ends_all(app: webtest.TestApp, other_app: webtest.TestApp) -> None:
    made = register(app, FULL)
    read = app.get(manage(made), headers=own(made)).json
    assert read == {name: value for name, value in made.items() if name != "client_secret"}

    replaced = app.put_json(manage(made), {"client_id": made["client_id"], "scope": "admin"}, headers=own(made)).json
    assert replaced["scope"] == replaced["default_scope"] == "admin"
    assert replaced["audiences"] == replaced["resource_identifiers"] == []
    assert "client_name" not in replaced
    token = other_app.post("/oauth/token", token_form(made)).json
    assert token["scope"] == "admin"

    app.delete(manage(made), headers=own(made), status=204)
    for each in (app, other_app):
        each.post("/oauth/token", token_form(made), status=401)
        for method in (each.get, each.delete):
            assert method(manage(made), headers=own(made), status=401).json["error"] == "invalid_token"


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "another"},
        {"client_id": None},
        {"client_secret": "of-my-own-choice"},
        {"client_secret": 5},
        {"registration_access_token": "x"},
        {"client_id_issued_at": 1},
    ],
)
def test_c5_what_only_the_server_may_set_is_refused(app: webtest.TestApp, change: dict[str, Any]) -> None:
    made = register(app, FULL)
    document = {**FULL, "client_id": made["client_id"], **change}
    app.put_json(manage(made), document, headers=own(made), status=400)
    app.post("/oauth/token", token_form(made))


def test_c5_its_own_secret_may_be_sent_along(app: webtest.TestApp) -> None:
    made = register(app, FULL)
    document = {**FULL, "client_id": made["client_id"], "client_secret": made["client_secret"]}
    app.put_json(manage(made), document, headers=own(made))


def test_c5_a_registration_token_is_good_for_its_own_client_only(app: webtest.TestApp) -> None:
    mine, theirs = register(app, {}), register(app, {})
    for headers in (own(mine), INITIAL, {}):
        app.get(manage(theirs), headers=headers, status=401)
        app.put_json(manage(theirs), {"client_id": theirs["client_id"]}, headers=headers, status=401)
        app.delete(manage(theirs), headers=headers, status=401)
    app.get(f"{REGISTER}/nobody", headers=own(mine), status=401)
    app.post_json(REGISTER, {}, headers=own(mine), status=401)


def test_c6_permissions_cannot_be_registered(app: webtest.TestApp) -> None:
    assert register(app, {"permissions": ["introspect:any"]}, 400)["error"] == "invalid_client_metadata"
    made = register(app, {})
    document = {"client_id": made["client_id"], "permissions": ["introspect:any"]}
    app.put_json(manage(made), document, headers=own(made), status=400)


def test_c6_another_clients_resource_identifier_cannot_be_taken(app: webtest.TestApp, service_b: Any) -> None:
    claim = {"resource_identifiers": ["https://mine.example", RESOURCE]}
    assert register(app, claim, 400)["error"] == "invalid_client_metadata"
    made = register(app, {})
    app.put_json(manage(made), {"client_id": made["client_id"], **claim}, headers=own(made), status=400)
    # Its own it may keep.
    made = register(app, {"resource_identifiers": ["https://mine.example"]})
    document = {"client_id": made["client_id"], "resource_identifiers": ["https://mine.example"]}
    app.put_json(manage(made), document, headers=own(made))


def test_c6_of_two_that_claim_one_identifier_at_once_one_gets_it(app: webtest.TestApp) -> None:
    def claim(_number: int) -> int:
        answer = app.post_json(REGISTER, {"resource_identifiers": ["https://one.example"]}, headers=INITIAL, status="*")
        return int(answer.status_int)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(claim, range(6))) == [201] + [400] * 5


@pytest.fixture(scope="module")
def keys(make_signer: Any) -> dict[str, Any]:
    return {name: make_signer(name) for name in ("ES256", "EdDSA", "RS256")}


def keyed(*jwks: Any, **document: Any) -> dict[str, Any]:
    return {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": list(jwks)}, **document}


def test_c2_a_client_with_keys_gets_no_secret(app: webtest.TestApp, keys: Any) -> None:
    document = keyed(keys["ES256"].jwk(use="sig", x_own="x"), token_endpoint_auth_signing_alg="ES256", scope="read")
    made = register(app, document)
    assert {name: made[name] for name in document} == document
    assert "client_secret" not in made
    assert "client_secret_expires_at" not in made
    assert app.get(manage(made), headers=own(made)).json == made
    at_a_url = register(app, {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://keys.example/j"})
    assert at_a_url["jwks_uri"] == "https://keys.example/j"
    assert "client_secret" not in at_a_url


def test_c3_keys_are_public_strong_and_usable(app: webtest.TestApp, keys: Any) -> None:
    ec, okp, rsa = keys["ES256"], keys["EdDSA"], keys["RS256"]
    weak = ec.jwk()
    n = rsa.jwk()["n"]
    for bad in (
        {"jwks": []},
        {"jwks": "x"},
        {"jwks": {"keys": "x"}},
        {"jwks": {"keys": ["x"]}},
        {"jwks": {"keys": []}},
        keyed(ec.key.as_dict(private=True)),
        keyed(rsa.key.as_dict(private=True)),
        keyed(okp.key.as_dict(private=True)),
        keyed(ec.jwk(), {"kty": "oct", "k": "AAAA"}),
        keyed(ec.jwk(), rsa.jwk(kid="k2", d="AQAB")),
        keyed({"kty": "oct"}),
        keyed(weak | {"x": weak["y"]}),  # not on the curve
        keyed(weak | {"x": "AA"}),
        keyed(weak | {"crv": "P-384"}),
        keyed(weak | {"crv": "secp256k1"}),
        keyed(weak | {"crv": ["P-256"]}),
        keyed(weak | {"x": 1}),
        keyed(weak | {"kty": {}}),
        keyed(okp.jwk() | {"crv": "X25519"}),
        keyed(okp.jwk() | {"x": "AA"}),
        keyed(rsa.jwk() | {"n": n[: len(n) // 2]}),  # 1024 bits
        keyed(rsa.jwk() | {"n": n * 5}),  # 10240 bits
        keyed(rsa.jwk() | {"e": "AQ"}),  # 1
        keyed(rsa.jwk() | {"e": "Aw"}),  # 3
        keyed(rsa.jwk() | {"e": n}),
        keyed(rsa.jwk() | {"n": "\u00e9"}),
        keyed(ec.jwk(use="enc")),
        keyed(ec.jwk(key_ops=["sign"])),
        keyed(ec.jwk(alg="ES384")),
        keyed(ec.jwk(kid=1)),
        keyed(ec.jwk(), okp.jwk()),  # one kid, two keys
        keyed(*(ec.jwk(kid=str(each)) for each in range(33))),
        keyed(ec.jwk(x_own="x" * 65536)),
        keyed(ec.jwk(x_own="\0")),
        keyed(ec.jwk(), jwks_uri="https://keys.example/"),
        keyed(ec.jwk(), token_endpoint_auth_signing_alg="RS256"),
        keyed(ec.jwk(), token_endpoint_auth_signing_alg="none"),
        keyed(ec.jwk(), token_endpoint_auth_signing_alg="HS256"),
        keyed(ec.jwk(), token_endpoint_auth_signing_alg=["ES256"]),
        keyed(ec.jwk(), token_endpoint_auth_method="client_secret_jwt"),
    ):
        document = {"token_endpoint_auth_method": "private_key_jwt", **bad}
        if len(json.dumps(document)) < 65536:
            assert register(app, document, 400)["error"] == "invalid_client_metadata", bad
        else:
            app.post_json(REGISTER, document, headers=INITIAL, status=413)


def test_c3_keys_for_other_purposes_are_passed_over(app: webtest.TestApp, keys: Any) -> None:
    ec = keys["ES256"]
    register(app, keyed(ec.jwk(), ec.jwk(kid="e", use="enc"), {"kty": "AKP"}, {"kty": "EC", "crv": "P-521"}))


def test_c5_from_a_secret_to_keys_and_back(app: webtest.TestApp, other_app: webtest.TestApp, keys: Any) -> None:
    made = register(app, {"scope": "read"})
    other_app.post("/oauth/token", token_form(made))
    update = {"client_id": made["client_id"], "scope": "read"}
    answer = app.put_json(manage(made), update | keyed(keys["ES256"].jwk()), headers=own(made)).json
    assert "client_secret" not in answer
    assert "client_secret_expires_at" not in answer
    other_app.post("/oauth/token", token_form(made), status=401)

    answer = app.put_json(manage(made), update, headers=own(made)).json
    assert answer["client_secret_expires_at"] == 0
    assert "jwks" not in answer
    other_app.post("/oauth/token", token_form(made), status=401)
    other_app.post("/oauth/token", token_form(made | {"client_secret": answer["client_secret"]}))
    # Only then: a secret that an operator withdrew does not come back.
    assert "client_secret" not in app.put_json(manage(made), update, headers=own(made)).json


def test_c6_what_others_get_tokens_for_cannot_be_claimed_by_registration(app, make_client):
    other = "https://other.example"
    caller = make_client(scopes=["read"], audiences=[other])
    token = caller.token(app)
    mine = register(app, {"resource_identifiers": ["https://mine.example"]})
    own = {"Authorization": f"Bearer {mine['registration_access_token']}"}
    uri = f"/clients/register/{mine['client_id']}"
    claim = {"client_id": mine["client_id"], "resource_identifiers": ["https://mine.example", other]}
    assert app.put_json(uri, claim, headers=own, status=400).json["error"] == "invalid_client_metadata"
    assert register(app, {"resource_identifiers": [other]}, 400)["error"] == "invalid_client_metadata"
    form = {"client_id": mine["client_id"], "client_secret": mine["client_secret"], "token": token}
    assert app.post("/oauth/introspect", form).json == {"active": False}
    # What is one's own stays one's own, also when others get tokens for it; and an operator may say otherwise.
    make_client(scopes=["read"], audiences=["https://mine.example"])
    app.put_json(uri, claim | {"resource_identifiers": ["https://mine.example"]}, headers=own, status=200)
    assert make_client(resource_identifiers=[other]).introspect(app, token)["active"]
