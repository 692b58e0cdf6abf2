"""POST /oauth/token: the client credentials grant (RFC 6749 §4.4, RFC 8707)."""

import hashlib
import json
import re
from base64 import urlsafe_b64decode
from urllib.parse import urlencode

import psycopg
import pytest
import webtest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authserver.app import create_app
from authserver.flows.server import make_server

RESOURCE = "https://b.example"
TOKEN = "/oauth/token"
GRANT = {"grant_type": "client_credentials"}
FORM = "application/x-www-form-urlencoded"
# RFC 6749 §5.2, Appendix A.8
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")


@pytest.fixture
def refused(app, service_a, basic, stored_tokens):
    """Post a body with good credentials and see it refused; give the error code."""

    def post(body, content_type=FORM, status=400):
        headers = basic(service_a.client_id, service_a.secret)
        answer = app.post(TOKEN, body, headers=headers, content_type=content_type, status=status)
        assert set(answer.json) == {"error", "error_description"}
        assert stored_tokens() == 0
        return answer.json["error"]

    return post


@pytest.fixture
def issued(app, service_a, basic):
    """Post parameters with good credentials; give the token response."""

    def post(parameters=(), **more):
        headers = basic(service_a.client_id, service_a.secret)
        return app.post(TOKEN, urlencode([*GRANT.items(), *parameters, *more.items()]), headers=headers).json

    return post


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_t1_other_methods_are_not_allowed(app, service_a, basic, method):
    query = urlencode(GRANT | service_a.form)
    headers = basic(service_a.client_id, service_a.secret)
    answer = app.request(f"{TOKEN}?{query}", method=method, headers=headers, status=405)
    assert answer.headers["Allow"] == "POST"
    assert method == "HEAD" or answer.json["error"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps(GRANT)),
        ("application/json", urlencode(GRANT)),
        (
            "multipart/form-data; boundary=x",
            '--x\r\nContent-Disposition: form-data; name="grant_type"\r\n\r\nc\r\n--x--',
        ),
        ("text/plain", urlencode(GRANT)),
        ("application/x-www-form-urlencoded-not", urlencode(GRANT)),
        (f"{FORM}; charset=iso-8859-1", urlencode(GRANT)),
        (FORM, "grant_type=client_credentials&scope=%"),
        (FORM, "grant_type=client_credentials&scope=%2"),
        (FORM, "grant_type=client_credentials&scope=%zz"),
        (FORM, "grant_type=client_credentials&%=x"),
        (FORM, "grant_type=client_credentials&x=%ff"),
        (FORM, "grant_type=client_credentials&x=%c0%af"),
        (FORM, "grant_type=client_credentials&x=%ed%a0%80"),
        (FORM, b"grant_type=client_credentials&x=\xff"),
        (FORM, "grant_type=client_credentials&x=%00"),
        (FORM, b"grant_type=client_credentials\0"),
    ],
)
def test_t2_only_a_form_in_utf8_is_read(refused, content_type, body):
    assert refused(body, content_type) == "invalid_request"


def test_t2_a_body_without_content_type_is_refused(app, service_a, basic, stored_tokens):
    headers = basic(service_a.client_id, service_a.secret)
    request = webtest.TestRequest.blank(TOKEN, method="POST", body=urlencode(GRANT).encode(), headers=headers)
    assert "CONTENT_TYPE" not in request.environ
    assert app.do_request(request, status=400).json["error"] == "invalid_request"
    assert stored_tokens() == 0


@pytest.mark.parametrize("content_type", [FORM, FORM.upper(), f"{FORM};charset=UTF-8", f'{FORM}; charset="utf-8"'])
def test_t2_a_form_may_name_its_charset(app, service_a, content_type):
    app.post(TOKEN, urlencode(GRANT | service_a.form), content_type=content_type, status=200)


def test_t3_an_empty_parameter_counts_as_omitted(app, service_a, issued, refused):
    assert refused("grant_type=&x=y") == "invalid_request"
    assert issued(scope="", resource="", client_secret="", client_assertion="", client_id="")["scope"] == "read"
    empty = {"client_id": service_a.client_id, "client_secret": ""}
    assert app.post(TOKEN, GRANT | empty, status=401).json["error"] == "invalid_client"


def test_t3_unknown_parameters_are_ignored(issued):
    assert issued([("audience", "https://x.example"), ("", "x"), ("ünknown", "\N{SNOWMAN}")])["scope"] == "read"


@pytest.mark.parametrize(
    "more",
    [
        "grant_type=client_credentials",
        "grant_type=refresh_token",
        "grant_type=",
        "scope=read&scope=read",
        "scope=read&scope=write",
        "scope=&scope=read",
        "scope=read&scope=",
        "scope=read&sc%6fpe=write",
        "client_id=service-a&client_id=service-a",
        "client_secret=&client_secret=",
        "unheard_of=1&unheard_of=1",
    ],
)
def test_t4_a_repeated_parameter_is_refused(refused, more):
    assert refused(f"grant_type=client_credentials&{more}") == "invalid_request"


def test_t4_only_resource_may_repeat(app, make_client):
    client = make_client("c", scopes=["read"], audiences=[RESOURCE, "urn:other"])
    body = urlencode([*(GRANT | client.form).items(), ("resource", RESOURCE), ("resource", "urn:other")])
    token = app.post(TOKEN, body, status=200).json["access_token"]
    assert client.introspect(app, token)["aud"] == [RESOURCE, "urn:other"]


@pytest.mark.parametrize("in_query", [("client_id", "client_secret"), ("client_secret",)])
def test_t5_credentials_in_the_query_are_never_accepted(app, service_a, stored_tokens, in_query):
    query = urlencode({name: service_a.form[name] for name in in_query})
    body = GRANT | {name: value for name, value in service_a.form.items() if name not in in_query}
    answer = app.post(f"{TOKEN}?{query}", body, status=401)
    assert answer.json["error"] == "invalid_client"
    assert stored_tokens() == 0


def test_t5_nothing_else_is_read_from_the_query_either(app, service_a):
    query = urlencode(GRANT | {"scope": "write"})
    assert app.post(f"{TOKEN}?{query}", service_a.form, status=400).json["error"] == "invalid_request"
    assert app.post(f"{TOKEN}?{query}", GRANT | service_a.form, status=200).json["scope"] == "read"


def test_t5_a_query_does_not_disturb_good_credentials(app, service_a):
    app.post(f"{TOKEN}?client_id=x&client_secret=y", GRANT | service_a.form, status=200)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "invalid_request"),
        ("scope=read", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=authorization_code", "unsupported_grant_type"),
        ("grant_type=refresh_token", "unsupported_grant_type"),
        ("grant_type=Client_Credentials", "unsupported_grant_type"),
        ("grant_type=client_credentials+", "unsupported_grant_type"),
        ("grant_type=%F0%9F%92%A3", "unsupported_grant_type"),
    ],
)
def test_t10_the_grant_type_is_required_and_known(refused, body, code):
    assert refused(body) == code


def test_t14_a_client_without_the_grant_is_unauthorized(app, service_b, stored_tokens):
    assert app.post(TOKEN, GRANT | service_b.form, status=400).json["error"] == "unauthorized_client"
    assert stored_tokens() == 0


def test_t15_there_is_no_refresh_token(issued):
    assert set(issued()) == {"access_token", "token_type", "expires_in", "scope"}


def test_t16_the_answer_has_token_type_lifetime_and_scope(app, service_a):
    answer = app.post(TOKEN, GRANT | service_a.form | {"scope": "read"}, status=200)
    assert answer.content_type == "application/json"
    assert answer.json["token_type"] == "Bearer"
    assert (type(answer.json["expires_in"]), answer.json["expires_in"]) == (int, 3600)
    assert answer.json["scope"] == "read"
    assert answer.json["access_token"]


def test_t16_the_lifetime_is_the_clients_own(app, make_client, service_b, clock):
    client = make_client(scopes=["read"], audiences=[RESOURCE], access_token_lifetime=7)
    answer = app.post(TOKEN, GRANT | client.form).json
    assert answer["expires_in"] == 7
    clock.advance(6)
    assert service_b.introspect(app, answer["access_token"])["active"] is True
    clock.advance(1)
    assert service_b.introspect(app, answer["access_token"]) == {"active": False}


def test_t17_without_scope_the_default_is_granted_and_reported(app, make_client, issued, service_a):
    answer = issued()
    assert answer["scope"] == "read"
    assert service_a.introspect(app, answer["access_token"])["scope"] == "read"


@pytest.mark.parametrize("scopes", [[], ["read", "write"]])
def test_t17_without_scope_and_default_the_request_is_refused(app, make_client, stored_tokens, scopes):
    client = make_client(scopes=scopes, default_scopes=[])
    assert app.post(TOKEN, GRANT | client.form, status=400).json["error"] == "invalid_scope"
    assert stored_tokens() == 0


@pytest.mark.parametrize(
    ("requested", "granted"),
    [("write read", {"read", "write"}), ("read read read", {"read"}), ("read write read", {"read", "write"})],
)
def test_t18_scope_is_a_set_without_order(app, issued, service_a, requested, granted):
    answer = issued(scope=requested)
    assert sorted(answer["scope"].split(" ")) == sorted(granted)
    assert sorted(service_a.introspect(app, answer["access_token"])["scope"].split(" ")) == sorted(granted)


@pytest.mark.parametrize("scope", ["Read", "READ", "read Write"])
def test_t18_scope_is_case_sensitive(refused, scope):
    assert refused(urlencode(GRANT | {"scope": scope})) == "invalid_scope"


@pytest.mark.parametrize(
    "scope",
    [
        *("admin", "read admin", "rea", "reader", "read,write", "*"),
        *(" read", "read ", "read  write", " ", "read\twrite", "read\n", "read\xa0write"),
        *('read"', "read\\", "réad", "read\x7f", "read\x01", "\N{SNOWMAN}"),
    ],
)
def test_t19_scope_outside_the_abnf_or_beyond_the_registered_is_refused(refused, scope):
    assert refused(urlencode(GRANT | {"scope": scope})) == "invalid_scope"


def test_t20_nothing_is_cached(app, app_without_database, service_a):
    good = GRANT | service_a.form
    for answer in (
        app.post(TOKEN, good, status=200),
        app.post(TOKEN, GRANT, status=401),
        app.post(TOKEN, service_a.form, status=400),
        app.post(TOKEN, "x" * 70_000, status=413),
        app.get(TOKEN, status=405),
        app_without_database.post(TOKEN, good, status=503),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Pragma"] == "no-cache"


@pytest.mark.parametrize("path", [TOKEN, "/oauth/introspect", "/oauth/revoke", "/oauth/nothing"])
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff", b"%", b"a&a", b"=&" * 100, b"x" * 70_000, b"grant_type=%22%5c%0a%c3%a9", b"%22=1&%22=2"),
        *(b"grant_type=client_credentials&scope=%22", b"grant_type=client_credentials&resource=%5c%22%c3%a9"),
        b"client_id=%22&client_secret=%5c",
    ],
)
def test_t21_descriptions_keep_to_their_alphabet(app, service_a, basic, path, body):
    for headers in ({}, basic(service_a.client_id, service_a.secret)):
        answer = app.post(path, body, headers=headers, content_type=FORM, status="*")
        if answer.status_int != 200:
            assert DESCRIPTION.fullmatch(answer.json["error_description"])
            assert DESCRIPTION.fullmatch(answer.json["error"])


def test_t22_a_token_has_256_random_bits(policy, database, clock, service_a):
    given_out = []

    def random(count):
        given_out.append(bytes([len(given_out)] * count))
        return given_out[-1]

    app = webtest.TestApp(create_app(make_server(policy, database, clock=clock, random=random)))
    first, second = service_a.token(app), service_a.token(app)
    assert [len(each) for each in given_out] == [32, 32]
    # All of them go into the token.
    assert [urlsafe_b64decode(token[-43:] + "=") for token in (first, second)] == given_out


def test_t22_only_hashes_are_stored(app, database_url, service_a, register):
    token = service_a.token(app)
    information = register(scope="read")
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [
            row[0]
            for (table,) in tables
            for row in connection.execute(
                psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(table))
            )
        ]
    dump = "\n".join(rows)
    assert hashlib.sha256(token.encode()).hexdigest()[: 2 * 23] in dump
    secrets = service_a.secret, information["client_secret"], information["registration_access_token"]
    assert all(hashlib.sha256(secret.encode()).hexdigest() in dump for secret in secrets)
    for secret in (token, *secrets):
        # Neither as it is nor in the hexadecimal form of a bytea, nor a good part of it.
        for form in (secret, secret[-20:], secret.encode().hex(), secret[-20:].encode().hex()):
            assert form not in dump


def test_t23_a_resource_becomes_the_audience(app, make_client, service_b):
    client = make_client(scopes=["read"], audiences=[RESOURCE, "urn:other"])
    assert service_b.introspect(app, client.token(app, resource=RESOURCE))["aud"] == [RESOURCE]
    assert service_b.introspect(app, client.token(app, resource="urn:other")) == {"active": False}


def test_t23_a_resource_named_twice_is_one_audience(app, service_a, issued):
    token = issued([("resource", RESOURCE), ("resource", RESOURCE), ("resource", "")])["access_token"]
    assert service_a.introspect(app, token)["aud"] == [RESOURCE]


@pytest.mark.parametrize(
    "resource",
    [
        *(f"{RESOURCE}#fragment", f"{RESOURCE}#", "/relative", "b.example", "//b.example", "https:", "not a uri"),
        *(
            "https://other.example",
            f"{RESOURCE}/",
            "HTTPS://B.EXAMPLE",
            f"{RESOURCE} ",
            "https://b.exämple",
            "x" * 9999,
        ),
    ],
)
def test_t23_other_resources_are_refused(refused, resource):
    assert refused(urlencode(GRANT | {"resource": resource})) == "invalid_target"
    # One good resource does not carry a bad one.
    assert refused(urlencode([*GRANT.items(), ("resource", RESOURCE), ("resource", resource)])) == "invalid_target"


def test_t23_a_client_without_audiences_may_name_no_resource(app, make_client):
    client = make_client(scopes=["read"])
    form = GRANT | client.form | {"resource": RESOURCE}
    assert app.post(TOKEN, form, status=400).json["error"] == "invalid_target"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.sampled_from(["grant_type", "scope", "resource", "client_id", "client_secret", "token"]),
            st.one_of(st.text(), st.sampled_from(["client_credentials", "read", RESOURCE, "service-a"])),
        ).map(lambda form: urlencode(form, errors="surrogatepass").encode()),
    ),
    asked_as=st.tuples(st.sampled_from([TOKEN, "/oauth/introspect", "/oauth/revoke"]), st.booleans()),
)
def test_no_body_makes_the_server_fail(app, service_a, basic, body, asked_as):
    path, good = asked_as
    headers = basic(service_a.client_id, service_a.secret) if good else {}
    answer = app.post(path, body, headers=headers, content_type=FORM, status="*")
    assert answer.status_int in (200, 400, 401)
    assert good or answer.status_int != 200
