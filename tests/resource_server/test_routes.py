"""The example service and other Falcon apps, through the front door."""

import falcon
import pytest
import webtest

from resource_server import PUBLIC, ConfigError, Guard, ResourceServer, Scope
from resource_server.access_token import AccessToken
from resource_server.introspection import facts

NOW = 1_800_000_000
PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}


class Echo:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def on_get(self, req, resp):
        resp.media = {"token": getattr(req.context, "token", None) is not None}

    on_head = on_post = on_delete = on_get


def sink(_req, resp, **_kwargs):
    resp.media = {"leaked": True}


@pytest.fixture
def server():
    def verify(token, _deadline=None):
        return AccessToken("s", "c", frozenset(token.split("."))) if token != "bad" else None

    return ResourceServer(Guard(verify, wall=lambda: NOW))


def challenge_of(response):
    return response.headers["WWW-Authenticate"]


def test_public_routes_need_nothing(client, upstream):
    for path in ("/public", "/health", "/ready"):
        client.get(path, status=200)
    assert not upstream.calls


def test_a_good_token_is_served_and_described(client, upstream, bearer, basic_pair):
    token = upstream.knows("good", exp=4_000_000_000, scope="write read")
    answer = client.get("/protected", headers=bearer(token), status=200)
    assert answer.json["scopes"] == ["read", "write"]
    assert (answer.json["subject"], answer.json["client_id"], answer.json["expires_at"]) == (
        "s",
        "c",
        4_000_000_000,
    )
    assert "good" not in answer.text
    (call,) = upstream.calls
    assert call.form == {"token": ["good"], "token_type_hint": ["access_token"]}
    assert basic_pair(call.authorization) == "resource+server:p%3Aw%2B%C3%BC"


def test_revocation_works_at_once_with_the_default_settings(client, upstream, bearer):
    client.get("/protected", status=401)
    upstream.knows("t")
    client.get("/protected", headers=bearer("t"), status=200)
    del upstream.tokens["t"]
    client.get("/protected", headers=bearer("t"), status=401)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}])
def test_s1_no_token_is_401_without_error(client, upstream, headers):
    answer = client.get("/protected", headers=headers, status=401)
    assert challenge_of(answer) == 'Bearer realm="resource_server"'
    assert answer.json.keys() == {"error", "error_description"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert not upstream.calls


@pytest.mark.parametrize("value", ["Bearer", "Bearer a b", "Bearer a,Bearer b"])
def test_s2_malformed_credentials_are_400_without_upstream_call(client, upstream, value):
    answer = client.get("/protected", headers={"Authorization": value}, status=400)
    assert answer.json["error"] == "invalid_request"
    assert not upstream.calls


@pytest.mark.parametrize("token", ["a%b", "a" * 4097])
def test_s3_no_token_at_all_is_401_without_upstream_call(client, upstream, bearer, token):
    answer = client.get("/protected", headers=bearer(token), status=401)
    assert answer.json["error"] == "invalid_token"
    assert not upstream.calls


def test_s4_token_in_query_together_with_header_is_400(client, upstream, bearer):
    upstream.knows("t")
    client.get("/protected?access_token=t", headers=bearer("t"), status=400)
    assert challenge_of(client.get("/protected?access_token=t", status=401)) == 'Bearer realm="resource_server"'
    assert not upstream.calls


def test_s4_token_in_body_is_not_looked_at(server):
    app = server.app()
    app.add_route("/", Echo())
    webtest.TestApp(app).post("/", {"access_token": "read"}, status=401)


def test_s5_inactive_is_401_invalid_token(client, bearer):
    answer = client.get("/protected", headers=bearer("unknown"), status=401)
    assert 'error="invalid_token"' in challenge_of(answer)
    assert answer.json["error"] == "invalid_token"


@pytest.mark.parametrize("active", ["true", None, 1, [], "absent"])
def test_s5_active_that_is_no_boolean_is_503(client, upstream, bearer, active):
    upstream.knows("t", active=active)
    if active == "absent":
        del upstream.tokens["t"]["active"]
    assert client.get("/protected", headers=bearer("t"), status=503).headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "facts",
    [{"exp": "4000000000"}, {"exp": True}, {"exp": 10**300}, {"scope": ["read"]}, {"aud": 1}, {"aud": [1]}],
)
def test_s5_facts_of_the_wrong_type_are_503(client, upstream, bearer, facts):
    upstream.knows("t", **facts)
    client.get("/protected", headers=bearer("t"), status=503)


@pytest.mark.parametrize("facts", [{"exp": NOW}, {"exp": 0}, {"nbf": NOW + 1}, {"nbf": NOW + 0.5}])
def test_s6_exp_past_or_nbf_ahead_is_401(make_config, upstream, bearer, facts):
    server = ResourceServer.from_config(make_config())
    server.guard._wall = lambda: NOW
    app = server.app()
    app.add_route("/", Echo())
    webtest.TestApp(app).get("/", headers=bearer(upstream.knows("good", exp=NOW + 1, nbf=NOW)), status=200)
    webtest.TestApp(app).get("/", headers=bearer(upstream.knows("bad", **facts)), status=401)


@pytest.mark.parametrize("scope", ["reader", "READ", "write", "", "read\twrite", None])
def test_s7_scope_missing_is_403(client, upstream, bearer, scope):
    answer = client.get("/protected", headers=bearer(upstream.knows("t", scope=scope)), status=403)
    assert 'error="insufficient_scope"' in challenge_of(answer)
    assert 'scope="read"' in challenge_of(answer)
    assert answer.json["error"] == "insufficient_scope"


def test_s7_each_method_has_its_own_needs(server, bearer):
    app = server.app()
    app.add_route("/", Echo(auth=Scope("read", "write", GET=PUBLIC, DELETE="admin")))
    client = webtest.TestApp(app)
    assert client.get("/", status=200).json == {"token": False}
    client.head("/", status=200)
    client.post("/", headers=bearer("read"), status=403)
    assert client.post("/", headers=bearer("read.write"), status=200).json == {"token": True}
    client.delete("/", headers=bearer("read.write"), status=403)
    client.delete("/", headers=bearer("admin"), status=200)
    client.put("/", status=401)
    client.put("/", headers=bearer("read.write"), status=405)


def test_s7_head_needs_what_get_needs(server, bearer):
    app = server.app()
    app.add_route("/", Echo(auth=Scope("read", GET="admin")))
    webtest.TestApp(app).head("/", headers=bearer("read"), status=403)


def test_s8_a_cached_token_does_not_pass_another_scope(make_config, upstream, bearer):
    app = ResourceServer.from_config(make_config(cache_ttl=30)).app()
    app.add_route("/read", Echo())
    app.add_route("/admin", Echo(auth=Scope("admin")))
    client, token = webtest.TestApp(app), upstream.knows("t")
    client.get("/read", headers=bearer(token), status=200)
    client.get("/admin", headers=bearer(token), status=403)
    client.get("/read", headers=bearer(token), status=200)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    ("resource", "path"),
    [("https://api.example", ""), ("https://api.example/", ""), ("https://api.example/v1", "/v1")],
)
def test_s9_metadata_is_published_and_named_in_challenges(make_client, upstream, bearer, resource, path):
    client = make_client(resource=resource, authorization_server="https://as.example")
    document = client.get(f"/.well-known/oauth-protected-resource{path}", status=200).json
    assert document == {
        "resource": resource,
        "authorization_servers": ["https://as.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["read"],
    }
    url = f'resource_metadata="https://api.example/.well-known/oauth-protected-resource{path}"'
    assert challenge_of(client.get("/protected", status=401)).count(url) == 1
    assert challenge_of(client.get("/protected", headers=bearer("x"), status=401)).count(url) == 1


def test_s9_without_a_resource_there_is_no_metadata(client):
    client.get("/.well-known/oauth-protected-resource", status=404)
    assert "resource_metadata" not in challenge_of(client.get("/protected", status=401))


@pytest.mark.parametrize(
    ("aud", "status"),
    [
        ("https://me", 200),
        (["x", "https://me"], 200),
        ("https://me/", 401),
        (["https://ME"], 401),
        (None, 401),
        ([], 401),
    ],
)
def test_s10_audience_not_ours_is_401(make_client, upstream, bearer, aud, status):
    client = make_client(resource="https://me")
    answer = client.get("/protected", headers=bearer(upstream.knows("t", aud=aud)), status=status)
    assert status == 200 or 'error="invalid_token"' in challenge_of(answer)


def test_a_sender_constrained_token_is_no_bearer_token(client, upstream, bearer):
    client.get("/protected", headers=bearer(upstream.knows("t", cnf={"jkt": "x"})), status=401)


def test_claims_are_read_only_to_the_bottom():
    token = facts({"active": True, "aud": ["a"], "x": {"y": [1]}})
    with pytest.raises(TypeError):
        token.claims["x"]["y"] = 2
    assert token.claims["aud"] == ("a",)


def test_s19_a_resource_that_declares_nothing_is_protected(server, bearer):
    app = server.app()
    app.add_route("/", Echo(auht=PUBLIC))
    webtest.TestApp(app).get("/", status=401)
    webtest.TestApp(app).get("/", headers=bearer("other"), status=403)


@pytest.mark.parametrize("auth", [None, "read", True, {"GET": "read"}, Scope, object()])
def test_s19_a_wrong_declaration_stops_the_start_or_fails_closed(server, auth, bearer):
    with pytest.raises(ConfigError):
        server.app().add_route("/", Echo(auth=auth))
    plain = falcon.App(middleware=[server])
    plain.add_route("/", Echo(auth=auth))
    webtest.TestApp(plain).get("/", headers=bearer("read"), status=500, expect_errors=True)


@pytest.mark.parametrize("arguments", [((), {}), (("a b",), {}), (("",), {}), (("ä",), {}), ((1,), {})])
def test_s19_a_scope_must_be_one(arguments):
    with pytest.raises(ConfigError):
        Scope(*arguments[0], **arguments[1])


@pytest.mark.parametrize("method", ["DELTE", "get", "OPTIONS", "WEBSOCKET"])
def test_s19_a_method_must_exist(method):
    with pytest.raises(ConfigError):
        Scope("read", **{method: "admin"})


def test_s19_sinks_and_static_routes_stop_the_start_unless_public(server, tmp_path):
    (tmp_path / "a.txt").write_text("open")
    app = server.app()
    with pytest.raises(ConfigError, match="sink"):
        app.add_sink(sink, "/s")
    with pytest.raises(ConfigError, match="static"):
        app.add_static_route("/f", tmp_path)
    webtest.TestApp(app).get("/s", status=404)
    app.add_sink(sink, "/s", auth=PUBLIC)
    app.add_static_route("/f", tmp_path, auth=PUBLIC)
    webtest.TestApp(app).get("/s", status=200)
    assert webtest.TestApp(app).get("/f/a.txt", status=200).text == "open"


def test_s19_verify_stops_the_start_of_a_plain_app(server, tmp_path):
    with_sink, with_files = falcon.App(middleware=[server]), falcon.App(middleware=[server])
    with_sink.add_sink(sink)
    with_files.add_static_route("/f", tmp_path)
    for app in (with_sink, with_files):
        with pytest.raises(ConfigError):
            server.verify(app)
    server.verify(falcon.App(middleware=[server]))


def test_s19_a_plain_app_withholds_what_bypassed_the_check(server, tmp_path, bearer):
    (tmp_path / "a.txt").write_text("leaked")
    app = falcon.App(middleware=[server])
    app.add_sink(sink, "/s")
    app.add_static_route("/f", tmp_path)
    app.add_route("/ok", Echo())
    client = webtest.TestApp(app)
    for path in ("/s", "/f/a.txt"):
        answer = client.get(path, status=500)
        assert "leaked" not in answer.text
        assert answer.json["error"] == "server_error"
    client.get("/ok", headers=bearer("read"), status=200)
    client.get("/nowhere", status=404)


def test_s19_a_false_resource_cannot_slip_through(server):
    class Empty(Echo):
        def __len__(self):
            return 0

    with pytest.raises(ConfigError):
        server.app().add_route("/", Empty())
    plain = falcon.App(middleware=[server])
    plain.add_route("/", Empty())
    webtest.TestApp(plain).get("/", status=500)


@pytest.mark.parametrize("headers", [PREFLIGHT, {}])
def test_s20_options_passes_without_a_token(server, headers):
    app = server.app(cors_enable=True)
    app.add_route("/", Echo())
    answer = webtest.TestApp(app).options("/", headers=headers, status=200)
    assert "GET" in (answer.headers.get("Access-Control-Allow-Methods") or answer.headers["Allow"])


def test_an_unexpected_error_says_nothing(server, caplog, bearer):
    class Broken:
        def on_get(self, _req, _resp):
            raise RuntimeError("inside")

    app = server.app()
    app.add_route("/", Broken())
    answer = webtest.TestApp(app).get("/?secret=canary", headers=bearer("read"), status=500)
    assert answer.json["error"] == "server_error"
    assert "canary" not in caplog.text
