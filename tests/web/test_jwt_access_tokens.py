"""JWT access tokens (RFC 9068): issued, introspected and revoked as opaque ones are, without a row of their own."""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import jwt
import psycopg
import pytest
import webtest
from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry

from authserver.app import create_app
from authserver.flows.rotate import revoke_key, rotate
from authserver.flows.server import make_server
from authserver.oauth.key_encryption import KeyEncryption, read_key_encryption
from authserver.oauth.signing_keys import KEEP_AFTER_SIGNING, PUBLISH_AHEAD

ISSUER = "https://as.example"
RESOURCE = "https://b.example"
INACTIVE = {"active": False}
JWKS = "/.well-known/jwks.json"


@pytest.fixture
def key_encryption() -> KeyEncryption:
    return read_key_encryption(secrets.token_urlsafe(32))


@pytest.fixture
def policy(policy, key_encryption, request):
    """The server signs JWTs."""
    algorithm = getattr(request, "param", "ES256")
    return type(policy)(
        issuer=policy.issuer,
        initial_access_token_hash=policy.initial_access_token_hash,
        key_encryption=key_encryption,
        signing_algorithm=algorithm,
    )


@pytest.fixture
def first_key(server):
    return rotate(server, lambda _line: None)


@pytest.fixture
def service_a(first_key, make_client):
    return make_client(
        "service-a", scopes=["read", "write"], default_scopes=["read"], audiences=[RESOURCE], access_token_format="jwt"
    )


def decoded(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def encoded(value: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("policy", ["ES256", "EdDSA", "RS256"], indirect=True)
def test_a_jwt_says_what_rfc_9068_asks_and_verifies_by_the_published_keys(app, service_a, server, policy, clock):
    value = service_a.token(app)
    header, claims = map(decoded, value.split(".")[:2])
    assert header == {"alg": policy.signing_algorithm, "typ": "at+jwt", "kid": server.key_ring.current().keys[0].kid}
    now = int(clock())
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "sub": "service-a",
        "client_id": "service-a",
        "aud": [RESOURCE],
        "iat": now,
        "exp": now + 3600,
        "scope": "read",
    }
    published = jwt.PyJWKSet.from_dict(app.get(JWKS).json)
    key = published[header["kid"]]
    jwt.decode(value, key, algorithms=[policy.signing_algorithm], audience=RESOURCE, issuer=ISSUER)


def test_no_row_is_stored_for_a_jwt(app, service_a, stored_tokens):
    service_a.token(app)
    assert stored_tokens() == 0


def test_a_jwt_costs_one_round_trip_at_each_endpoint(app, service_a, asked):
    token, kept = service_a.token(app), service_a.token(app)
    service_a.introspect(app, token)
    assert asked(lambda: service_a.token(app)) == 1
    assert asked(lambda: service_a.introspect(app, kept)) == 1
    assert asked(lambda: service_a.revoke(app, token)) == 1
    assert asked(lambda: service_a.introspect(app, token)) == 1


def test_a_jwt_is_introspected_by_the_rules_of_audience(app, other_app, service_a, service_b, make_client):
    token = service_a.token(app)
    stranger, gateway = make_client(), make_client(permissions=["introspect:any"])
    for caller in (service_a, service_b, gateway):
        answer = caller.introspect(other_app, token)
        assert answer["active"] is True
        assert answer["jti"] == decoded(token.split(".")[1])["jti"]
        assert (answer["client_id"], answer["scope"], answer["aud"]) == ("service-a", "read", [RESOURCE])
    assert stranger.introspect(app, token) == INACTIVE


def test_a_revoked_jwt_is_inactive_everywhere_and_no_other_is(app, other_app, service_a, service_b):
    token, kept = service_a.token(app), service_a.token(app)
    assert service_b.introspect(other_app, token)["active"]
    assert service_a.revoke(app, token).json == {}
    assert service_a.revoke(other_app, token).json == {}
    assert service_b.introspect(app, token) == service_b.introspect(other_app, token) == INACTIVE
    assert service_b.introspect(other_app, kept)["active"]


def test_another_clients_jwt_is_not_revoked(app, service_a, service_b):
    token = service_a.token(app)
    assert service_b.revoke(app, token).json == {}
    assert service_a.introspect(app, token)["active"]


@pytest.mark.parametrize("token_format", ["jwt", "opaque"])
def test_all_tokens_of_a_client_issued_before_now_are_revoked_and_new_ones_are_not(
    app, other_app, server, first_key, make_client, service_b, token_format
):
    client = make_client(scopes=["read"], audiences=[RESOURCE], access_token_format=token_format)
    token = client.token(app)
    assert service_b.introspect(other_app, token)["active"]
    server.clients.revoke_tokens(client.client_id)
    assert service_b.introspect(other_app, token) == service_b.introspect(app, token) == INACTIVE
    again = client.token(other_app)
    assert service_b.introspect(app, again)["active"]
    server.clients.revoke_tokens(client.client_id)
    assert service_b.introspect(app, again) == INACTIVE


@pytest.mark.parametrize("token_format", ["jwt", "opaque"])
def test_tokens_of_a_deleted_client_do_not_come_back_with_a_namesake(
    app, server, first_key, make_client, service_b, token_format
):
    registered = {"scopes": ["read"], "audiences": [RESOURCE], "access_token_format": token_format}
    token = make_client("phoenix", **registered).token(app)
    assert service_b.introspect(app, token)["active"]
    server.clients.delete("phoenix")
    assert service_b.introspect(app, token) == INACTIVE
    reborn = make_client("phoenix", **registered)
    assert service_b.introspect(app, token) == INACTIVE
    assert service_b.introspect(app, reborn.token(app))["active"]


def test_a_client_deleted_by_hand_in_sql_takes_its_tokens_along(app, service_a, service_b, database_url):
    token = service_a.token(app)
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM clients WHERE client_id = 'service-a'")
    assert service_b.introspect(app, token) == INACTIVE


def test_an_expired_jwt_is_inactive(app, service_a, service_b, clock):
    token = service_a.token(app)
    clock.advance(3599)
    assert service_b.introspect(app, token)["active"]
    clock.advance(1)
    assert service_b.introspect(app, token) == INACTIVE


def test_forged_jwts_are_inactive(app, service_a, service_b, first_key):
    token = service_a.token(app)
    header, claims, signature = token.split(".")
    more = decoded(claims) | {"scope": "read write admin"}
    own = ECKey.generate_key("P-256")
    published = JWKRegistry.import_key(app.get(JWKS).json["keys"][0])
    confused = f"{encoded(decoded(header) | {'alg': 'HS256'})}.{encoded(more)}"
    mac = urlsafe_b64encode(hmac.digest(published.as_pem(private=False), confused.encode(), "sha256"))
    signed = jws.serialize_compact

    def by(key: Any, alg: str, **members: Any) -> str:
        made: str = signed(decoded(header) | {"alg": alg} | members, json.dumps(more), key, algorithms=[alg])
        return made

    forgeries = {
        "other claims": f"{header}.{encoded(more)}.{signature}",
        "no signature": f"{header}.{encoded(more)}.",
        "alg none": f"{encoded({'alg': 'none', 'typ': 'at+jwt', 'kid': first_key.kid})}.{encoded(more)}.",
        "another key under the same kid": by(own, "ES256"),
        "key in the header": by(own, "ES256", jwk=own.as_dict(private=False)),
        "the public key as a shared secret": f"{confused}.{mac.rstrip(b'=').decode()}",
        "unknown kid": by(own, "ES256", kid="nobody"),
        "kid that is no string": f"{encoded({'alg': 'ES256', 'typ': 'at+jwt', 'kid': [1]})}.{claims}.{signature}",
        "another typ": f"{encoded(decoded(header) | {'typ': 'JWT'})}.{claims}.{signature}",
        "no kid": f"{encoded({'alg': 'ES256', 'typ': 'at+jwt'})}.{claims}.{signature}",
        "header that is no object": f"{encoded([])}.{claims}.{signature}",  # type: ignore[arg-type]
        "header that is no JSON": f"eyJ.{claims}.{signature}",
        "three dots' worth of nothing": "..",
        "not ASCII": f"{header}.{claims}é.{signature}",
    }
    for name, forgery in forgeries.items():
        assert service_b.introspect(app, forgery) == INACTIVE, name
        assert service_a.revoke(app, forgery).json == {}, name
    assert service_b.introspect(app, token)["active"]


def test_a_jwt_of_another_issuer_with_the_same_keys_is_inactive(
    app, database, policy, key_encryption, service_a, service_b
):
    other = type(policy)(issuer="https://staging.example", key_encryption=key_encryption)
    staging = webtest.TestApp(create_app(make_server(other, database)))
    token = service_a.token(staging)
    assert service_b.introspect(staging, token)["active"]
    assert service_b.introspect(app, token) == INACTIVE


def test_without_an_audience_there_is_no_jwt(app, first_key, register):
    headers = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
    document = {"scope": "read", "access_token_format": "jwt"}
    answer = app.post_json("/clients/register", document, headers=headers, status=400)
    assert answer.json["error"] == "invalid_client_metadata"


def test_a_registration_may_choose_the_format(app, first_key, register):
    made = register(scope="read", audiences=[RESOURCE], access_token_format="jwt")
    assert made["access_token_format"] == "jwt"
    form = {"grant_type": "client_credentials", **{k: made[k] for k in ("client_id", "client_secret")}}
    assert app.post("/oauth/token", form).json["access_token"].count(".") == 2
    assert register(scope="read")["access_token_format"] == "opaque"


@pytest.mark.parametrize("value", ["JWT", "", 1, ["jwt"]])
def test_another_format_is_refused(app, value):
    headers = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
    document = {"scope": "read", "audiences": [RESOURCE], "access_token_format": value}
    assert app.post_json("/clients/register", document, headers=headers, status=400).json["error"] == (
        "invalid_client_metadata"
    )


# Keys


def test_a_new_key_is_published_before_it_signs_and_the_old_one_until_its_last_token_has_expired(
    app, other_app, server, first_key, service_a, service_b, clock
):
    def kids() -> list[str]:
        return [key["kid"] for key in other_app.get(JWKS).json["keys"]]

    def kid_of(token: str) -> str:
        return str(decoded(token.split(".", maxsplit=1)[0])["kid"])

    other_app.get(JWKS)
    old = service_a.token(other_app)
    second = rotate(server, lambda _line: None)
    assert set(kids()) == {first_key.kid, second.kid}
    clock.advance(PUBLISH_AHEAD - 1)
    assert kid_of(service_a.token(other_app)) == first_key.kid
    clock.advance(1)
    assert kid_of(service_a.token(other_app)) == second.kid
    assert service_b.introspect(other_app, old)["active"]
    clock.advance(KEEP_AFTER_SIGNING - 1)
    assert first_key.kid in kids()
    clock.advance(1)
    assert kids() == [second.kid]


def test_a_revoked_key_stops_all_its_tokens_at_once_and_another_signs(
    app, other_app, server, first_key, service_a, service_b
):
    old = service_a.token(other_app)
    assert service_b.introspect(other_app, old)["active"]
    substitute = revoke_key(server, first_key.kid, lambda _line: None)
    assert service_b.introspect(other_app, old) == INACTIVE
    assert [key["kid"] for key in other_app.get(JWKS).json["keys"]] == [substitute]
    new = service_a.token(other_app)
    assert decoded(new.split(".")[0])["kid"] == substitute
    assert service_b.introspect(app, new)["active"]


def test_a_key_revoked_by_hand_in_sql_is_revoked_everywhere(app, service_a, service_b, first_key, database_url):
    token = service_a.token(app)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE signing_keys SET revoked_at = 1")
    assert service_b.introspect(app, token) == INACTIVE
    answer = app.post("/oauth/token", service_a.form | {"grant_type": "client_credentials"}, status=503)
    assert answer.headers["Retry-After"]


def test_private_keys_are_encrypted_at_rest_and_never_published(app, first_key, database_url, key_encryption):
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT public_key, private_key, public_key::text FROM signing_keys").fetchone()
    assert row is not None
    d = json.loads(key_encryption.unseal(row[1]))["d"]
    assert d not in row[1] + row[2]
    assert d not in app.get(JWKS).text
    assert not {"d", "p", "q"} & set(app.get(JWKS).json["keys"][0])


def test_the_jwks_may_be_kept_for_a_while_and_asked_for_cheaply(app, first_key):
    answer = app.get(JWKS)
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.content_type == "application/jwk-set+json"
    assert app.get(JWKS, headers={"If-None-Match": answer.headers["ETag"]}, status=304).body == b""
    app.get(JWKS, headers={"If-None-Match": '"other"'}, status=200)


def test_the_metadata_names_the_jwks_where_there_is_one(app, policy):
    assert app.get("/.well-known/oauth-authorization-server").json["jwks_uri"] == ISSUER + JWKS


def test_until_there_is_a_key_jwts_are_unavailable_and_then_not(app, other_app, make_client, server):
    client = make_client(scopes=["read"], audiences=[RESOURCE], access_token_format="jwt")
    form = client.form | {"grant_type": "client_credentials"}
    assert app.post("/oauth/token", form, status=503).json["error"] == "temporarily_unavailable"
    rotate(server, lambda _line: None)
    assert app.post("/oauth/token", form).json["access_token"]
    assert other_app.post("/oauth/token", form).json["access_token"]
