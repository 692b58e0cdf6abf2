"""POST /oauth/introspect (RFC 7662)."""

import json
from urllib.parse import urlencode

import pytest

RESOURCE = "https://b.example"
INTROSPECT = "/oauth/introspect"
INACTIVE = {"active": False}


def tampered(token: str, expires_at: int) -> str:
    """The token with another expiry written into it."""
    return f"{token[:5]}{expires_at:08x}{token[13:]}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_i1_other_methods_are_not_allowed(app, service_a, method):
    query = urlencode({"token": service_a.token(app)} | service_a.form)
    answer = app.request(f"{INTROSPECT}?{query}", method=method, status=405)
    assert answer.headers["Allow"] == "POST"


def test_i1_only_a_form_is_read(app, service_a, basic):
    headers = basic(service_a.client_id, service_a.secret)
    token = service_a.token(app)
    assert app.post_json(INTROSPECT, {"token": token}, headers=headers, status=400).json["error"] == "invalid_request"
    body = urlencode({"token": token})
    app.post(INTROSPECT, body, headers=headers, content_type="text/plain", status=400)
    # The token is not looked for in the query (§2.1).
    assert app.post(f"{INTROSPECT}?{body}", "", headers=headers, status=400).json["error"] == "invalid_request"


def test_i2_without_good_credentials_nothing_is_told(app, service_a, service_b, basic, seen):
    token = service_a.token(app)
    refusals = [
        app.post(INTROSPECT, {"token": token}, status=401),
        app.post(INTROSPECT, {"token": "unknown"}, headers=basic("service-b", "wrong"), status=401),
        app.post(INTROSPECT, {"token": token}, headers=basic("service-b", "wrong"), status=401),
        app.post(INTROSPECT, {"token": token}, headers=basic("nobody", "wrong"), status=401),
        app.post(INTROSPECT, {"unknown": "parameter"}, headers=basic("service-b", "wrong"), status=401),
        # An access token is no client credential here.
        app.post(INTROSPECT, {"token": token}, headers={"Authorization": f"Bearer {token}"}, status=401),
    ]
    assert len({str(seen(answer)) for answer in refusals}) == 1
    assert refusals[0].json["error"] == "invalid_client"
    assert refusals[0].headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"Token": "x"}, {"token_type_hint": "access_token"}])
def test_i2_the_token_is_required(app, service_b, form):
    assert app.post(INTROSPECT, service_b.form | form, status=400).json["error"] == "invalid_request"


def test_i3_whatever_is_not_a_live_token_for_the_caller_is_just_inactive(
    app, service_a, service_b, make_client, server, clock, seen
):
    token, revoked = service_a.token(app), service_a.token(app)
    service_a.revoke(app, revoked)
    gone = make_client("gone", scopes=["read"], audiences=[RESOURCE])
    orphan = gone.token(app)
    server.clients.delete("gone")
    stranger = make_client("stranger", scopes=["read"], audiences=["urn:elsewhere"])
    now = int(clock())
    others = {
        "unknown": token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB"),
        "revoked": revoked,
        "its client deleted": orphan,
        "not for the caller": stranger.token(app),
        "later expiry": tampered(token, now + 7200),
        "latest expiry": tampered(token, 0xFFFFFFFF),
        "earlier expiry": tampered(token, now + 10),
        "past expiry": tampered(token, now - 10),
        "no expiry": tampered(token, 0),
        "expiry in capitals": token[:5] + "ABCDEF01" + token[13:],
        "cut": token[:-1],
        "longer": token + "A",
        "padded": token + "=",
        "with a space": token + " ",
        "with a newline": token + "\n",
        "in capitals": token.upper(),
        "the wrong marker": token.replace("asat_", "ascs_"),
        "a client secret": service_a.secret,
        "a JWT": "eyJhbGciOiJub25lIn0.e30.",
        "one character": "x",
        "not ASCII": "\N{SNOWMAN}",
        "SQL": "' OR 1=1 --",
        "very long": "a" * 60_000,
    }
    answers = {name: seen(app.post(INTROSPECT, service_b.form | {"token": value})) for name, value in others.items()}
    clock.advance(3600)
    answers["expired"] = seen(app.post(INTROSPECT, service_b.form | {"token": token}))
    first = answers["unknown"]
    assert answers == dict.fromkeys(answers, first)
    assert first[0] == "200 OK"
    assert json.loads(first[1]) == INACTIVE


def test_i3_a_token_expires_to_the_second_and_a_tampered_one_is_not_revived(app, service_a, service_b, clock):
    token = service_a.token(app)
    clock.advance(3599)
    assert service_b.introspect(app, token)["active"] is True
    clock.advance(1)
    assert service_b.introspect(app, token) == INACTIVE
    assert service_b.introspect(app, tampered(token, int(clock()) + 3600)) == INACTIVE


def test_i3_the_tokens_of_a_client_made_again_stay_dead(app, other_app, make_client, service_b, server):
    gateway = make_client("gateway", permissions=["introspect:any"])
    old = make_client("again", scopes=["read"], audiences=[RESOURCE])
    token = old.token(app)
    assert gateway.introspect(other_app, token)["active"] is True
    server.clients.delete("again")
    new = make_client("again", scopes=["read"], audiences=[RESOURCE])
    for each in (app, other_app):
        assert gateway.introspect(each, token) == INACTIVE
        assert service_b.introspect(each, token) == INACTIVE
        assert new.introspect(each, token) == INACTIVE


def test_i4_an_active_token_is_described(app, service_a, service_b, clock):
    issued_at = int(clock())
    token = service_a.token(app, scope="write read")
    clock.advance(5)
    answer = app.post(INTROSPECT, service_b.form | {"token": token}, status=200)
    assert answer.content_type == "application/json"
    described = answer.json
    assert set(described.pop("scope").split(" ")) == {"read", "write"}
    assert described == {
        "active": True,
        "client_id": "service-a",
        "token_type": "Bearer",
        "sub": "service-a",
        "aud": [RESOURCE],
        "iss": "https://as.example",
        "iat": issued_at,
        "exp": issued_at + 3600,
    }
    # JSON numbers without a fraction, and JSON true: 1 == True in Python.
    assert [type(described[name]) for name in ("active", "iat", "exp")] == [bool, int, int]


def test_i4a_the_requested_resources_are_the_audience(app, make_client):
    client = make_client(scopes=["read"], audiences=["urn:one", "urn:two"])
    one, two = (make_client(resource_identifiers=[name]) for name in ("urn:one", "urn:two"))
    token = client.token(app, resource="urn:one")
    assert client.introspect(app, token)["aud"] == ["urn:one"]
    assert one.introspect(app, token)["aud"] == ["urn:one"]
    assert two.introspect(app, token) == INACTIVE


def test_i4a_without_resource_the_registered_audiences_are_the_audience(app, make_client):
    client = make_client(scopes=["read"], audiences=["urn:one", "urn:two"])
    callers = [client, *(make_client(resource_identifiers=[name]) for name in ("urn:one", "urn:two"))]
    token = client.token(app)
    assert [caller.introspect(app, token)["aud"] for caller in callers] == [["urn:one", "urn:two"]] * 3


def test_i4a_without_any_audience_only_the_client_and_gateways_see_the_token(app, make_client, service_b):
    client = make_client(scopes=["read"])
    nobody = make_client()
    gateway = make_client(permissions=["introspect:any"])
    token = client.token(app)
    for caller in (client, gateway):
        described = caller.introspect(app, token)
        assert described["active"] is True
        assert "aud" not in described
    for caller in (service_b, nobody):
        assert caller.introspect(app, token) == INACTIVE


def test_i4a_a_gateway_sees_every_live_token(app, make_client, service_a):
    gateway = make_client(permissions=["introspect:any"])
    token = service_a.token(app)
    assert gateway.introspect(app, token)["client_id"] == "service-a"
    service_a.revoke(app, token)
    assert gateway.introspect(app, token) == INACTIVE


def test_i4a_a_permission_withdrawn_counts_at_once(app, other_app, make_client, service_a, database):
    gateway = make_client("gateway", permissions=["introspect:any"])
    token = service_a.token(app)
    assert gateway.introspect(other_app, token)["active"] is True
    database.fetch_all("UPDATE clients SET permissions = '{}' WHERE client_id = 'gateway' RETURNING 1")
    assert gateway.introspect(other_app, token) == INACTIVE


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "pop", "", "\N{SNOWMAN}", "x" * 1000])
def test_i5_the_hint_does_not_matter(app, service_a, service_b, hint):
    assert service_b.introspect(app, service_a.token(app), token_type_hint=hint)["active"] is True


def test_i6_a_caller_outside_the_audience_learns_nothing(app, service_a, make_client, seen, asked):
    stranger = make_client("stranger", scopes=["read"], audiences=[RESOURCE], resource_identifiers=["urn:stranger"])
    live = service_a.token(app)
    unknown = live[:13] + "A" * 43
    revoked = service_a.token(app)
    service_a.revoke(app, revoked)
    answers, counts = [], []
    for token in (unknown, live, revoked, "malformed"):
        form = stranger.form | {"token": token}
        counts.append(asked(lambda form=form: answers.append(seen(app.post(INTROSPECT, form, status=200)))))
    assert answers == answers[:1] * 4
    assert json.loads(answers[0][1]) == INACTIVE
    # Not by time either: the first request also loads the client and notes the use of its secret.
    assert counts == [3, 1, 1, 1]


def test_i6_being_allowed_to_request_tokens_for_a_resource_is_not_being_it(app, service_a, make_client):
    neighbour = make_client(scopes=["read"], audiences=[RESOURCE])
    assert neighbour.introspect(app, service_a.token(app)) == INACTIVE


@pytest.mark.parametrize(
    "resembling", ["https://b.example/", "https://b.example:443", "HTTPS://b.example", "https://b.example/x", "https:b"]
)
def test_i6_a_similar_resource_identifier_is_another(app, service_a, make_client, resembling):
    caller = make_client(resource_identifiers=[resembling])
    assert caller.introspect(app, service_a.token(app)) == INACTIVE


def test_i7_no_answer_is_stored(app, service_a, service_b):
    token = service_a.token(app)
    for answer in (
        app.post(INTROSPECT, service_b.form | {"token": token}, status=200),
        app.post(INTROSPECT, service_b.form | {"token": "x"}, status=200),
        app.post(INTROSPECT, service_b.form, status=400),
        app.post(INTROSPECT, {"token": token}, status=401),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Pragma"] == "no-cache"
        assert "ETag" not in answer.headers


def test_i7_nothing_is_remembered_past_expiry_or_revocation(app, other_app, service_a, service_b, clock):
    token, revoked = service_a.token(app), service_a.token(app)
    for _ in range(3):
        assert service_b.introspect(other_app, token)["active"] is True
        assert service_b.introspect(other_app, revoked)["active"] is True
    service_a.revoke(app, revoked)
    assert service_b.introspect(other_app, revoked) == INACTIVE
    clock.advance(3600)
    assert service_b.introspect(other_app, token) == INACTIVE
