"""OpenTelemetry traces of a real process, received by a collector that takes OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from authserver.oauth.credentials import conceal

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received: list[tuple[str, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def holds(self, *pieces: bytes) -> bool:
        together = b"".join(body for _, body in self.received)
        return all(piece in together for piece in pieces)


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.shutdown()
    collector.server_close()


@pytest.fixture
def traced(start_gunicorn, serving_url, collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    # An operator's mistake, which must not cost a secret.
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "authorization")
    return start_gunicorn(serving_url, OPENTELEMETRY="1")


def test_a_token_request_and_its_statement_are_spans_of_the_callers_trace(traced, collector, wait_until):
    party = traced.register()
    answer = requests.post(
        f"{traced.url}/oauth/token?client_secret={party.secret}",
        {"grant_type": "client_credentials"},
        auth=(party.client_id, party.secret),
        headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "User-Agent": party.secret},
        timeout=30,
    )
    assert answer.status_code == 200
    wait_until(
        lambda: collector.holds(b"POST /oauth/token", b"INSERT INTO access_tokens", bytes.fromhex(TRACE)), "the spans"
    )
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    assert collector.holds(b"authserver", b"http.route", b"http.target", conceal(party.secret).encode())
    token = answer.json()["access_token"]
    for secret in (party.secret, token, party.basic):
        assert not collector.holds(secret[5:25].encode())
    assert TRACE in traced.logged()


def test_spans_are_named_by_the_route_and_without_a_caller_the_trace_is_the_lines(traced, collector, wait_until):
    requests.get(f"{traced.url}/clients/register/canary-client", timeout=30)
    wait_until(lambda: collector.holds(b"GET /clients/register/{client_id}"), "the span")
    (line,) = [line for line in traced.logged().splitlines() if '"path": "/clients/register/canary-client"' in line]
    trace_id = line.partition('"trace_id": "')[2][:32]
    assert collector.holds(bytes.fromhex(trace_id))


def test_a_start_without_the_extra_ends_with_one_line(start_gunicorn, serving_url, tmp_path, monkeypatch):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").touch()  # hides the one that is installed
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start_gunicorn(serving_url, ready=False, OPENTELEMETRY="1")
    assert server.process.wait(30) == 1
    assert (
        server.logged() == "authserver: AUTHSERVER_OPENTELEMETRY needs the extra otel: pip install 'authserver[otel]'\n"
    )
