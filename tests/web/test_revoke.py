"""POST /oauth/revoke (RFC 7009)."""

from urllib.parse import urlencode

import pytest
import webtest

from authserver.app import create_app
from authserver.dev.postgres import EmbeddedPostgres
from authserver.flows.register import create_client
from authserver.flows.server import make_server
from authserver.migrate import migrate, read_migrations
from authserver.oauth.registration import ClientMetadata
from authserver.store.database import Database
from authserver.store.schema_migrations import SchemaMigrations

RESOURCE = "https://b.example"
REVOKE = "/oauth/revoke"
INACTIVE = {"active": False}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_r1_other_methods_are_not_allowed(app, service_a, method):
    token = service_a.token(app)
    query = urlencode({"token": token} | service_a.form)
    assert app.request(f"{REVOKE}?{query}", method=method, status=405).headers["Allow"] == "POST"
    assert service_a.introspect(app, token)["active"] is True


def test_r1_only_a_form_is_read(app, service_a, basic):
    headers = basic(service_a.client_id, service_a.secret)
    token = service_a.token(app)
    assert app.post_json(REVOKE, {"token": token}, headers=headers, status=400).json["error"] == "invalid_request"
    body = urlencode({"token": token})
    assert app.post(f"{REVOKE}?{body}", "", headers=headers, status=400).json["error"] == "invalid_request"
    assert service_a.introspect(app, token)["active"] is True


def test_r1_the_client_is_authenticated_first(app, service_a, basic, seen):
    token = service_a.token(app)
    refusals = [
        app.post(REVOKE, {"token": token}, status=401),
        app.post(REVOKE, {"token": token, "client_id": "service-a"}, status=401),
        app.post(REVOKE, {"token": token}, headers=basic("service-a", "wrong"), status=401),
        app.post(REVOKE, {"token": "unknown"}, headers=basic("nobody", "wrong"), status=401),
        app.post(REVOKE, {"unknown": "parameter"}, headers=basic("service-a", "wrong"), status=401),
    ]
    assert len({str(seen(answer)) for answer in refusals}) == 1
    assert refusals[0].json["error"] == "invalid_client"
    assert service_a.introspect(app, token)["active"] is True


def test_r2_a_revoked_token_is_inactive_everywhere_from_the_answer_on(
    app, other_app, service_a, service_b, make_client
):
    gateway = make_client(permissions=["introspect:any"])
    token, kept = service_a.token(app), service_a.token(app)
    callers = (service_a, service_b, gateway)
    assert all(caller.introspect(each, token)["active"] for caller in callers for each in (app, other_app))
    answer = service_a.revoke(app, token)
    assert answer.status_int == 200
    assert answer.body in (b"", b"{}")
    for each in (app, other_app):
        for caller in callers:
            assert caller.introspect(each, token) == INACTIVE
            assert caller.introspect(each, kept)["active"] is True


def test_r2_the_revocation_is_committed_when_it_is_answered(app, service_a, database_url):
    token = service_a.token(app)
    service_a.revoke(app, token)
    # A connection that shares nothing with the server's.
    onlooker = Database(database_url)
    assert onlooker.fetch_all("SELECT count(*) FROM access_tokens WHERE revoked_at IS NOT NULL") == [(1,)]
    onlooker.close()


def test_r3_what_cannot_be_revoked_is_answered_alike(app, service_a, seen, clock):
    token, expired = service_a.token(app), service_a.token(app)
    answers = [
        seen(service_a.revoke(app, value))
        for value in (token, token, token[:-4] + "AAAA", "malformed", "\N{SNOWMAN}", "x" * 60_000, service_a.secret)
    ]
    clock.advance(3600)
    answers += [seen(service_a.revoke(app, value)) for value in (expired, token)]
    assert answers == answers[:1] * 9
    assert answers[0][0] == "200 OK"


def test_r3_revoking_twice_keeps_the_time_of_the_first(app, service_a, database, clock):
    token, first = service_a.token(app), int(clock())
    service_a.revoke(app, token)
    clock.advance(10)
    service_a.revoke(app, token)
    assert database.fetch_all("SELECT revoked_at FROM access_tokens") == [(first,)]


def test_r4_another_clients_token_is_not_revoked(app, service_a, service_b, make_client, seen, asked):
    others = [
        make_client("neighbour", scopes=["read"], audiences=[RESOURCE]),
        make_client("gateway", permissions=["introspect:any"]),
        service_b,
    ]
    token = service_a.token(app)
    for other in others:
        other.revoke(app, "malformed")
        answers = []
        counts = [
            asked(lambda value=value, other=other: answers.append(seen(other.revoke(app, value))))
            for value in (token, token[:13] + "A" * 43, "malformed")
        ]
        assert answers == answers[:1] * 3
        assert counts == [1, 1, 1]
        assert service_a.introspect(app, token)["active"] is True
        assert service_b.introspect(app, token)["active"] is True


def test_r4_a_tampered_token_revokes_nothing(app, service_a):
    token = service_a.token(app)
    service_a.revoke(app, f"{token[:5]}ffffffff{token[13:]}")
    service_a.revoke(app, token[:-1])
    assert service_a.introspect(app, token)["active"] is True


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "pop", "", "\N{SNOWMAN}"])
def test_r5_the_hint_does_not_matter(app, service_a, hint):
    token = service_a.token(app)
    assert service_a.revoke(app, token, token_type_hint=hint).status_int == 200
    assert service_a.introspect(app, token) == INACTIVE


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token_type_hint": "access_token"}])
def test_r5_the_token_is_required(app, service_a, form):
    assert app.post(REVOKE, service_a.form | form, status=400).json["error"] == "invalid_request"


@pytest.mark.parametrize("path", [REVOKE, "/oauth/token", "/oauth/introspect"])
@pytest.mark.parametrize("token", [f"asat_ffffffff{'A' * 43}", "malformed"])
def test_r6_without_database_the_answer_is_503(app_without_database, path, token):
    form = {"client_id": "a", "client_secret": "b", "token": token, "grant_type": "client_credentials"}
    answer = app_without_database.post(path, form, status=503)
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(answer.json) == {"error", "error_description"}
    assert answer.headers["Cache-Control"] == "no-store"


def test_r6_a_database_that_dies_makes_no_false_200(tmp_path, policy, give_roles):
    with EmbeddedPostgres(tmp_path / "data", {"fsync": "off"}) as postgres:
        url = give_roles(postgres)
        operator, database = Database(url("authserver_owner")), Database(url("authserver_app"))
        migrate(SchemaMigrations(operator), read_migrations(), lambda _line: None)
        app = webtest.TestApp(create_app(make_server(policy, database)))
        made = create_client(
            make_server(policy, operator), "a", ClientMetadata(scopes=["read"], default_scopes=["read"])
        )
        form = {"client_id": "a", "client_secret": made.secret}
        tokens = [
            app.post("/oauth/token", form | {"grant_type": "client_credentials"}).json["access_token"] for _ in range(2)
        ]
        assert app.post("/oauth/introspect", form | {"token": tokens[0]}).json["active"] is True
        postgres.kill()
        # The process remembers the client; of the token it must not pretend to know anything.
        for path in (REVOKE, "/oauth/introspect", "/oauth/token"):
            for value in (*tokens, "malformed"):
                gone = app.post(path, form | {"token": value, "grant_type": "client_credentials"}, status=503)
                assert int(gone.headers["Retry-After"]) >= 1
        operator.close()
        database.close()
