"""S15: JWT access tokens, checked locally: what passes, and each way to get in without being entitled."""

import hmac
import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import InvalidTokenError
from resource_server.jwk import ALGORITHMS, NotJwkSetError, verifying_keys
from resource_server.jwks import Jwks
from resource_server.jwt import Jwt, JwtVerifier
from resource_server.transport import Reply


def refused(client, token, status=401):
    answer = client.get("/protected", headers={"Authorization": f"Bearer {token}"}, status=status)
    if status == 401:
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    return answer


def test_s15_a_good_jwt_is_served_and_described_without_asking(jwt_client, issuer, bearer):
    token = issuer.token("k1", scope="write read")
    for _ in range(3):
        answer = jwt_client.get("/protected", headers=bearer(token), status=200)
    assert answer.json["scopes"] == ["read", "write"]
    assert (answer.json["subject"], answer.json["client_id"]) == ("s", "c")
    assert [call.path for call in issuer.upstream.calls] == ["/.well-known/jwks.json"]
    assert issuer.upstream.calls[0].authorization == ""


@pytest.mark.parametrize("alg", ["ES256", "EdDSA", "RS256"])
@pytest.mark.parametrize("named", [True, False])
def test_s15_every_default_algorithm_verifies(jwt_client, issuer, bearer, alg, named):
    issuer.add("k2", alg)
    if not named:
        del issuer.published[-1]["alg"]
    jwt_client.get("/protected", headers=bearer(issuer.token("k2", alg)), status=200)


@pytest.mark.parametrize(
    ("typ", "status"),
    [
        ("at+jwt", 200),
        ("AT+JWT", 200),
        ("application/at+jwt", 200),
        ("Application/At+Jwt", 200),
        ("JWT", 401),
        ("", 401),
        (None, 401),
        (["at+jwt"], 401),
        ("at+jwt ", 401),
        ("text/at+jwt", 401),
    ],
)
def test_s15_typ_is_at_jwt(jwt_client, issuer, bearer, typ, status):
    jwt_client.get("/protected", headers=bearer(issuer.token("k1", header={"typ": typ})), status=status)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"},
        {"iss": ...},
        {"iss": ["x"]},
        {"aud": "https://other"},
        {"aud": ["https://me/"]},
        {"aud": []},
        {"aud": ...},
        {"aud": {"https://me": 1}},
        {"aud": ["https://me", 1]},
        {"exp": ...},
        {"exp": "4000000000"},
        {"exp": True},
        {"exp": 0},
        {"exp": 1e300},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"nbf": "0"},
        {"iat": ...},
        {"iat": "1"},
        {"sub": ...},
        {"sub": 1},
        {"sub": ""},
        {"client_id": ...},
        {"client_id": ["c"]},
        {"jti": ...},
        {"jti": 7},
        {"scope": ["read"]},
        {"cnf": {"jkt": "x"}},
    ],
)
def test_s15_each_claim_is_checked(jwt_client, issuer, changes):
    refused(jwt_client, issuer.token("k1", **changes))


def test_s15_issuer_is_compared_exactly(jwt_client, issuer):
    for iss in (f"{issuer.url}/", issuer.url.upper(), f" {issuer.url}"):
        refused(jwt_client, issuer.token("k1", iss=iss))
    assert issuer.fetches == 0


def test_s15_scope_is_checked_as_ever(jwt_client, issuer):
    for scope in ("reader", "", ...):
        assert refused(jwt_client, issuer.token("k1", scope=scope), 403).json["error"] == "insufficient_scope"


def test_s15_none_and_hmac_are_refused(jwt_client, issuer, b64):
    claims, key = issuer.claims(), issuer.keys["k1"]
    for alg in ("none", "None", "NONE", "nOnE"):
        refused(jwt_client, f"{b64({'alg': alg, 'typ': 'at+jwt', 'kid': 'k1'})}.{b64(claims)}.")
    # the public key as an HMAC secret (RFC 8725 §2.1), in the forms an attacker has it
    for secret in (key.as_pem(private=False), key.as_der(private=False), b64(key.as_dict(private=False)).encode()):
        for alg in ("HS256", "HS384", "HS512"):
            text = f"{b64({'alg': alg, 'typ': 'at+jwt', 'kid': 'k1'})}.{b64(claims)}"
            signature = hmac.digest(secret, text.encode(), f"sha{alg[2:]}")
            refused(jwt_client, f"{text}.{b64(signature)}")


def test_s15_an_algorithm_is_bound_to_the_keys_own(jwt_client, issuer):
    issuer.add("r", "RS256")
    issuer.add("e", "ES384")
    del issuer.published[-1]["alg"]
    for header, kid, alg in [
        ({"alg": "PS256"}, "r", "PS256"),  # not in our list
        ({"alg": "RS512"}, "r", "RS512"),
        ({"alg": "ES384"}, "e", "ES384"),
        ({"alg": "ES256", "kid": "r"}, "k1", "ES256"),  # another key's name
        ({"alg": "RS256", "kid": "k1"}, "r", "RS256"),
        ({"alg": "EdDSA"}, "k1", "ES256"),
    ]:
        refused(jwt_client, issuer.token(kid, alg, header))
    for alg in (["ES256"], None, 1, {}, ""):
        refused(jwt_client, issuer.token("k1", header={"alg": alg}))


def test_s15_a_key_does_for_no_other_algorithm_than_it_names(jwt_client, issuer):
    issuer.add("r", "RS256")
    issuer.published[-1]["alg"] = "RS512"
    refused(jwt_client, issuer.token("r", "RS256"))


def test_s15_keys_that_a_token_brings_along_are_ignored(jwt_client, issuer, other_upstream):
    mine = type(issuer)(other_upstream)
    key = mine.add("evil")
    jwk = key.as_dict(private=False)
    url = f"{other_upstream.url}/.well-known/jwks.json"
    headers = [{"jwk": jwk}, {"jku": url}, {"x5u": url}, {"x5c": ["MIIB"]}, {"jwk": jwk, "jku": url, "kid": "evil"}]
    for header in headers:
        for kid in ("k1", "evil"):
            full = {"alg": "ES256", "typ": "at+jwt", "kid": kid} | header
            refused(jwt_client, mine.sign(full, issuer.claims(), "evil", "ES256"))
    assert not other_upstream.calls


def test_s15_such_headers_do_no_harm_in_a_good_token(jwt_client, issuer, bearer):
    header = {"jku": "http://127.0.0.1:1/", "jwk": {"kty": "oct", "k": "AA"}, "x5u": 7}
    jwt_client.get("/protected", headers=bearer(issuer.token("k1", header=header)), status=200)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "exp", None, ["kid"]])
def test_s15_critical_parameters_are_refused(jwt_client, issuer, crit):
    refused(jwt_client, issuer.token("k1", header={"crit": crit, "b64": True, "exp": 1}))


@pytest.mark.parametrize("kid", [None, "", 1, ["k1"], "K1"])
def test_s15_kid_picks_the_key(jwt_client, issuer, kid):
    refused(jwt_client, issuer.token("k1", header={"kid": kid}))


def test_s15_a_member_that_appears_twice_is_refused(jwt_client, issuer):
    good = issuer.claims()
    header = b'{"alg":"ES256","alg":"ES256","typ":"at+jwt","kid":"k1"}'
    refused(jwt_client, issuer.sign(header, good, "k1", "ES256"))
    twice = b'{"aud":"https://other",' + json.dumps(good).encode()[1:]
    refused(jwt_client, issuer.sign({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}, twice, "k1", "ES256"))


def test_s15_a_changed_token_is_refused(jwt_client, issuer, bearer, b64):
    token = issuer.token("k1")
    head, body, signature = token.split(".")
    jwt_client.get("/protected", headers=bearer(token), status=200)
    other = issuer.token("k1").split(".")
    for changed in (
        f"{head}.{other[1]}.{signature}",
        f"{head}.{body}.{other[2]}",
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}.{signature}A",
        f"{head}.{body}.{b64(bytes(64))}",
        f"{head}..{signature}",
        f".{body}.{signature}",
        f"{head}.{body}",
        f"{token}.x",
        "a.b.c",
        "..",
    ):
        refused(jwt_client, changed)
    jwt_client.get("/protected", headers=bearer(token), status=200)


def test_s15_an_opaque_token_is_401_in_jwt_mode(jwt_client, upstream, issuer):
    upstream.knows("opaque")
    refused(jwt_client, "opaque")
    assert not upstream.calls


def test_auto_asks_about_opaque_tokens_only(make_client, upstream, issuer, bearer):
    client = make_client(validation="auto", issuer=issuer.url, resource="https://me")
    upstream.knows("opaque", aud="https://me")
    upstream.knows("a.b.c", aud="https://me")
    client.get("/protected", headers=bearer("opaque"), status=200)
    client.get("/protected", headers=bearer("a.b.c"), status=200)
    client.get("/protected", headers=bearer(issuer.token("k1")), status=200)
    # what looks like a JWT and is not good is not asked about
    refused(client, upstream.knows(issuer.token("k1", exp=1), aud="https://me"))
    refused(client, upstream.knows(issuer.token("k1", header={"alg": "none"}), aud="https://me"))
    posted = [call.form["token"][0] for call in upstream.calls if call.form]
    assert posted == ["opaque", "a.b.c"]


def test_s13_a_remembered_jwt_still_expires(make_config, issuer, bearer):
    now = time.time()
    document = Reply(200, {}, {"keys": issuer.published})
    verifier = JwtVerifier(Jwks(lambda _: document, ["ES256"]), issuer.url, "https://me", wall=lambda: now)
    token = issuer.token("k1", exp=int(now) + 5)
    assert verifier(token) is verifier(token)
    verifier.forget()
    assert verifier(token) == verifier(token)


def test_s14_reasons_are_logged_and_tokens_are_not(jwt_client, issuer, caplog):
    caplog.set_level(logging.DEBUG)
    token = issuer.token("k1", header={"alg": "none"})
    refused(jwt_client, token)
    assert "algorithm that is not accepted" in caplog.text
    assert not [part for part in token.split(".") if part in caplog.text]
    assert not [part for part in token.split(".")[1:] if part in repr(Jwt.parse(token))]


def test_keys_that_cannot_be_used_spoil_nothing(jwt_client, issuer, bearer, b64, caplog):
    good = issuer.published[0]
    pair = issuer.keys["k1"].as_dict(private=True)
    strange = [
        None,
        "x",
        7,
        {},
        {"kty": "EC"},
        {"kty": ["EC"], "kid": "a"},
        {"kty": "oct", "kid": "oct", "k": b64(b"secret" * 8)},
        {**pair, "kid": "private", "alg": "ES256"},
        {**good, "kid": 7},
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "use", "use": ["sig"]},
        {**good, "kid": "ops", "key_ops": ["sign"]},
        {**good, "kid": "alg", "alg": {}},
        {**good, "kid": "curve", "crv": "P-999"},
        {**good, "kid": "point", "y": good["x"]},
        {**good, "kid": "type", "x": 1},
        {**good, "kid": "base64", "x": "!"},
        {"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AA"},
        {"kty": "RSA", "kid": "short", "n": b64(b"\xff" * 128), "e": "AQAB"},
        {"kty": "RSA", "kid": "long", "n": b64(b"\xff" * 4096), "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "okp", "x": "AA"},
        {"kty": "OKP", "crv": "X25519", "kid": "agree", "x": b64(bytes(32))},
    ]
    issuer.published = [*strange, *issuer.published]
    jwt_client.get("/protected", headers=bearer(issuer.token("k1")), status=200)
    assert "secret key material" in caplog.text
    assert pair["d"] not in caplog.text
    found = verifying_keys({"keys": issuer.published}, ALGORITHMS, {})
    assert {kid for kid, _ in found} == {"k1"}


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}])
def test_a_document_without_a_list_is_no_jwk_set(document):
    with pytest.raises(NotJwkSetError):
        verifying_keys(document, ALGORITHMS, {})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["EC", "P-256", "RSA"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops"]), inner
            )
        ),
    )
)
def test_any_json_is_a_jwk_set_without_keys(value):
    assert verifying_keys({"keys": [value]}, ALGORITHMS, {}) == {}


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/="))
def test_s15_any_text_is_refused_without_an_accident(text):
    verifier = JwtVerifier(Jwks(lambda _: Reply(200, {}, {"keys": []}), ["ES256"]), "https://as", "https://me")
    for token in (text, f"eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0.{text}"):
        with pytest.raises(InvalidTokenError):
            verifier(token)
