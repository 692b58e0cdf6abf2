"""Introspection answers as JWTs (RFC 9701)."""

from __future__ import annotations

import secrets

import jwt
import pytest

from authserver.flows.rotate import rotate
from authserver.oauth.key_encryption import read_key_encryption

ISSUER = "https://as.example"
SIGNED = "application/token-introspection+jwt"


@pytest.fixture
def policy(policy, request):
    """The server signs, unless the test says otherwise."""
    if getattr(request, "param", None) == "no keys":
        return policy
    return type(policy)(issuer=ISSUER, key_encryption=read_key_encryption(secrets.token_urlsafe(32)))


@pytest.fixture
def ask(app, service_a, service_b, server):
    """Introspect a token of service-a as service-b, with an Accept header."""
    if server.policy.signs:
        rotate(server, lambda _line: None)
    token = service_a.token(app)

    def post(accept: str, token: str = token):
        return app.post("/oauth/introspect", {"token": token, **service_b.form}, headers={"Accept": accept})

    return post


def opened(app, answer):
    keys = jwt.PyJWKSet.from_dict(app.get("/.well-known/jwks.json").json)
    header = jwt.get_unverified_header(answer.text)
    assert header["typ"] == "token-introspection+jwt"
    claims = jwt.decode(answer.text, keys[header["kid"]], algorithms=["ES256"], audience="service-b", issuer=ISSUER)
    assert isinstance(claims["iat"], int)
    return claims["token_introspection"]


@pytest.mark.parametrize("accept", [SIGNED, f"{SIGNED}, application/json;q=0.5", f"application/json;q=0.9, {SIGNED}"])
def test_i8_who_asks_gets_a_signed_answer(app, ask, accept):
    answer = ask(accept)
    assert answer.content_type == SIGNED
    assert answer.headers["Cache-Control"] == "no-store"
    plain = ask("application/json").json
    assert plain["active"] is True
    assert opened(app, answer) == plain


def test_i8_an_inactive_token_is_signed_too_and_says_nothing_more(app, ask):
    assert opened(app, ask(SIGNED, "unknown")) == {"active": False}


@pytest.mark.parametrize("accept", ["*/*", "application/json", f"{SIGNED};q=0.1, application/json", "application/*"])
def test_i8_who_does_not_ask_gets_json(ask, accept):
    assert ask(accept).json["active"] is True


@pytest.mark.parametrize("policy", ["no keys"], indirect=True)
def test_i8_a_server_without_keys_answers_json_and_advertises_nothing(app, ask):
    assert ask(SIGNED).json["active"] is True
    metadata = app.get("/.well-known/oauth-authorization-server").json
    assert not [name for name in metadata if name in ("introspection_signing_alg_values_supported", "jwks_uri")]


def test_i8_refusals_stay_json(app, service_b):
    wrong = {"client_id": "service-b", "client_secret": "wrong", "token": "x"}
    assert (
        app.post("/oauth/introspect", wrong, headers={"Accept": SIGNED}, status=401).json["error"] == "invalid_client"
    )
