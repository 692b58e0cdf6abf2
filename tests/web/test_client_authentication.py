"""Client authentication, alike at every endpoint that asks for it (RFC 6749 §2.3)."""

from base64 import b64encode
from urllib.parse import quote

import pytest

from authserver.oauth.credentials import hash_credential
from authserver.store.clients import NewSecret

RESOURCE = "https://b.example"
GRANT = {"grant_type": "client_credentials"}
ENDPOINTS = ("/oauth/token", "/oauth/introspect", "/oauth/revoke")
# With good credentials each endpoint answers 200 to this.
ANY = GRANT | {"token": "unknown"}
STRANGE_SECRET = "p+q%41r:s&t=ü \N{SNOWMAN}"

every_endpoint = pytest.mark.parametrize("path", ENDPOINTS)


def encoded(pair: str | bytes) -> dict[str, str]:
    """A Basic header of the bytes as they stand."""
    return {"Authorization": "Basic " + b64encode(pair if isinstance(pair, bytes) else pair.encode()).decode()}


@pytest.fixture
def strange(make_client, server):
    """A client whose id and secret hold what the form encoding must hide."""
    client = make_client("a+b%c:d&e=f g", scopes=["read"])
    server.clients.add_secret(client.client_id, NewSecret("strange", hash_credential(STRANGE_SECRET)))
    return client


@every_endpoint
def test_t6_basic_is_form_decoded(app, strange, basic, path):
    app.post(path, ANY, headers=basic(strange.client_id, STRANGE_SECRET), status=200)
    percent = ":".join(quote(part, safe="") for part in (strange.client_id, STRANGE_SECRET))
    app.post(path, ANY, headers=encoded(percent), status=200)


@every_endpoint
def test_t6_basic_that_was_not_form_encoded_is_not_taken_for_the_same(app, strange, path):
    app.post(path, ANY, headers=encoded(f"a+b%c:d&e=f g:{strange.secret}"), status=401)
    encoded_id = quote(strange.client_id, safe="")
    # A plus sign is a space, and %41 an A, to whoever reads a form.
    app.post(path, ANY, headers=encoded(f"{encoded_id}:{STRANGE_SECRET}"), status=401)


def test_t6_a_secret_may_hold_a_colon(app, strange):
    raw = f"{quote(strange.client_id, safe='')}:p%2Bq%2541r:s%26t%3D%C3%BC+%E2%98%83"
    app.post("/oauth/token", ANY, headers=encoded(raw), status=200)


def test_t6_an_unknown_id_beyond_ascii_is_just_unknown(app, basic, seen, service_a):
    wrong = seen(app.post("/oauth/token", ANY, headers=basic(service_a.client_id, "wrong"), status=401))
    assert seen(app.post("/oauth/token", ANY, headers=basic("dïenst-\N{SNOWMAN}", "x"), status=401)) == wrong


@every_endpoint
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_t6_the_scheme_is_case_insensitive(app, service_a, basic, path, scheme):
    value = basic(service_a.client_id, service_a.secret)["Authorization"].partition(" ")[2]
    app.post(path, ANY, headers={"Authorization": f"{scheme} {value}"}, status=200)


MALFORMED = {
    "no colon": encoded("service-a"),
    "empty": encoded(""),
    "nothing after the scheme": {"Authorization": "Basic"},
    "a space after the scheme": {"Authorization": "Basic "},
    "only a colon": encoded(":"),
    "no id": encoded(":secret"),
    "no secret": encoded("service-a:"),
    "bytes that are not UTF-8": encoded(b"service-a:\xff"),
    "an id that is not UTF-8": encoded(b"\xfe:secret"),
    "percent to bytes that are not UTF-8": encoded("service-a:%ff"),
    "percent to a surrogate": encoded("service-a:%ed%a0%80"),
    "a broken percent": encoded("service-a:%4"),
    "NUL": encoded(b"service-a\0:secret"),
    "percent NUL": encoded("service-a%00:secret"),
    "not base64": {"Authorization": "Basic !!!!"},
    "base64url": {"Authorization": "Basic _-_-"},
    "no padding": {"Authorization": "Basic YTpiYg"},
    "characters after the padding": {"Authorization": "Basic YTpiYg==YQ=="},
    "two headers joined": {"Authorization": "Basic YTpi, Basic YTpi"},
    "Latin-1": {"Authorization": "Basic \xe9\xe8"},
    "another scheme": {"Authorization": "Bearer YTpi"},
    "no scheme": {"Authorization": "YTpi"},
}


@every_endpoint
@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_t7_malformed_basic_is_a_failed_authentication(app, service_a, path, headers):
    answer = app.post(path, ANY, headers=headers, status=401)
    assert answer.json["error"] == "invalid_client"
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="authserver"'


@every_endpoint
def test_t8_two_methods_are_refused_even_if_both_are_right(app, service_a, basic, stored_tokens, path):
    both = ANY | service_a.form
    headers = basic(service_a.client_id, service_a.secret)
    assertion = {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    assertion["client_assertion"] = "e30.e30.e30"
    for body, more in (
        (both, headers),
        (ANY | {"client_secret": service_a.secret}, headers),
        (both, encoded("wrong:wrong")),
        (both, {"Authorization": "Bearer x"}),
        (both, {"Authorization": "Basic malformed"}),
        (ANY | assertion, headers),
        (both | assertion, {}),
    ):
        answer = app.post(path, body, headers=more, status=400)
        assert answer.json["error"] == "invalid_request"
    assert stored_tokens() == 0


@every_endpoint
def test_t9_the_same_bare_client_id_beside_basic_is_accepted(app, service_a, basic, path):
    headers = basic(service_a.client_id, service_a.secret)
    app.post(path, ANY | {"client_id": service_a.client_id}, headers=headers, status=200)


@every_endpoint
def test_t9_a_different_client_id_beside_basic_is_refused(app, service_a, service_b, basic, path):
    headers = basic(service_a.client_id, service_a.secret)
    for other in (service_b.client_id, "nobody", "SERVICE-A"):
        answer = app.post(path, ANY | {"client_id": other}, headers=headers, status=400)
        assert answer.json["error"] == "invalid_request"


@pytest.fixture
def failures(make_client, server, clock):
    """Credentials that must all fail in the same way, by what is wrong with them."""
    good = make_client("good", scopes=["read"])
    expired = make_client("expired", scopes=["read"])
    server.clients.add_secret("expired", NewSecret("short", hash_credential("short-lived"), int(clock()) + 60))
    deleted = make_client("deleted", scopes=["read"])
    server.clients.delete("deleted")
    bare = make_client("bare", scopes=["read"])
    server.clients.remove_secret("bare", "first")
    clock.advance(60)
    return {
        "unknown client": ("nobody", good.secret),
        "wrong secret": ("good", "wrong"),
        "another client's secret": ("good", expired.secret),
        "beginning of the secret": ("good", good.secret[:-1]),
        "secret and more": ("good", good.secret + "A"),
        "secret in capitals": ("good", good.secret.upper()),
        "the stored hash": ("good", hash_credential(good.secret).hex()),
        "expired secret": ("expired", "short-lived"),
        "deleted client": ("deleted", deleted.secret),
        "client without secrets": ("bare", bare.secret),
        "id in capitals": ("GOOD", good.secret),
    }


@every_endpoint
def test_t11_every_failure_looks_the_same(app, failures, basic, seen, path, clock):
    answers = {}
    for name, (client_id, secret) in failures.items():
        clock.advance(60)  # or so many failures would be throttled
        form = ANY | {"client_id": client_id, "client_secret": secret}
        answers[name, "basic"] = seen(app.post(path, ANY, headers=basic(client_id, secret), status=401))
        answers[name, "post"] = seen(app.post(path, form, status=401))
    first, *_ = answers.values()
    assert answers == dict.fromkeys(answers, first)
    assert b"invalid_client" in first[1]


@every_endpoint
def test_t11_every_failure_asks_the_database_once_and_is_counted_once(app, failures, basic, asked, path):
    # Also where the process remembers the client from an earlier success.
    good_id, good_secret = "good", failures["unknown client"][1]
    app.post(path, ANY, headers=basic(good_id, good_secret), status=200)
    counts = {}
    for name, (client_id, secret) in failures.items():
        headers = basic(client_id, secret)
        counts[name] = asked(lambda headers=headers: app.post(path, ANY, headers=headers, status=401))
    assert counts == dict.fromkeys(failures, 2)


@every_endpoint
def test_t11_a_client_without_credentials_looks_the_same(app, seen, service_a, path):
    wrong = seen(app.post(path, ANY | {"client_id": "service-a", "client_secret": "wrong"}, status=401))
    assert seen(app.post(path, ANY, status=401)) == wrong
    assert seen(app.post(path, ANY | {"client_id": "service-a"}, status=401)) == wrong
    assert seen(app.post(path, ANY | {"client_secret": service_a.secret}, status=401)) == wrong


def test_t11_a_secret_stops_at_its_expiry_to_the_second(app, make_client, server, clock):
    make_client("c", scopes=["read"])
    server.clients.add_secret("c", NewSecret("short", hash_credential("short-lived"), int(clock()) + 60))
    form = ANY | {"client_id": "c", "client_secret": "short-lived"}
    clock.advance(59)
    app.post("/oauth/token", form, status=200)
    clock.advance(1)
    app.post("/oauth/token", form, status=401)


@every_endpoint
def test_t11_a_deleted_client_is_refused_at_once_by_a_process_that_remembers_it(
    app, other_app, service_a, server, path
):
    for each in (app, other_app):
        each.post(path, ANY | service_a.form, status=200)
    server.clients.delete(service_a.client_id)
    for each in (app, other_app):
        each.post(path, ANY | service_a.form, status=401)


@every_endpoint
def test_t11_a_removed_secret_is_refused_at_once_by_a_process_that_remembers_it(
    app, other_app, service_a, server, path
):
    server.clients.add_secret(service_a.client_id, NewSecret("second", hash_credential("the second")))
    second = {"client_id": service_a.client_id, "client_secret": "the second"}
    for form in (service_a.form, second):
        other_app.post(path, ANY | form, status=200)
    server.clients.remove_secret(service_a.client_id, "first")
    other_app.post(path, ANY | service_a.form, status=401)
    other_app.post(path, ANY | second, status=200)


@every_endpoint
def test_t11_an_added_secret_works_at_once_in_a_process_that_remembers_the_client(other_app, service_a, server, path):
    second = {"client_id": service_a.client_id, "client_secret": "the second"}
    other_app.post(path, ANY | service_a.form, status=200)
    other_app.post(path, ANY | second, status=401)
    server.clients.add_secret(service_a.client_id, NewSecret("second", hash_credential("the second")))
    other_app.post(path, ANY | second, status=200)
    other_app.post(path, ANY | service_a.form, status=200)


def test_t11_an_expiry_set_by_hand_counts_at_once(other_app, service_a, database, clock):
    other_app.post("/oauth/token", ANY | service_a.form, status=200)
    database.fetch_all(
        "UPDATE client_secrets SET expires_at = to_timestamp(%(now)s) RETURNING 1", {"now": int(clock()) - 1}
    )
    other_app.post("/oauth/token", ANY | service_a.form, status=401)


@every_endpoint
def test_t11_a_client_made_again_under_its_old_name_has_only_its_new_secret(app, other_app, make_client, server, path):
    old = make_client("again", scopes=["read"])
    for each in (app, other_app):
        each.post(path, ANY | old.form, status=200)
    server.clients.delete("again")
    new = make_client("again", scopes=["read"])
    for each in (app, other_app):
        each.post(path, ANY | old.form, status=401)
        each.post(path, ANY | new.form, status=200)


@every_endpoint
def test_t12_a_failed_authentication_is_challenged(app, service_a, basic, path):
    for headers, form in (
        (basic("service-a", "wrong"), {}),
        (basic("nobody", "wrong"), {}),
        ({}, {"client_id": "service-a", "client_secret": "wrong"}),
        ({}, {}),
    ):
        answer = app.post(path, ANY | form, headers=headers, status=401)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="authserver"'


@pytest.mark.parametrize("method", [None, "client_secret_basic", "client_secret_post"])
@every_endpoint
def test_t13_a_client_with_a_secret_may_use_basic_and_post_alike(app, register, basic, path, method):
    chosen = {"token_endpoint_auth_method": method} if method else {}
    client = register(scope="read", **chosen)
    form = {name: client[name] for name in ("client_id", "client_secret")}
    app.post(path, ANY | form, status=200)
    app.post(path, ANY, headers=basic(*form.values()), status=200)


@pytest.mark.parametrize("method", ["private_key_jwt", "none", "tls_client_auth"])
@every_endpoint
def test_t13_a_method_that_is_not_the_clients_is_refused(app, make_client, basic, seen, path, method):
    client = make_client(scopes=["read"], token_endpoint_auth_method=method)
    wrong = seen(app.post(path, ANY, headers=basic(client.client_id, "wrong"), status=401))
    assert seen(app.post(path, ANY, headers=basic(client.client_id, client.secret), status=401)) == wrong
    assert seen(app.post(path, ANY | client.form, status=401)) == wrong


@pytest.mark.parametrize(
    "request_of_a_stranger",
    [
        {"unknown": "parameter"},
        {"grant_type": "password"},
        {"grant_type": "client_credentials", "scope": "read"},
        {"grant_type": "client_credentials", "scope": '"'},
        {"grant_type": "client_credentials", "scope": "no such"},
        {"grant_type": "client_credentials", "resource": "#"},
        {"grant_type": "client_credentials", "resource": RESOURCE},
        {"token": "x"},
    ],
)
@every_endpoint
def test_t14_authentication_is_decided_first(app, service_a, service_b, basic, seen, path, request_of_a_stranger):
    expected = seen(app.post(path, ANY, headers=basic("nobody", "x"), status=401))
    # Service B may not use the grant; that, too, is told to itself only.
    for client_id in ("nobody", service_a.client_id, service_b.client_id):
        answer = app.post(path, request_of_a_stranger, headers=basic(client_id, "wrong"), status=401)
        assert seen(answer) == expected


def test_t14_a_change_to_a_client_counts_at_once_in_a_process_that_remembers_it(other_app, service_a, database):
    write = GRANT | service_a.form | {"scope": "write"}
    other_app.post("/oauth/token", write, status=200)
    database.fetch_all("UPDATE clients SET scopes = '{read}' WHERE client_id = 'service-a' RETURNING 1")
    assert other_app.post("/oauth/token", write, status=400).json["error"] == "invalid_scope"
    database.fetch_all("UPDATE clients SET scopes = '{read,write}' WHERE client_id = 'service-a' RETURNING 1")
    other_app.post("/oauth/token", write, status=200)
    database.fetch_all("UPDATE clients SET grant_types = '{}' WHERE client_id = 'service-a' RETURNING 1")
    assert other_app.post("/oauth/token", write, status=400).json["error"] == "unauthorized_client"


def test_no_credential_is_logged(app, service_a, basic, caplog):
    caplog.set_level("DEBUG")
    token = service_a.token(app)
    service_a.introspect(app, token)
    app.post("/oauth/token", ANY, headers=basic("service-a", service_a.secret + "x"), status=401)
    app.post("/oauth/token", service_a.form | {"scope": service_a.secret}, status=400)
    app.post("/oauth/token", service_a.form, headers=basic("service-a", service_a.secret), status=400)
    assert caplog.records
    for secret in (service_a.secret, token):
        assert secret[5:15] not in caplog.text
