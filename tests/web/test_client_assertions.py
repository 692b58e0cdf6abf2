"""Clients that prove themselves with keys of their own (RFC 7523 §2.2): statements A1 to A6, T8 and T13."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import threading
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest

from authserver.flows.register import replace_keys
from authserver.flows.server import make_server
from authserver.oauth.registration import ClientMetadata
from authserver.store.assertion_jtis import WINDOW
from authserver.store.database import Database

ISSUER = "https://as.example"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRANT = {"grant_type": "client_credentials"}
ANY = GRANT | {"token": "unknown"}
ENDPOINTS = ("/oauth/token", "/oauth/introspect", "/oauth/revoke")
every_endpoint = pytest.mark.parametrize("path", ENDPOINTS)
_numbers = itertools.count()


class Holder:
    """A client that holds a key."""

    def __init__(self, client_id, signer, clock):
        self.client_id, self.signer, self.clock = client_id, signer, clock

    def claims(self, **changes):
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": ISSUER,
            "exp": int(self.clock()) + 60,
            "iat": int(self.clock()),
            "jti": f"jti-{next(_numbers)}",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not ...}

    def assertion(self, *, header=None, signer=None, **changes):
        return (signer or self.signer).sign(self.claims(**changes), **(header or {}))

    def form(self, assertion=None, **more):
        assertion = self.assertion() if assertion is None else assertion
        return ANY | {"client_assertion_type": JWT_BEARER, "client_assertion": assertion} | more


@pytest.fixture
def app(policy, serving_database, clock, from_everywhere):
    return from_everywhere(make_server(policy, serving_database, clock=clock))


@pytest.fixture(scope="module")
def keys(make_signer):
    """One key of each kind."""
    return {name: make_signer(name) for name in ("ES256", "EdDSA", "RS256", "PS256")}


@pytest.fixture
def make_holder(register, clock):
    def make(signer, **document):
        document = {"scope": "read", "token_endpoint_auth_method": "private_key_jwt", "jwks": signer.jwks()} | document
        return Holder(register(**document)["client_id"], signer, clock)

    return make


@pytest.fixture
def holder(make_holder, keys):
    """A client with an ES256 key."""
    return make_holder(keys["ES256"])


@pytest.fixture
def refused(app, holder, seen, caplog, stored_tokens, basic):
    """Every endpoint refuses an assertion in the one way, and the log says why."""
    caplog.set_level("INFO")
    expected = seen(app.post("/oauth/token", ANY, headers=basic("nobody", "wrong"), status=401))

    def check(make, reason, **more):
        for path in ENDPOINTS:
            caplog.clear()
            answer = app.post(path, holder.form(make(), **more), status=401)
            assert seen(answer) == expected
            assert reason in caplog.text
        assert stored_tokens() == 0

    return check


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256", "PS256"])
@every_endpoint
def test_a1_a_client_with_a_key_is_authenticated_everywhere(app, make_holder, keys, path, algorithm):
    holder = make_holder(keys[algorithm])
    app.post(path, holder.form(), status=200)
    app.post(path, holder.form(client_id=holder.client_id), status=200)


def test_a1_a_token_is_issued_introspected_and_revoked(app, holder):
    token = app.post("/oauth/token", holder.form()).json["access_token"]
    assert app.post("/oauth/introspect", holder.form(token=token)).json["client_id"] == holder.client_id
    app.post("/oauth/revoke", holder.form(token=token))
    assert app.post("/oauth/introspect", holder.form(token=token)).json == {"active": False}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": ...}, "iss is missing"),
        ({"sub": ...}, "sub is missing"),
        ({"aud": ...}, "aud is not"),
        ({"exp": ...}, "exp is missing"),
        ({"exp": None}, "exp is not a time"),
        ({"iss": "somebody-else"}, "bound to no client"),
        ({"sub": "somebody-else"}, "bound to no client"),
        ({"iss": "nobody", "sub": "nobody"}, "unknown client"),
        ({"iss": ["x"]}, "iss is missing or malformed"),
        ({"sub": {"x": 1}}, "sub is missing or malformed"),
        ({"sub": 1}, "sub is missing or malformed"),
        ({"iss": "a\0", "sub": "a\0"}, "malformed"),
        ({"iss": "\ud800", "sub": "\ud800"}, "malformed"),
        ({"iss": "", "sub": ""}, "malformed"),
        ({"iss": "x" * 513, "sub": "x" * 513}, "malformed"),
    ],
)
def test_a1_the_claims_are_required_and_name_the_client(refused, holder, changes, reason):
    refused(lambda: holder.assertion(**changes), reason)


def test_a1_the_client_id_in_the_body_must_match(refused, holder):
    refused(holder.assertion, "client_id is not the assertion's sub", client_id="service-a")


def test_a1_an_assertion_for_another_client_is_refused(refused, holder, make_holder, keys):
    other = make_holder(keys["EdDSA"])
    # Signed by its own key, naming the other; and the other way round.
    refused(lambda: holder.assertion(iss=other.client_id, sub=other.client_id), "no key")
    refused(lambda: holder.assertion(signer=other.signer), "no key")


@pytest.mark.parametrize(
    "aud",
    [
        f"{ISSUER}/oauth/token",
        f"{ISSUER}/",
        "https://AS.example",
        "https://other.example",
        "",
        [],
        [ISSUER],
        [ISSUER, "https://other.example"],
        {"aud": ISSUER},
        1,
        True,
    ],
)
def test_a2_the_audience_is_the_issuer_and_nothing_else(refused, holder, aud):
    refused(lambda: holder.assertion(aud=aud), "aud is not this server's issuer")


@pytest.mark.parametrize(
    ("claim", "offset", "reason"),
    [
        ("exp", -30, "expired"),
        ("exp", -86400, "expired"),
        ("exp", 331, "more than 300 s ahead"),
        ("exp", 10**9, "more than 300 s ahead"),
        ("nbf", 31, "nbf is ahead"),
        ("iat", 31, "iat is ahead"),
    ],
)
def test_a3_what_is_out_of_its_time_is_refused(refused, holder, clock, claim, offset, reason):
    refused(lambda: holder.assertion(**{claim: int(clock()) + offset}), reason)


@pytest.mark.parametrize(("claim", "offset"), [("exp", -29), ("exp", 330), ("nbf", 30), ("iat", 30), ("iat", -86400)])
def test_a3_clocks_may_disagree_a_little(app, holder, clock, claim, offset):
    app.post("/oauth/token", holder.form(holder.assertion(**{claim: int(clock()) + offset})), status=200)
    app.post("/oauth/token", holder.form(holder.assertion(**{claim: int(clock()) + offset + 0.0})), status=200)


@pytest.mark.parametrize("value", ["1800000000", True, [1], {}, -1, 2**53, 10**400, "x"])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_a3_a_time_is_a_number(refused, holder, claim, value):
    refused(lambda: holder.assertion(**{claim: value}), f"{claim} is not a time")


def segment(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def resigned(assertion, sign, **header):
    """The claims of an assertion under another header and signature."""
    signed = f"{segment(json.dumps(header).encode())}.{assertion.split('.')[1]}"
    return f"{signed}.{segment(sign(signed.encode()))}"


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
@pytest.mark.parametrize("secret", ["pem", "der", "modulus", "jwk", "empty"])
def test_a4_a_public_key_is_no_hmac_secret(refused, make_holder, keys, algorithm, secret):
    holder = make_holder(keys["RS256"])
    key = keys["RS256"].key
    secrets = {
        "pem": key.as_pem(private=False),
        "der": key.as_der(private=False),
        "modulus": key.as_dict(private=False)["n"].encode(),
        "jwk": json.dumps(keys["RS256"].jwk()).encode(),
        "empty": b"",
    }

    def sign(signed):
        return hmac.new(secrets[secret], signed, "sha512" if algorithm == "HS512" else "sha256").digest()

    refused(lambda: resigned(holder.assertion(), sign, alg=algorithm, kid="k1"), "alg is not one")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, "ES", "ES384", "HS256", "RS1", "dir"])
def test_a4_alg_none_and_unknown_ones_are_refused(refused, holder, algorithm):
    for signature in (b"", b"x", bytes(64)):
        refused(lambda: resigned(holder.assertion(), lambda _: signature, alg=algorithm, kid="k1"), "")


def test_a4_a_token_without_signature_is_refused(refused, holder):
    refused(lambda: holder.assertion().rpartition(".")[0] + ".", "malformed assertion")
    refused(lambda: holder.assertion().rpartition(".")[0], "malformed assertion: not three segments")


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256", "PS256"])
def test_a4_a_key_is_not_used_with_another_algorithm(refused, holder, keys, algorithm):
    # The signature is right for the attacker's key; and it says that of the client's.
    refused(lambda: holder.assertion(signer=keys[algorithm]), "no key for the assertion's kid and alg")
    refused(lambda: holder.assertion(header={"alg": algorithm}), "no key for the assertion's kid and alg")


def test_a4_an_algorithm_that_the_client_did_not_register_is_refused(app, refused, make_holder, keys):
    holder = make_holder(keys["RS256"], token_endpoint_auth_signing_alg="RS256")
    app.post("/oauth/introspect", holder.form(), status=200)
    app.post("/oauth/introspect", make_holder(keys["RS256"]).form(), status=200)

    def pss():
        other = type(keys["RS256"]).__new__(type(keys["RS256"]))
        other.__dict__ = keys["RS256"].__dict__ | {"algorithm": "PS256"}
        return holder.assertion(signer=other)

    refused(pss, "alg is not one that the client may use")
    # "ES256" holds "ES": a comparison, not a search.
    refused(lambda: holder.assertion(header={"alg": "RS"}), "alg is not one that the client may use")


def test_a4_a_key_of_one_algorithm_is_not_used_with_its_sibling(refused, make_holder, keys):
    holder = make_holder(keys["RS256"], jwks={"keys": [keys["RS256"].jwk(alg="PS256")]})
    refused(holder.assertion, "no key for the assertion's kid and alg")


def test_a4_a_bad_signature_is_refused(refused, holder, make_signer):
    refused(lambda: holder.assertion(signer=make_signer("ES256")), "signature is wrong")

    def tampered():
        head, _, signature = holder.assertion().split(".")
        return f"{head}.{segment(json.dumps(holder.claims()).encode())}.{signature}"

    refused(tampered, "signature is wrong")
    for length in (0, 1, 63, 65, 128):
        refused(lambda: resigned(holder.assertion(), lambda _: bytes(length), alg="ES256", kid="k1"), "")
    refused(lambda: resigned(holder.assertion(), lambda _: bytes(64), alg="ES256", kid="k1"), "signature is wrong")


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
def test_a4_a_key_that_the_header_brings_along_is_not_used(app, refused, holder, make_signer, site, member):
    attacker = make_signer("ES256")
    site.pages["/keys"] = attacker.jwks()
    value = {"jwk": attacker.jwk(), "x5c": [segment(attacker.key.as_der(private=False))]}.get(
        member, f"{site.url}/keys"
    )
    refused(lambda: holder.assertion(signer=attacker, header={member: value}), "signature is wrong")
    assert site.asked == []
    # Ignored, not forbidden: beside the right signature it does no harm.
    app.post("/oauth/introspect", holder.form(holder.assertion(header={member: value})), status=200)


@pytest.mark.parametrize("kid", ["k2", "K1", "", "k1 ", "../k1", "' OR 1=1", "x" * 512])
def test_a4_an_unknown_kid_is_refused(refused, holder, kid):
    refused(lambda: holder.assertion(header={"kid": kid}), "no key for the assertion's kid and alg")


@pytest.mark.parametrize("kid", [1, ["k1"], {"k1": 1}, True, "x" * 513])
def test_a4_a_malformed_kid_is_refused(refused, holder, kid):
    refused(lambda: holder.assertion(header={"kid": kid}), "header member kid is malformed")


def test_a4_without_kid_the_only_key_for_the_algorithm_is_meant(app, refused, make_holder, make_signer, keys):
    first, second = keys["ES256"], make_signer("ES256", kid="k2")
    alone = make_holder(first, jwks={"keys": [first.jwk(), keys["EdDSA"].jwk(kid="k3")]})
    app.post("/oauth/introspect", alone.form(alone.assertion(header={"kid": None})), status=200)
    both = make_holder(first, jwks={"keys": [first.jwk(), second.jwk()]})
    refused(lambda: both.assertion(header={"kid": None}), "no key for the assertion's kid and alg")
    for signer in (first, second):
        app.post("/oauth/introspect", both.form(both.assertion(signer=signer)), status=200)
    refused(lambda: both.assertion(signer=first, header={"kid": "k2"}), "signature is wrong")


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False}])
def test_a4_a_critical_extension_is_refused(refused, holder, header):
    refused(lambda: holder.assertion(header=header), "critical extension")


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "dpop+jwt", "token-introspection+jwt", ""])
def test_a4_another_kind_of_jwt_is_refused(app, refused, holder, typ):
    if typ:
        refused(lambda: holder.assertion(header={"typ": typ}), "typ is that of another kind")
    for good in ("JWT", "jwt", "client-authentication+jwt", "application/jwt", None):
        app.post("/oauth/introspect", holder.form(holder.assertion(header={"typ": good})), status=200)


DUPLICATES = [
    b'{"iss": "c", "sub": "c", "sub": "d"}',
    b'{"iss": "c", "sub": "c", "x": {"a": 1, "a": 1}}',
    b'{"iss": "c", "sub": "c", "s\\u0075b": "d"}',
]


@pytest.mark.parametrize("payload", DUPLICATES)
def test_a4_duplicate_members_are_refused(refused, holder, payload):
    refused(lambda: holder.signer.sign(None, payload=payload), "duplicate member")


def test_a4_duplicate_members_of_the_header_are_refused(refused, holder):
    def twice():
        header = segment(b'{"alg": "ES256", "alg": "none"}')
        return f"{header}.{holder.assertion().partition('.')[2]}"

    refused(twice, "duplicate member")


@pytest.mark.parametrize("payload", [b"[]", b"1", b"", b"{", b"\xff", b'{"exp": NaN}', b"[" * 5000, b"9" * 5000])
def test_a4_a_payload_that_is_no_json_object_is_refused(refused, holder, payload):
    refused(lambda: holder.signer.sign(None, payload=payload), "malformed assertion")


@pytest.mark.parametrize(
    "text",
    ["e30.e30", "x", ".", "..", "...", "e30.e30.e3=", "e30.e30.e31", "e30.e30.e3 0", "\u00e9.e30.e30", "x" * 9000],
)
def test_a4_what_is_no_jws_is_refused(refused, text):
    refused(lambda: text, "malformed assertion")


@pytest.mark.parametrize("jti", [..., None, "", 1, ["x"], "x" * 513])
def test_a5_a_jti_is_required(refused, holder, jti):
    refused(lambda: holder.assertion(jti=jti), "jti is missing or malformed")


@every_endpoint
def test_a5_a_replay_is_refused(app, other_app, holder, path, caplog):
    caplog.set_level("INFO")
    form = holder.form()
    app.post(path, form, status=200)
    for each in (app, other_app):
        assert each.post(path, form, status=401).json["error"] == "invalid_client"
    assert "the assertion was used before" in caplog.text


def test_a5_an_assertion_used_at_one_endpoint_is_used_at_all(app, holder):
    for first, *others in itertools.permutations(ENDPOINTS):
        form = holder.form()
        app.post(first, form, status=200)
        for path in others:
            app.post(path, form, status=401)


def test_a5_a_jti_does_not_come_back_with_another_expiry(app, holder, clock):
    # Also across the edge of the windows in which used assertions are kept.
    clock.now += WINDOW - clock.now % WINDOW - 30 - 100
    for offset in (60, 61, 59, 101, 330, -29):
        form = holder.form(holder.assertion(jti="the same", exp=int(clock()) + offset))
        app.post("/oauth/token", form, status=200 if offset == 60 else 401)


def test_a5_a_jti_is_the_clients_own(app, make_holder, keys):
    for holder in (make_holder(keys["ES256"]), make_holder(keys["ES256"])):
        app.post("/oauth/token", holder.form(holder.assertion(jti="the same")), status=200)
    # Whatever the id and the jti are made of.
    app.post("/oauth/token", holder.form(holder.assertion(jti="\ud800\0")), status=200)


def test_a5_a_jti_is_forgotten_when_its_assertion_has_expired(app, holder, clock):
    form = holder.form(holder.assertion(jti="the same"))
    app.post("/oauth/token", form, status=200)
    clock.advance(2 * WINDOW)
    app.post("/oauth/token", form, status=401)
    app.post("/oauth/token", holder.form(holder.assertion(jti="the same")), status=200)


def test_a5_of_those_that_arrive_at_once_one_is_accepted(policy, serving_url, holder, clock, from_everywhere):
    """Eight processes, as far as the database can tell: caches and connections of their own."""
    databases = [Database(serving_url) for _ in range(8)]
    apps = [from_everywhere(make_server(policy, database, clock=clock)) for database in databases]
    barrier = threading.Barrier(len(apps))

    def post(app, form):
        barrier.wait(30)
        return app.post("/oauth/token", form, expect_errors=True).status_int

    with ThreadPoolExecutor(len(apps)) as pool:
        for _ in range(20):
            form = holder.form()
            statuses = sorted(pool.map(post, apps, itertools.repeat(form)))
            assert statuses == [200] + [401] * 7
    for database in databases:
        database.close()


def test_a5_a_wrong_signature_does_not_use_a_jti_up(app, holder, make_signer):
    claims = holder.claims()
    app.post("/oauth/token", holder.form(make_signer("ES256").sign(claims)), status=401)
    app.post("/oauth/token", holder.form(holder.signer.sign(claims)), status=200)


def test_a5_a_refused_request_uses_the_assertion_up(app, holder):
    form = holder.form(scope="beyond")
    assert app.post("/oauth/token", form, status=400).json["error"] == "invalid_scope"
    app.post("/oauth/token", form | {"scope": "read"}, status=401)


def test_a5_a_client_that_changes_meanwhile_does_not_lose_its_assertion(app, other_app, holder, database):
    for each in (app, other_app):
        each.post("/oauth/token", holder.form(), status=200)
        database.fetch_all("UPDATE clients SET client_name = 'new' RETURNING 1")
    other_app.post("/oauth/token", holder.form(), status=200)


def test_a6_every_failure_is_the_one_401(app, holder, basic, seen):
    expected = seen(app.post("/oauth/token", ANY, headers=basic("nobody", "wrong"), status=401))
    good = holder.assertion()
    for form in (
        ANY | {"client_assertion": good},
        ANY | {"client_assertion": good, "client_assertion_type": "jwt-bearer"},
        ANY
        | {
            "client_assertion": good,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        },
        ANY | {"client_assertion": good, "client_assertion_type": JWT_BEARER.upper()},
        ANY | {"client_assertion_type": JWT_BEARER},
        ANY | {"client_assertion_type": JWT_BEARER, "client_id": holder.client_id},
        holder.form(f"{good} "),
        holder.form(good, client_id="x"),
    ):
        for path in ENDPOINTS:
            assert seen(app.post(path, form, status=401)) == expected
    app.post("/oauth/token", holder.form(good), status=200)


@every_endpoint
def test_t8_an_assertion_beside_another_method_is_refused_even_if_both_are_right(
    app, holder, service_a, basic, stored_tokens, path
):
    good = {"client_assertion_type": JWT_BEARER, "client_assertion": holder.assertion()}
    headers = basic(service_a.client_id, service_a.secret)
    for body, more in (
        (ANY | good, headers),
        (ANY | good | service_a.form, {}),
        (ANY | good | {"client_secret": service_a.secret}, {}),
        (ANY | {"client_assertion_type": JWT_BEARER}, headers),
        (ANY | {"client_assertion": good["client_assertion"]} | service_a.form, {}),
        (ANY | good, {"Authorization": "Bearer x"}),
    ):
        assert app.post(path, body, headers=more, status=400).json["error"] == "invalid_request"
    assert stored_tokens() == 0
    app.post(path, ANY | good, status=200)


def test_t13_a_client_with_a_secret_cannot_use_an_assertion(app, refused, service_a, keys, clock, database):
    holder = Holder(service_a.client_id, keys["ES256"], clock)
    refused(holder.assertion, "the client is registered for client_secret_basic")
    # Not even if it has a key by some mistake; nor by an assertion made with its secret (client_secret_jwt).
    database.fetch_all(
        "UPDATE clients SET jwks = %(jwks)s::jsonb RETURNING 1", {"jwks": json.dumps(keys["ES256"].jwks())}
    )
    refused(holder.assertion, "the client is registered for client_secret_basic")

    def sign(signed):
        return hmac.new(service_a.secret.encode(), signed, hashlib.sha256).digest()

    refused(lambda: resigned(holder.assertion(), sign, alg="HS256"), "the client is registered for client_secret_basic")


@every_endpoint
def test_t13_a_client_with_keys_cannot_use_a_secret(app, holder, server, database, seen, basic, path):
    wrong = seen(app.post(path, ANY, headers=basic(holder.client_id, "wrong"), status=401))
    database.fetch_all(
        "INSERT INTO client_secrets (client, label, secret_hash)"
        " SELECT id, 'x', sha256('secret') FROM clients WHERE client_id = %(client_id)s RETURNING 1",
        {"client_id": holder.client_id},
    )
    assert seen(app.post(path, ANY, headers=basic(holder.client_id, "secret"), status=401)) == wrong
    form = {"client_id": holder.client_id, "client_secret": "secret"}
    assert seen(app.post(path, ANY | form, status=401)) == wrong


@every_endpoint
def test_keys_that_were_replaced_stop_at_once_in_a_process_that_remembers_them(
    app, other_app, holder, server, make_signer, path
):
    new = make_signer("ES256")
    for each in (app, other_app):
        each.post(path, holder.form(), status=200)
    replace_keys(
        server, holder.client_id, ClientMetadata(token_endpoint_auth_method="private_key_jwt", jwks=new.jwks())
    )
    for each in (app, other_app):
        each.post(path, holder.form(), status=401)
        each.post(path, holder.form(holder.assertion(signer=new)), status=200)
    server.clients.delete(holder.client_id)
    for each in (app, other_app):
        each.post(path, holder.form(holder.assertion(signer=new)), status=401)


def test_an_assertion_costs_one_round_trip_more_than_a_secret(app, holder, asked):
    app.post("/oauth/token", holder.form(), status=200)
    assert asked(lambda: app.post("/oauth/token", holder.form(), status=200)) == 2


def test_without_the_database_nothing_is_decided(app_without_database, keys, clock):
    holder = Holder("c", keys["ES256"], clock)
    app_without_database.post("/oauth/token", holder.form(), status=503)


def test_no_assertion_is_logged(app, holder, caplog):
    caplog.set_level("DEBUG")
    forms = [holder.form(), holder.form(holder.assertion(aud="x")), holder.form(holder.assertion(header={"kid": "x"}))]
    for form in forms:
        for path in ENDPOINTS:
            app.post(path, form, expect_errors=True)
    for form in forms:
        assert not any(part in caplog.text for part in form["client_assertion"].split("."))
