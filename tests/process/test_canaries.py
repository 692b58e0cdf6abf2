"""No secret and no token, nor a piece of one, is in any log, also at the debug level and when things go wrong."""

from __future__ import annotations

import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests

from authserver.dev.stack import RESOURCE, Stack, free_port
from authserver.observe.events import COMMON, EVENTS

PIECE = 12  # characters of the random part that would already help an attacker, or a secret scanner
MARKER = re.compile(r"^(asat_[0-9a-f]{8}|as[a-z]{2}_|eyJ)")
MALFORMED = (
    "POST /oauth/token?s={} HTTP/9",
    "{} / HTTP/1.1",
    "GET /?{} HTTP/1.1\r\nBad {}",
    "GET / HTTP/1.1\r\nX-{}: a\r\n b",
    "GET /?{} HTTP/1.1\r\nContent-Length: {}",
    "GET /\x01{} HTTP/1.1",
    "GET / HTTP/1.1\r\nTransfer-Encoding: {}",
    "GET / HTTP/1.1\r\nExpect: {}",
    "GET http://[{} HTTP/1.1",
    "{}",
    "GET /{} HTTP/1.1\r\nHost: {}\r\nX-Request-ID: {}\r\nConnection: close",
    "GET /x%2F{} HTTP/1.1\r\nHost: x\r\nUser-Agent: {}\r\nConnection: close",
    "GET /health HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /{}\r\nConnection: close",
    "POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX {}: x",
    "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\ntoken={}",
)
JWT = "eyJ" + ".".join(secrets.token_urlsafe(30) for _ in range(3))
# The client hangs up within the head.
HALF = (
    "GET /protected HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}",
    "GET /{}",
)
# What breaks a statement, and what mends it.
TROUBLE = {
    "ADD CONSTRAINT broken CHECK (client < 0) NOT VALID": "ALTER TABLE access_tokens DROP CONSTRAINT broken",
    "RENAME TO away": "ALTER TABLE away RENAME TO access_tokens",
    "ALTER scope TYPE bigint USING 0": "ALTER TABLE access_tokens ALTER scope TYPE text",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    settings = {
        "AUTHSERVER_LOG_LEVEL": "debug",
        "AUTHSERVER_WORKERS": "1",
        "AUTHSERVER_REQUEST_TIMEOUT": "5",
        "AUTHSERVER_AUDIT_INTROSPECTIONS": "1",
        "AUTHSERVER_METRICS_BIND": f"127.0.0.1:{free_port()}",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUNICORN_CMD_ARGS", "--log-level debug")  # which the resource server has no setting for
        with Stack(tmp_path_factory.mktemp("stack"), environment=settings) as stack:
            yield stack


class Canaries:
    """Requests of all kinds, and the secrets in them."""

    def __init__(self, stack: Stack, signer: Any) -> None:
        self.stack, self.signer = stack, signer
        self.secrets = [stack.initial_access_token, JWT]
        self.session = requests.Session()
        self.session.trust_env = False

    def call(self, method: str, path: str, **arguments) -> requests.Response:
        return self.session.request(method, f"{self.stack.issuer}{path}", timeout=20, **arguments)

    def form(self, path: str, **form: str) -> requests.Response:
        return self.call("POST", f"/oauth/{path}", data=form)

    def register(self, **document) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.stack.initial_access_token}"}
        answer = self.call("POST", "/clients/register", headers=headers, json=document).json()
        self.secrets += [answer.get("client_secret", ""), answer["registration_access_token"]]
        return answer

    def token(self, client: dict[str, str]) -> str:
        credential = {name: client[name] for name in ("client_id", "client_secret")}
        token = self.form("token", grant_type="client_credentials", **credential).json()["access_token"]
        self.secrets.append(token)
        return token

    def send(self, data: bytes, url: str) -> bytes:
        """Send bytes that are no proper request; give the answer."""
        host, port = url.removeprefix("http://").split(":")
        received = b""
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while answer := connection.recv(65536):
                    received += answer
        return received

    def pieces(self) -> set[str]:
        found = set()
        for secret in self.secrets:
            random = MARKER.sub("", secret)
            found |= {random[at : at + PIECE] for at in range(len(random) - PIECE + 1)}
        return found


def everything(canaries: Canaries) -> None:
    """All that can be done with a secret, rightly and wrongly."""
    stack = canaries.stack
    b = canaries.register(grant_types=[], resource_identifiers=[RESOURCE])
    resource_server = stack.start_resource_server(b["client_id"], b["client_secret"])
    a = canaries.register(scope="read", audiences=[RESOURCE])
    form = {"client_id": a["client_id"], "client_secret": a["client_secret"]}
    secret, basic = a["client_secret"], (a["client_id"], a["client_secret"])
    token = canaries.token(a)
    canaries.call("POST", "/oauth/introspect", auth=basic, data={"token": token})
    bearer = {"Authorization": f"Bearer {token}"}
    canaries.session.get(f"{resource_server}/protected?access_token={token}", headers=bearer, timeout=20)
    canaries.session.get(f"{resource_server}/{token[:20]}", headers={"Authorization": token}, timeout=20)

    management = f"/clients/register/{a['client_id']}"
    registration = {"Authorization": f"Bearer {a['registration_access_token']}"}
    for method in ("GET", "PUT", "DELETE"):
        canaries.call(method, management, headers=registration | {"Content-Type": "application/json"}, data="{")
        canaries.call(method, management, headers={"Authorization": f"Bearer {a['registration_access_token']}x"})
    a = canaries.register(scope="read", audiences=[RESOURCE])
    form = {"client_id": a["client_id"], "client_secret": a["client_secret"]}
    secret, token = a["client_secret"], canaries.token(a)
    for path in ("token", "introspect", "revoke"):
        canaries.form(path, **form | {"client_secret": secret[:-1]}, token=token)
        canaries.form(path, **form, grant_type=token, scope=secret, resource=token)
        canaries.form(path, client_id=secret, client_secret=secret, token=token)
        canaries.form(path, **form, token=f"{token}\0", client_assertion=secret)
        canaries.call("POST", f"/oauth/{path}?{'&'.join(f'{k}={v}' for k, v in form.items())}&token={token}", data=form)
        canaries.call("GET", f"/oauth/{path}?token={token}&client_secret={secret}")
        canaries.call("POST", f"/oauth/{path}", headers={"Authorization": f"Basic {secret}"}, data={"token": token})
        assertions(canaries, path)
        canaries.call("POST", f"/oauth/{path}", headers={"X-Request-ID": f"{secret}?"}, json=form)
        for header in ("traceparent", "tracestate", "X-Forwarded-For"):
            canaries.call("POST", f"/oauth/{path}", headers={header: secret}, data=form)
            canaries.call("POST", f"/oauth/{path}", headers={header: f"00-{token}-{secret}-01"}, data=form)
            canaries.session.get(f"{resource_server}/protected", headers={header: secret, **bearer}, timeout=20)
    for url in (stack.issuer, resource_server):
        for each in (*(f"{head}\r\n\r\n" for head in MALFORMED), *(f"{half}\r\n" for half in HALF)):
            for canary in (secret, token, JWT):
                assert canary.encode() not in canaries.send(each.replace("{}", canary).encode(), url)
    database_trouble(canaries, form, token, resource_server)
    revoked = canaries.form("revoke", **form, token=token)
    assert revoked.status_code == 200, revoked.text


def assertions(canaries: Canaries, path: str) -> None:
    """Assertions that are good, replayed, malformed, of an unknown client, and with a key that cannot be fetched."""
    signer = canaries.signer
    method = {"token_endpoint_auth_method": "private_key_jwt"}
    here = canaries.register(**method, jwks=signer.jwks())
    away = canaries.register(**method, jwks_uri="https://127.0.0.1/keys")
    for client_id in (here["client_id"], away["client_id"], "nobody"):
        claims = {"iss": client_id, "sub": client_id, "aud": canaries.stack.issuer, "exp": int(time.time()) + 60}
        assertion = signer.sign(claims | {"jti": "1"})
        canaries.secrets += assertion.split(".")
        form = {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "token": assertion}
        for each in (assertion, assertion, f"{assertion}x", assertion[5:], f"{assertion}.{assertion}"):
            canaries.form(path, **form, client_assertion=each)
            canaries.call("POST", f"/oauth/{path}?client_assertion={each}", data={"client_assertion": each})
        canaries.form(path, client_assertion=assertion, client_assertion_type=assertion, client_id=assertion)


def database_trouble(canaries: Canaries, form: dict[str, str], token: str, resource_server: str) -> None:
    """Errors of PostgreSQL that name rows and parameters, and no PostgreSQL at all."""
    url = canaries.stack.postgres.url()
    for broken, mended in TROUBLE.items():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE access_tokens {broken}")
            answer = canaries.form("token", grant_type="client_credentials", **form)
            assert answer.status_code in (500, 503), broken
            canaries.form("introspect", **form, token=token)
            connection.execute(mended)
    canaries.stack.postgres.kill()
    for path in ("token", "introspect", "revoke"):
        answer = canaries.form(path, grant_type="client_credentials", **form, token=token)
        assert answer.status_code == 503
    bearer = {"Authorization": f"Bearer {token}"}
    assert canaries.session.get(f"{resource_server}/protected", headers=bearer, timeout=20).status_code == 503
    canaries.stack.postgres.start()
    canaries.stack.servers[0].wait_until_ready()


@pytest.fixture(scope="module")
def canaries(stack, make_signer) -> Iterator[Canaries]:
    canaries = Canaries(stack, make_signer("ES256"))
    everything(canaries)
    yield canaries
    canaries.session.close()


def lines_with_a_piece(path: Path, pieces: set[str]) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    assert lines
    return [line for line in lines if any(piece in line or quote(piece) in line for piece in pieces)]


@pytest.mark.parametrize("log", ["authserver.log", "resource_server.log", "postgres/log"])
def test_no_log_holds_a_piece_of_a_secret(canaries, log):
    assert not lines_with_a_piece(canaries.stack.directory / log, canaries.pieces())


def test_every_line_of_the_log_is_json_without_a_traceback(canaries):
    for line in (canaries.stack.directory / "authserver.log").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert "exception" not in record, line


def test_access_lines_have_a_request_id_and_no_query_string(canaries, wait_until):
    canaries.call("GET", "/health?q=canary-query", headers={"X-Request-ID": "canary-request-1"})
    log = canaries.stack.directory / "authserver.log"
    # The line is written after the answer, and those of other connections may come in between.
    wait_until(lambda: '"canary-request-1"' in log.read_text(encoding="utf-8"), "the access line of this request")
    lines = [line for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    access = [record for record in map(json.loads, lines) if record["logger"] == "gunicorn.access"]
    assert len(access) > 30
    assert all(record["request_id"] for record in access)
    assert [record["path"] for record in access if record["request_id"] == "canary-request-1"] == ["/health"]
    assert not [line for line in lines if "canary-query" in line or "?" in json.loads(line).get("path", "")]


def test_audit_events_are_there_and_keep_the_schema(canaries):
    lines = (canaries.stack.directory / "authserver.log").read_text(encoding="utf-8").splitlines()
    events = [record for record in map(json.loads, lines) if record["logger"] == "authserver.audit"]
    for event in events:
        assert set(event) == {*COMMON, *EVENTS[event["event"]]}, event
        assert event["request_id"]
        assert event["trace_id"]
        assert event["address"] == "127.0.0.1"
        assert event["operator"] is None
    assert {event["event"] for event in events} == {
        "client.created",
        "client.deleted",
        "secret.added",
        "token.issued",
        "token.introspected",
        "token.revoked",
        "authentication.refused",
    }


def test_no_metric_holds_a_piece_of_a_secret(canaries):
    address = canaries.stack.environment["AUTHSERVER_METRICS_BIND"]
    pieces = canaries.pieces()
    for url in (f"http://{address}", *(server.url for server in canaries.stack.servers[1:])):
        text = canaries.session.get(f"{url}/metrics", timeout=20).text
        assert "_server_" in text or "authserver_" in text
        assert not [piece for piece in pieces if piece in text]
