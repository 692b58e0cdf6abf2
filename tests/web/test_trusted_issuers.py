"""Workloads that prove themselves with the tokens of their cluster (RFC 7521 §4.2), and those that try to."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from base64 import urlsafe_b64encode

import psycopg
import pytest
import webtest

from authserver.app import create_app
from authserver.fetch.documents import Fetcher
from authserver.flows.register import create_client
from authserver.flows.remote_keys import COOLDOWN, FRESH, STALE
from authserver.flows.server import make_server
from authserver.oauth.client_assertion import Assertion
from authserver.oauth.compact_jws import CompactJWS
from authserver.oauth.errors import InvalidClient
from authserver.oauth.public_keys import ALGORITHMS, RegisteredKeys
from authserver.oauth.registration import ClientMetadata
from authserver.oauth.trusted_issuer import InvalidIssuer, TrustedIssuer, Workload, check_subject, check_workload
from authserver.store.database import Database
from authserver.store.trusted_issuers import Binding, IssuerExists, NoSuchBinding, SubjectBound

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUDIENCE = "https://as.example"
ENDPOINTS = ("/oauth/token", "/oauth/introspect", "/oauth/revoke")
every_endpoint = pytest.mark.parametrize("path", ENDPOINTS)


class Cluster:
    """A Kubernetes cluster, as far as its tokens go: keys, and a site that publishes them."""

    def __init__(self, signer, clock, issuer):
        self.signer, self.clock, self.issuer = signer, clock, issuer

    def token(self, account="shop/service-a", *, signer=None, header=None, **changes):
        """A projected token of a service account, as a pod finds it in its volume."""
        namespace, _, name = account.partition("/")
        now = int(self.clock())
        claims = {
            "aud": [AUDIENCE],
            "exp": now + 3600,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": "0d7d8d0d-6e8a-4b9b-8b36-6a0a4f3a4d52",
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": "1"}},
            "sub": f"system:serviceaccount:{namespace}:{name}",
            **changes,
        }
        claims = {claim: value for claim, value in claims.items() if value is not ...}
        return (signer or self.signer).sign(claims, **(header or {}))

    def publish(self, site, *signers):
        """Answer for discovery and the keys, as an API server does."""
        site.pages["/.well-known/openid-configuration"] = {
            "issuer": self.issuer,
            "jwks_uri": f"{site.url}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
        }
        site.pages["/openid/v1/jwks"] = {"keys": [signer.jwk(use="sig") for signer in signers or (self.signer,)]}


@pytest.fixture(scope="module")
def rsa(make_signer):
    """The key of a cluster; most have RSA."""
    return make_signer("RS256")


@pytest.fixture
def fetcher():
    return Fetcher([ipaddress.ip_network("127.0.0.0/8")], allow_http=True)


@pytest.fixture
def trust(server):
    """Declare an issuer, as the operator does."""

    def trust(name, issuer, jwks=None, audience=AUDIENCE, **more):
        keys = RegisteredKeys(jwks) if jwks is not None else None
        server.trusted_issuers.add(TrustedIssuer(0, name, issuer, audience, keys, **more))

    return trust


@pytest.fixture
def bind(server):
    """Let a service account be a client."""

    def bind(account, client_id, issuer="prod"):
        namespace, _, name = account.partition("/")
        server.trusted_issuers.bind(Binding(issuer, f"system:serviceaccount:{namespace}:{name}", client_id))

    return bind


@pytest.fixture
def clients(server):
    """Two clients without secrets."""
    for client_id in ("service-a", "other"):
        metadata = ClientMetadata(
            token_endpoint_auth_method="private_key_jwt", scopes=("read",), default_scopes=("read",)
        )
        create_client(server, client_id, metadata, with_secret=False)


@pytest.fixture
def cluster(rsa, clock, site, trust, bind, clients):
    """The cluster `prod`, found by discovery, whose service account shop/service-a is a client."""
    cluster = Cluster(rsa, clock, site.url)
    cluster.publish(site)
    trust("prod", site.url)
    bind("shop/service-a", "service-a")
    return cluster


def form(token, **more):
    return {
        "grant_type": "client_credentials",
        "token": "unknown",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": token,
        **more,
    }


@pytest.fixture
def refused(app, seen, basic, caplog, stored_tokens):
    """Every endpoint refuses a token in the one way, and the log says why."""
    caplog.set_level("INFO")
    unknown = {"grant_type": "client_credentials", "token": "unknown"}
    expected = seen(app.post("/oauth/token", unknown, headers=basic("nobody", "wrong"), status=401))

    def check(token, reason, **more):
        before = stored_tokens()
        for path in ENDPOINTS:
            caplog.clear()
            assert seen(app.post(path, form(token, **more), status=401)) == expected
            assert reason in caplog.text
        assert stored_tokens() == before

    return check


def test_a_pod_gets_a_token_with_its_service_account(app, cluster, site):
    token = cluster.token()
    answer = app.post("/oauth/token", form(token)).json
    seen = app.post("/oauth/introspect", form(token) | {"token": answer["access_token"]}).json
    assert seen["client_id"] == "service-a"
    app.post("/oauth/revoke", form(token) | {"token": answer["access_token"]})
    assert app.post("/oauth/introspect", form(token) | {"token": answer["access_token"]}).json == {"active": False}
    assert site.asked == ["/.well-known/openid-configuration", "/openid/v1/jwks"]


@every_endpoint
def test_a_token_is_used_again_until_it_expires(app, other_app, cluster, clock, path):
    token = cluster.token()
    for _ in range(3):
        for each in (app, other_app):
            each.post(path, form(token), status=200)
            each.post(path, form(token, client_id="service-a"), status=200)
    # Other than an assertion of the client's own making: neither a jti nor a near expiry.
    app.post(path, form(cluster.token(jti=..., exp=int(clock()) + 365 * 86400)), status=200)
    app.post(path, form(cluster.token(aud=AUDIENCE)), status=200)
    app.post(path, form(cluster.token(aud=["https://vault.example", AUDIENCE])), status=200)
    clock.advance(3600 + 30)
    app.post(path, form(token), status=401)


def test_a_token_costs_one_round_trip(app, cluster, asked):
    token = cluster.token()
    app.post("/oauth/token", form(token))
    assert asked(lambda: app.post("/oauth/token", form(token), status=200)) == 1


def test_keys_may_be_given_instead_of_found(app, refused, clients, trust, bind, rsa, clock, make_signer, site):
    cluster = Cluster(rsa, clock, "https://kubernetes.default.svc.cluster.local")
    trust("prod", cluster.issuer, rsa.jwks(), algorithms=["RS256"])
    bind("shop/service-a", "service-a")
    app.post("/oauth/token", form(cluster.token()))
    refused(cluster.token(signer=make_signer("RS256")), "signature is wrong")
    refused(cluster.token(header={"kid": "k2"}), "no key for the assertion's kid")
    assert site.asked == []


@pytest.mark.parametrize("audience", ["https://vault.example", f"{AUDIENCE}/", "https://AS.example", "as.example"])
def test_a_token_for_another_audience_is_refused(refused, cluster, audience):
    refused(cluster.token(aud=[audience]), "bound to no client")
    refused(cluster.token(aud=audience), "bound to no client")


@pytest.mark.parametrize("audience", [..., None, [], "", [""], [1], {}, 1, [AUDIENCE, 1], [AUDIENCE] * 17, ["a\0"]])
def test_a_malformed_audience_is_refused(refused, cluster, audience):
    refused(cluster.token(aud=audience), "aud is missing or malformed")


def test_another_cluster_of_the_same_iss_is_another_issuer(app, refused, clients, trust, bind, clock, make_signer, rsa):
    """Two clusters with the default iss of Kubernetes, told apart by audience; each knows the other's audience."""
    iss = "https://kubernetes.default.svc.cluster.local"
    prod, test = Cluster(rsa, clock, iss), Cluster(make_signer("RS256"), clock, iss)
    trust("prod", iss, prod.signer.jwks(), audience="https://as.example/prod")
    trust("test", iss, test.signer.jwks(), audience="https://as.example/test")
    bind("shop/service-a", "service-a", "prod")
    bind("shop/service-a", "other", "test")
    for cluster, name, client_id in ((prod, "prod", "service-a"), (test, "test", "other")):
        token = cluster.token(aud=[f"https://as.example/{name}"])
        access = app.post("/oauth/token", form(token)).json["access_token"]
        assert app.post("/oauth/introspect", form(token) | {"token": access}).json["client_id"] == client_id
    # A pod may ask its cluster for any audience.
    refused(test.token(aud=["https://as.example/prod"]), "signature is wrong")
    refused(test.token(aud=["https://as.example/prod", "https://as.example/test"]), "bound to no client")
    refused(prod.token(aud=["https://as.example/test", "https://as.example/prod"]), "bound to no client")
    with pytest.raises(IssuerExists):
        trust("third", iss, prod.signer.jwks(), audience="https://as.example/prod")
    with pytest.raises(IssuerExists):
        trust("prod", iss, prod.signer.jwks(), audience="https://as.example/third")


@pytest.mark.parametrize(
    "account",
    ["other/service-a", "shop/service-b", "shop/service-a2", "shop/Service-a", "sho/pservice-a", "shop/", "/service-a"],
)
def test_another_namespace_or_name_is_refused(refused, cluster, account):
    refused(cluster.token(account), "bound to no client")


def test_a_subject_is_one_client_and_the_client_id_must_match(app, refused, cluster, bind):
    with pytest.raises(SubjectBound):
        bind("shop/service-a", "other")
    bind("shop/second", "service-a")
    app.post("/oauth/token", form(cluster.token("shop/second")), status=200)
    refused(cluster.token(), "client_id is not the one", client_id="other")
    refused(cluster.token(), "client_id is not the one", client_id="nobody")


def test_default_service_accounts_are_refused_always(refused, cluster, bind, database):
    refused(cluster.token("shop/default"), "bound to no client")
    # Not to be bound: by the rules, by hand, nor if it were bound all the same.
    with pytest.raises(InvalidIssuer, match="default service account"):
        check_subject("system:serviceaccount:shop:default")
    with pytest.raises(psycopg.errors.CheckViolation):
        bind("shop/default", "service-a")
    claims = {"aud": AUDIENCE, "exp": 2_000_000_000, "name": "system:serviceaccount:shop:default"}
    client = object()
    for claim, subject in (("sub", "system:serviceaccount:shop:default"), ("name", "x")):
        issuer = TrustedIssuer(1, "prod", cluster.issuer, AUDIENCE, None, ALGORITHMS, claim)
        bound = str(claims.get(claim, subject))
        jws = CompactJWS("RS256", None, None, claims | {"sub": subject}, b"", b"")
        with pytest.raises(InvalidClient) as error:
            check_workload(
                Assertion(cluster.issuer, subject, None, jws), Workload(issuer, bound, client), 1_800_000_000
            )
        assert "default service account" in error.value.reason


@pytest.mark.parametrize(
    ("claim", "offset", "reason"),
    [
        ("exp", -30, "expired"),
        ("nbf", 31, "nbf is ahead"),
        ("iat", 31, "iat is ahead"),
        ("exp", None, "exp is missing"),
    ],
)
def test_a_token_out_of_its_time_is_refused(refused, cluster, clock, claim, offset, reason):
    refused(cluster.token(**{claim: ... if offset is None else int(clock()) + offset}), reason)


@pytest.mark.parametrize("value", ["1", True, None, [1], {}, -1])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_a_time_is_a_number(refused, cluster, claim, value):
    refused(cluster.token(**{claim: value}), f"{claim} is not a time")


@pytest.mark.parametrize("claim", ["iss", "sub"])
@pytest.mark.parametrize("value", [..., None, "", 1, ["x"], {"x": 1}, "a\0", "\ud800", "x" * 513])
def test_names_are_strings(refused, cluster, claim, value):
    refused(cluster.token(**{claim: value}), f"{claim} is missing or malformed")


def test_an_issuer_that_is_not_trusted_is_refused(refused, cluster, make_site, make_signer, clock):
    site = make_site()
    forged = Cluster(make_signer("RS256"), clock, site.url)
    forged.publish(site)
    refused(forged.token(), "bound to no client")
    for issuer in (f"{cluster.issuer}/", cluster.issuer.upper(), f"{cluster.issuer}/.", "https://evil.example"):
        refused(cluster.token(iss=issuer), "bound to no client")
    # What it says of itself moves nobody to ask it.
    assert site.asked == []


def segment(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["HS256", "none", "ES256", "EdDSA", "PS256", "RS512"])
def test_the_algorithm_is_the_issuers_and_the_keys_own(refused, trust, bind, clients, rsa, clock, algorithm):
    cluster = Cluster(rsa, clock, "https://cluster.example")
    trust("prod", cluster.issuer, rsa.jwks(), algorithms=["RS256", "ES256"])
    bind("shop/service-a", "service-a")
    signed = f"{segment(json.dumps({'alg': algorithm, 'kid': 'k1'}).encode())}.{cluster.token().split('.')[1]}"
    signature = hmac.new(rsa.key.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
    refused(f"{signed}.{segment(signature)}", "alg")
    refused(cluster.token(header={"alg": algorithm}), "alg")


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_the_header_brings_along_is_not_used(refused, cluster, make_signer, make_site, member):
    attacker, site = make_signer("RS256"), make_site()
    site.pages["/keys"] = attacker.jwks()
    value = {"jwk": attacker.jwk(), "x5c": [segment(attacker.key.as_der(private=False))]}.get(member, f"{site.url}/k")
    refused(cluster.token(signer=attacker, header={member: value}), "signature is wrong")
    assert site.asked == []


def test_duplicate_members_are_refused(refused, cluster):
    text = json.dumps({"iss": cluster.issuer, "sub": "system:serviceaccount:shop:service-b", "aud": AUDIENCE})
    payload = f'{text[:-1]}, "sub": "system:serviceaccount:shop:service-a"}}'.encode()
    refused(cluster.signer.sign(None, payload=payload), "duplicate member")


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": "SITE/evil"},
        {"issuer": "SITE/", "jwks_uri": "SITE/evil"},
        {"jwks_uri": "SITE/evil"},
        {"issuer": ["SITE"], "jwks_uri": "SITE/evil"},
        [],
        b"x",
    ],
)
def test_a_forged_discovery_document_is_refused(refused, cluster, site, make_signer, document):
    attacker = make_signer("RS256")
    site.pages["/evil"] = attacker.jwks()
    text = document if isinstance(document, bytes) else json.dumps(document).replace("SITE", site.url).encode()
    site.pages["/.well-known/openid-configuration"] = text
    refused(cluster.token(signer=attacker), "")
    refused(cluster.token(), "")
    assert "/evil" not in site.asked


@pytest.mark.parametrize(
    "uri",
    [
        "http://10.0.0.1/keys",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://localhost6.invalid/",
        "file:///x",
        1,
    ],
)
def test_discovery_does_not_lead_where_keys_may_not_come_from(refused, cluster, site, uri):
    site.pages["/.well-known/openid-configuration"] = {"issuer": cluster.issuer, "jwks_uri": uri}
    refused(cluster.token(), "trusted issuer's")
    assert site.asked == ["/.well-known/openid-configuration"]


def test_a_redirect_of_the_issuer_is_not_followed(refused, cluster, site, make_site):
    inside = make_site()
    cluster.publish(inside)

    def redirect(page):
        page.send_response(302)
        page.send_header("Location", inside.url + page.path)
        page.send_header("Content-Length", "0")
        page.end_headers()

    site.pages["/.well-known/openid-configuration"] = redirect
    refused(cluster.token(), "answered 302")
    assert inside.asked == []


def test_a_key_rollover_of_the_issuer_is_followed(app, cluster, site, make_signer, clock):
    new = make_signer("RS256", kid="k2")
    app.post("/oauth/token", form(cluster.token()), status=200)
    app.post("/oauth/token", form(cluster.token(signer=new)), status=401)
    clock.advance(COOLDOWN)
    cluster.publish(site, cluster.signer, new)
    app.post("/oauth/token", form(cluster.token(signer=new)), status=200)
    app.post("/oauth/token", form(cluster.token()), status=200)
    cluster.publish(site, new)
    clock.advance(FRESH)
    app.post("/oauth/token", form(cluster.token(signer=new)), status=200)
    app.post("/oauth/token", form(cluster.token()), status=401)


def test_a_cluster_that_does_not_answer_is_believed_for_a_bounded_time(app, cluster, site, clock):
    app.post("/oauth/token", form(cluster.token()), status=200)
    site.pages.clear()
    clock.advance(STALE - 1)
    app.post("/oauth/token", form(cluster.token()), status=200)
    clock.advance(1)
    app.post("/oauth/token", form(cluster.token()), status=401)


@every_endpoint
def test_what_is_unbound_or_removed_stops_at_once_in_a_process_that_remembers_it(
    app, other_app, cluster, server, bind, trust, path
):
    binding = Binding("prod", "system:serviceaccount:shop:service-a", "service-a")
    token = cluster.token()

    def both(status, **more):
        for each in (app, other_app):
            each.post(path, form(token, **more), status=status)

    both(200)
    server.trusted_issuers.unbind(binding)
    both(401)
    with pytest.raises(NoSuchBinding):
        server.trusted_issuers.unbind(binding)
    bind("shop/service-a", "other")
    both(200, client_id="other")
    both(401, client_id="service-a")
    server.trusted_issuers.remove("prod")
    both(401)
    trust("prod", cluster.issuer)
    both(401)
    bind("shop/service-a", "service-a")
    both(200)
    server.clients.delete("service-a")
    both(401)


def test_a_change_to_an_issuer_counts_at_once_in_a_process_that_remembers_it(
    app, other_app, clients, trust, bind, rsa, clock, make_signer, server, database
):
    cluster, new = Cluster(rsa, clock, "https://cluster.example"), make_signer("RS256")
    trust("prod", cluster.issuer, rsa.jwks())
    bind("shop/service-a", "service-a")

    def both(token, status):
        for each in (app, other_app):
            each.post("/oauth/token", form(token), status=status)

    both(cluster.token(), 200)
    server.trusted_issuers.replace_keys("prod", RegisteredKeys(new.jwks()))
    both(cluster.token(), 401)
    both(cluster.token(signer=new), 200)
    for change in ("audience = 'https://x.example'", "algorithms = '{ES256}'", "issuer = 'https://x.example'"):
        with database.transaction() as connection:
            connection.execute(f"UPDATE trusted_issuers SET {change}")
        both(cluster.token(signer=new), 401)
        with database.transaction() as connection:
            connection.execute(
                "UPDATE trusted_issuers SET audience = 'https://as.example', algorithms = '{RS256}',"
                " issuer = 'https://cluster.example'"
            )
        both(cluster.token(signer=new), 200)


def test_another_claim_may_name_the_workload(app, refused, clients, trust, server, rsa, clock):
    cluster = Cluster(rsa, clock, "https://ci.example")
    trust("ci", cluster.issuer, rsa.jwks(), subject_claim="repository")
    server.trusted_issuers.bind(Binding("ci", "org/app", "service-a"))
    for run in ("1", "2"):
        app.post("/oauth/token", form(cluster.token(sub=f"run:{run}", repository="org/app")), status=200)
    refused(cluster.token(sub="org/app"), "bound to no client")
    for other in ("org/other", 1, ["org/app"], None, "a\0", "\ud800"):
        refused(cluster.token(sub="run:1", repository=other), "")


def test_a_binding_goes_with_whatever_else_the_client_has(app, make_client, trust, bind, rsa, clock):
    cluster = Cluster(rsa, clock, "https://cluster.example")
    client = make_client("service-a", scopes=["read"])
    trust("prod", cluster.issuer, rsa.jwks())
    bind("shop/service-a", "service-a")
    app.post("/oauth/token", form(cluster.token()), status=200)
    app.post("/oauth/token", client.form | {"grant_type": "client_credentials"}, status=200)
    assert app.post("/oauth/token", form(cluster.token()) | client.form, status=400).json["error"] == "invalid_request"


def test_a_cluster_cannot_speak_for_clients_with_keys(app, refused, register, cluster, make_signer):
    """An assertion of which iss and sub are one is the client's own, whoever else is trusted."""
    signer = make_signer("ES256")
    made = register(scope="read", token_endpoint_auth_method="private_key_jwt", jwks=signer.jwks())
    claims = {"iss": made["client_id"], "sub": made["client_id"], "aud": AUDIENCE, "exp": int(cluster.clock()) + 60}
    refused(cluster.signer.sign(claims | {"jti": "1"}), "no key for the assertion's kid and alg")
    refused(cluster.token(sub=cluster.issuer), "aud is not this server's issuer")
    refused(cluster.token(sub=cluster.issuer, aud=AUDIENCE, exp=int(cluster.clock()) + 60), "unknown client")


def test_no_token_of_a_pod_is_logged(app, cluster, caplog):
    caplog.set_level("DEBUG")
    for token in (cluster.token(), cluster.token(aud="x"), cluster.token("shop/default"), f"{cluster.token()}x"):
        for path in ENDPOINTS:
            app.post(path, form(token), expect_errors=True)
        assert not any(part in caplog.text for part in token.split("."))


class Meddler(Database):
    """The real thing; between two statements somebody else changes the client."""

    changes = 0

    def fetch_all(self, *arguments):
        rows = super().fetch_all(*arguments)
        if self.changes:
            self.changes -= 1
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                connection.execute("UPDATE clients SET client_name = coalesce(client_name, '') || 'x'")
        return rows


@pytest.mark.parametrize(("changes", "status"), [(1, 200), (3, 200), (4, 503)])
def test_a_client_that_changes_while_it_is_looked_up_is_looked_up_again(
    policy, serving_url, clock, fetcher, cluster, changes, status
):
    database = Meddler(serving_url)
    app = webtest.TestApp(create_app(make_server(policy, database, clock=clock, fetcher=fetcher)))
    database.changes = changes
    app.post("/oauth/token", form(cluster.token()), status=status)
    database.close()
