"""Audit events of requests: one line each, true, bounded, and never a secret."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import webtest

from authserver.app import create_app
from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.observe import audit
from authserver.observe.audit import Audit
from authserver.observe.events import COMMON, EVENTS
from authserver.store.database import Database

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture
def server(policy: Policy, database: Database, clock: Any) -> AuthorizationServer:
    return make_server(policy, database, clock=clock, audit=Audit(introspections=True))


@pytest.fixture
def app(policy: Policy, serving_database: Database, clock: Any) -> webtest.TestApp:
    serving = make_server(policy, serving_database, clock=clock, audit=Audit(introspections=True))
    return webtest.TestApp(create_app(serving))


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the events so far, each checked against the schema."""
    monkeypatch.setattr(audit, "_handler", None)
    audit.write_to(str(tmp_path / "audit"))

    def read() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
        for event in found:
            assert tuple(event) == (*COMMON, *EVENTS[event["event"]])
        return found

    yield read
    audit._handler.close()


Events = Callable[[], list[dict[str, Any]]]


def identifier(token: str) -> str:
    return urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


def test_a_token_from_issue_to_revocation(app, service_a, service_b, events):
    answer = app.post("/oauth/token", {"grant_type": "client_credentials", **service_a.form}, headers=TRACEPARENT)
    token = answer.json["access_token"]
    service_b.introspect(app, token)
    service_a.revoke(app, token)
    service_b.introspect(app, token)
    issued, asked, revoked, asked_again = events()[-4:]
    assert issued["event"] == "token.issued"
    assert issued["trace_id"] == TRACE
    assert issued["request_id"] == answer.headers["X-Request-ID"]
    assert issued["token_id"] == identifier(token)
    assert (issued["client_id"], issued["auth_method"], issued["format"]) == (
        "service-a",
        "client_secret_post",
        "opaque",
    )
    assert (issued["scope"], issued["audience"], issued["jti"]) == ("read", ["https://b.example"], None)
    assert (asked["client_id"], asked["token_id"], asked["active"]) == ("service-b", identifier(token), True)
    assert (revoked["event"], revoked["token_id"]) == ("token.revoked", identifier(token))
    assert asked_again["active"] is False
    # Without traceparent a new trace, called as the request is.
    assert asked["trace_id"] == asked["request_id"] != asked_again["trace_id"]


def test_a_refusal_has_the_private_reason_and_what_was_claimed(app, service_a, events):
    app.post("/oauth/token", {"client_id": "service-a", "client_secret": "x"}, status=401)
    app.post("/oauth/token", {"client_id": "nobody", "client_secret": "x"}, status=401)
    app.post("/oauth/revoke", status=401, headers={"Content-Type": "application/x-www-form-urlencoded"})
    app.get("/clients/register/service-a", status=401, headers={"Authorization": "Bearer asra_x"})
    found = [(e["client_id"], e["auth_method"], e["endpoint"], e["reason"]) for e in events()[-4:]]
    assert found == [
        ("service-a", "client_secret_post", "/oauth/token", "wrong secret"),
        ("nobody", "client_secret_post", "/oauth/token", "unknown client"),
        (None, "none", "/oauth/revoke", "no client credential in the request"),
        (
            "service-a",
            "bearer",
            "/clients/register/{client_id}",
            "not the registration access token of this client",
        ),
    ]


def test_what_an_attacker_sends_breaks_no_line_and_is_cut(app, events):
    claimed = 'x"\n{"event":"token.issued"}\r\u2028\u0085\x1b[31m' + "y" * 60_000
    app.post("/oauth/token", {"client_id": claimed, "client_secret": "x"}, status="*")
    secret = "ascs_" + "s" * 43
    app.post("/oauth/token", {"client_id": secret, "client_secret": secret}, status=401)
    first, second = events()[-2:]
    assert first["client_id"].startswith('x"\n{"event"')
    assert len(first["client_id"]) == 257
    assert second["client_id"] == "ascs_…"


def test_assertions_name_the_client_they_are_for(app, make_client, make_signer, events, server, clock):
    signer = make_signer("ES256")
    claims = {"iss": "service-k", "sub": "service-k", "aud": "https://as.example", "exp": int(clock()) + 60, "jti": "1"}
    form = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signer.sign(claims),
    }
    app.post("/oauth/token", {"grant_type": "client_credentials", **form}, status=401)
    app.post("/oauth/token", {**form, "client_assertion": "eyJx", "client_id": "other"}, status=401)
    first, second = events()[-2:]
    assert (first["client_id"], first["auth_method"], first["reason"]) == (
        "service-k",
        "client_assertion",
        "unknown client",
    )
    assert second["client_id"] == "other"
    assert "eyJx" not in json.dumps(second)


def test_a_registration_from_creation_to_deletion(app, events):
    headers = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
    made = app.post_json("/clients/register", {"scope": "read"}, headers=headers).json
    path = f"/clients/register/{made['client_id']}"
    headers = {"Authorization": f"Bearer {made['registration_access_token']}"}
    app.put_json(path, {"client_id": made["client_id"], "scope": "read write"}, headers=headers)
    app.delete(path, headers=headers)
    assert [(e["event"], e["client_id"]) for e in events()[-4:]] == [
        (event, made["client_id"]) for event in ("client.created", "secret.added", "client.updated", "client.deleted")
    ]
    assert events()[-4]["self_registered"] is True


def test_what_was_not_done_is_not_told(app, service_a, events, monkeypatch, serving_database):
    def away(*_: object) -> None:
        raise ConnectionError

    before = len(events())
    monkeypatch.setattr(serving_database, "_connection", away)
    service_a_form = {"grant_type": "client_credentials", **service_a.form}
    app.post("/oauth/token", service_a_form, status=500)
    assert len(events()) == before


def test_the_file_may_be_renamed(app, service_a, events, tmp_path):
    service_a.token(app)
    (tmp_path / "audit").rename(tmp_path / "audit.1")
    service_a.token(app)
    assert len(events()) == 1


def test_a_file_that_cannot_be_opened_anew_stops_no_request_and_is_told_without_the_event(
    app, service_a, events, tmp_path, caplog
):
    service_a.token(app)
    before = len(events())
    (tmp_path / "audit").rename(tmp_path / "audit.1")
    (tmp_path / "audit").mkdir()  # also for root, who may write everywhere
    token = service_a.token(app)
    app.post("/oauth/token", {**service_a.form, "client_id": token, "grant_type": "client_credentials"}, status=401)
    assert [record.getMessage() for record in caplog.records if record.name == "authserver.observe"] == [
        "an audit event could not be written: IsADirectoryError"
    ] * 2
    (tmp_path / "audit").rmdir()
    service_a.token(app)
    assert len(events()) == 1 < before + 1


def test_a_full_disk_shows_nobody_what_could_not_be_written(app, service_a, events, capfd, caplog):
    canary = "ascs_" + "canary" * 8
    audit.write_to("/dev/full")
    app.post("/oauth/token", {**service_a.form, "client_id": canary, "grant_type": "client_credentials"}, status=401)
    assert "an audit event could not be written: OSError" in caplog.text
    shown = "".join(capfd.readouterr()) + caplog.text
    assert "canary" not in shown
    with pytest.raises(OSError, match="No space left"):
        audit._handler.close()
