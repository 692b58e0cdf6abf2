"""Calling a protected service with requests."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from resource_server import ClientCredentials, ConfigError, TokenError, assertion_from_file
from resource_server.transport import Http

REFUSED = {"WWW_Authenticate": 'Bearer realm="x", error="invalid_token"'}


@pytest.fixture
def issuer(other_upstream, answers):
    def issue(handler):
        body = {"access_token": f"t{len(other_upstream.calls)}", "token_type": "bearer", "expires_in": 100}
        answers.with_(200, body)(handler)

    other_upstream.behaviour = issue
    return other_upstream


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def session(issuer, now):
    auth = ClientCredentials(
        issuer.url, "id", "s", scope="read", resource=["https://a", "https://b"], clock=lambda: now[0]
    )
    with requests.Session() as session:
        session.auth = auth
        yield session
    auth.close()


def sent(upstream):
    return [call.authorization for call in upstream.calls]


def test_a_token_is_fetched_once_and_kept_until_shortly_before_expiry(session, issuer, upstream, now):
    for moment in (0, 89, 90, 100):
        now[0] = moment
        session.get(upstream.url, timeout=30)
    assert sent(upstream) == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]
    form = {"grant_type": ["client_credentials"], "scope": ["read"], "resource": ["https://a", "https://b"]}
    assert issuer.calls[0].form == form


def test_threads_share_one_fetch(session, issuer, upstream):
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: session.get(upstream.url, timeout=30), range(8)))) == 8
    assert len(issuer.calls) == 1


@pytest.mark.parametrize("body", [b"text", io.BytesIO(b"text")])
def test_a_refused_token_is_renewed_once_and_the_request_replayed(session, upstream, answers, body):
    upstream.behaviours = [answers.with_(401, **REFUSED)]
    assert session.post(upstream.url, data=body, timeout=30).status_code == 200
    assert sent(upstream) == ["Bearer t1", "Bearer t2"]
    upstream.behaviour = answers.with_(401, **REFUSED)
    assert session.get(upstream.url, timeout=30).status_code == 401
    assert sent(upstream)[2:] == ["Bearer t2", "Bearer t3"]


def test_what_cannot_be_replayed_is_not(session, upstream, answers):
    upstream.behaviour = answers.with_(401, **REFUSED)
    answer = session.post(upstream.url, data=(part for part in [b"text"]), timeout=30)
    assert (answer.status_code, len(upstream.calls)) == (401, 1)


def test_another_401_is_left_alone(session, upstream, answers):
    upstream.behaviour = answers.with_(401, WWW_Authenticate='Bearer realm="x"')
    assert session.get(upstream.url, timeout=30).status_code == 401
    assert len(upstream.calls) == 1


def test_the_token_never_follows_a_redirect_to_another_origin(session, upstream, issuer, answers):
    upstream.behaviours = [
        answers.with_(401, **REFUSED),
        answers.with_(302, Location=f"{issuer.url}/elsewhere"),
    ]
    session.get(upstream.url, timeout=30)
    assert sent(upstream) == ["Bearer t1", "Bearer t2"]
    (elsewhere,) = [call for call in issuer.calls if call.path == "/elsewhere"]
    assert elsewhere.authorization == ""


@pytest.mark.parametrize("location", ["http://127.0.0.1:99999/", "http://[::1/", "http://x:port/"])
def test_a_redirect_to_nowhere_is_a_failed_request(session, upstream, answers, location):
    upstream.behaviours = [answers.with_(302, Location=location)]
    with pytest.raises(requests.RequestException):
        session.get(upstream.url, timeout=30)


def test_a_redirect_to_nowhere_that_is_not_followed_is_an_answer(session, upstream, answers):
    upstream.behaviours = [answers.with_(302, Location="http://127.0.0.1:99999/")]
    answer = session.get(upstream.url, timeout=5, allow_redirects=False)
    assert answer.status_code == 302
    assert "Authorization" not in answer.request.headers


def test_another_origin_cannot_ask_for_the_token(session, upstream, issuer, answers):
    upstream.behaviours = [answers.with_(302, Location=f"{issuer.url}/elsewhere")]
    refuse = answers.with_(401, **REFUSED)
    issue, issuer.behaviour = issuer.behaviour, None
    issuer.behaviours = [issue, refuse]
    assert session.get(upstream.url, timeout=30).status_code == 401
    assert len(issuer.calls) == 2
    assert issuer.calls[1].authorization == ""


def test_what_is_left_of_a_token_bridges_an_outage(session, issuer, upstream, answers, now):
    session.get(upstream.url, timeout=30)
    issuer.behaviour, now[0] = answers.with_(500), 95
    session.get(upstream.url, timeout=30)
    now[0] = 100
    with pytest.raises(TokenError):
        session.get(upstream.url, timeout=30)
    assert sent(upstream) == ["Bearer t1", "Bearer t1"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"access_token": "t"},
        {"access_token": "t", "token_type": "mac"},
        {"access_token": 1, "token_type": "Bearer"},
        {"access_token": "a b", "token_type": "Bearer"},
        {"access_token": "t", "token_type": "Bearer", "expires_in": "1"},
    ],
)
def test_a_bad_token_answer_is_an_error_of_requests(issuer, upstream, answers, answer):
    issuer.behaviour = answers.with_(200, answer)
    auth = ClientCredentials(issuer.url, "id", "s", http=Http())
    with pytest.raises(requests.RequestException):
        requests.get(upstream.url, auth=auth, timeout=30)
    auth.close()
    assert not upstream.calls


def test_an_assertion_from_a_file_is_sent_in_place_of_a_secret_and_read_anew_each_time(issuer, upstream, now, tmp_path):
    path = tmp_path / "token"
    path.write_text("first.assertion.x\n")
    auth = ClientCredentials(issuer.url, assertion=assertion_from_file(path), scope="read", clock=lambda: now[0])
    with requests.Session() as session:
        session.auth = auth
        session.get(upstream.url, timeout=30)
        path.write_text("second.assertion.x")
        now[0] = 95
        session.get(upstream.url, timeout=30)
    auth.close()
    assert [call.form["client_assertion"] for call in issuer.calls] == [["first.assertion.x"], ["second.assertion.x"]]
    assert all("client_id" not in call.form and not call.authorization for call in issuer.calls)
    assert issuer.calls[0].form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]


def test_each_attempt_has_an_assertion_of_its_own(issuer, upstream, answers):
    numbers = iter(range(9))
    good = issuer.behaviour

    def fail_once(handler):
        (answers.with_(502, {}) if len(issuer.calls) == 1 else good)(handler)

    issuer.behaviour = fail_once
    auth = ClientCredentials(issuer.url, "me", assertion=lambda: f"a.b.{next(numbers)}")
    with requests.Session() as session:
        session.auth = auth
        session.get(upstream.url, timeout=30)
    auth.close()
    assert [call.form["client_assertion"] for call in issuer.calls] == [["a.b.0"], ["a.b.1"]]
    assert issuer.calls[0].form["client_id"] == ["me"]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_a_file_without_an_assertion_is_no_token_and_no_request(issuer, upstream, tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    auth = ClientCredentials(issuer.url, assertion=assertion_from_file(path))
    with pytest.raises(TokenError, match="cannot be read or is empty"):
        requests.get(upstream.url, auth=auth, timeout=30)
    assert issuer.calls == upstream.calls == []


def test_it_takes_a_secret_or_an_assertion_and_not_both():
    for arguments in ({}, {"client_secret": "s", "assertion": lambda: "a"}):
        with pytest.raises(ConfigError):
            ClientCredentials("https://as.example/oauth/token", "id", **arguments)
