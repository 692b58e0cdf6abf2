"""GET /metrics of real processes: on its own address, summed over the workers, there when the database is not."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from authserver.dev.stack import free_port
from authserver.observe.reasons import REASONS

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Watched:
    """A server with metrics."""

    def __init__(self, start: Callable[..., object], url: str, **settings: str) -> None:
        self.address = ("127.0.0.1", free_port())
        self.server = start(url, METRICS_BIND=f"127.0.0.1:{self.address[1]}", **settings)

    def text(self) -> str:
        with requests.Session() as session:
            # A worker that is ended takes a scrape with it; Prometheus comes again, too.
            session.mount("http://", HTTPAdapter(max_retries=Retry(5, backoff_factor=0.1)))
            answer = session.get(f"http://127.0.0.1:{self.address[1]}/metrics", timeout=30)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return answer.text

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (each, has), value in samples(self.text()).items() if each == name and wanted <= has)


@pytest.fixture(scope="module")
def watched(start_gunicorn, serving_url) -> Watched:
    """Two workers under the role that may do the least, and whoever fails to authenticate is throttled at the tenth."""
    return Watched(start_gunicorn, serving_url, WORKERS="2")


def test_requests_are_counted_by_template_and_outcome_over_all_workers(start_gunicorn, serving_url, wait_until):
    """Each worker writes about once a second what it has counted, so what is waited for is an exact sum."""
    watched = Watched(start_gunicorn, serving_url, WORKERS="2")
    party = watched.server.register()
    for _ in range(20):  # each on a connection of its own: both workers get some
        assert party.token().status_code == 200
    token = party.token().json()["access_token"]
    assert party.introspect(token).json()["active"] is True
    assert party.revoke(token).status_code == 200
    assert party.introspect(token).json()["active"] is False

    asked = {"method": "POST", "error": "", "auth_method": "client_secret_post", "status": "200"}
    for name, labels, expected in (
        ("authserver_requests_total", {"endpoint": "/oauth/token", **asked}, 21),
        ("authserver_requests_total", {"endpoint": "/oauth/introspect", **asked}, 2),
        ("authserver_requests_total", {"endpoint": "/clients/register", "auth_method": "bearer", "status": "201"}, 1),
        ("authserver_request_duration_seconds_count", {"endpoint": "/oauth/token"}, 21),
        ("authserver_request_duration_seconds_bucket", {"endpoint": "/oauth/token", "le": "+Inf"}, 21),
        ("authserver_tokens_issued_total", {"format": "opaque"}, 21),
        ("authserver_introspections_total", {"active": "true"}, 1),
        ("authserver_introspections_total", {"active": "false"}, 1),
        ("authserver_revocations_total", {}, 1),
    ):
        wait_until(lambda: watched.value(name, **labels) == expected, f"{name} {labels} to be {expected}")
    assert watched.value("authserver_database_round_trip_seconds_count") >= 24
    assert 0 < watched.value("authserver_request_duration_seconds_sum", endpoint="/oauth/token") < 21 * 5


def test_failures_have_a_reason_and_throttling_a_count(start_gunicorn, serving_url, wait_until):
    watched = Watched(start_gunicorn, serving_url)
    party = watched.server.register()
    party.secret = "wrong"
    statuses = [party.token().status_code for _ in range(25)]  # perhaps over the turn of a minute
    assert set(statuses) == {401, 429}
    for name, labels, expected in (
        ("authserver_authentication_failures_total", {"reason": "wrong_secret"}, statuses.count(401)),
        ("authserver_authentication_failures_total", {"reason": "throttled"}, statuses.count(429)),
        ("authserver_throttled_total", {}, statuses.count(429)),
        ("authserver_requests_total", {"error": "invalid_client", "status": "401"}, statuses.count(401)),
    ):
        wait_until(lambda: watched.value(name, **labels) == expected, f"{name} {labels} to be {expected}")


def test_no_client_can_make_a_label(watched, wait_until):
    canaries = ("canary-path", "CANARYMETHOD", "canary-client")
    requests.get(f"{watched.server.url}/canary-path/x", timeout=30)
    requests.request("CANARYMETHOD", f"{watched.server.url}/oauth/token", timeout=30)
    requests.get(f"{watched.server.url}/clients/register/canary-client", timeout=30)
    requests.post(f"{watched.server.url}/oauth/token", {"scope": "x"}, auth=("canary-client", "x"), timeout=30)
    for labels in (
        {"endpoint": "other", "status": "404"},
        {"endpoint": "/clients/register/{client_id}", "status": "401"},
        {"endpoint": "/oauth/token", "error": "invalid_client"},
    ):
        wait_until(lambda: watched.value("authserver_requests_total", **labels) >= 1, f"{labels}")
    text = watched.text()
    assert not [canary for canary in canaries if canary in text]


def test_the_state_of_the_installation(watched, migrated_database):
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        newest = connection.execute("SELECT max(version) FROM schema_migrations").fetchone()[0]
    assert watched.value("authserver_database_up") == 1
    assert watched.value("authserver_schema_version") == newest
    assert watched.value("authserver_schema_version_expected") == newest
    assert watched.value("authserver_build_info") == 1
    for table in ("access_tokens", "revocations", "assertion_jtis"):
        assert 71 * 3600 <= watched.value("authserver_partitions_ahead_seconds", table=table) <= 79 * 3600
        assert watched.value("authserver_partitions_expired", table=table) == 0
    assert watched.value("authserver_database_connections", state="open") >= 1
    assert watched.value("authserver_worker_threads") == 16
    assert abs(watched.value("authserver_database_clock_offset_seconds")) < 2
    names = {name for name, _ in samples(watched.text())}
    assert {
        "authserver_revocation_feed_sequence",
        "authserver_revocation_feed_lag_transactions",
        "authserver_client_secrets_expiring",
        "authserver_client_secrets_expired",
        "authserver_signing_keys",
        "authserver_default_partition_bytes",
        "authserver_clients",
    } <= names


def test_the_public_address_has_no_metrics_and_the_other_one_nothing_else(watched):
    assert requests.get(f"{watched.server.url}/metrics", timeout=30).status_code == 404
    for path in ("/", "/health", "/oauth/token", "/metrics/", "//metrics"):
        assert requests.get(f"http://127.0.0.1:{watched.address[1]}{path}", timeout=30).status_code == 404
    assert requests.post(f"http://127.0.0.1:{watched.address[1]}/metrics", timeout=30).status_code == 404


def test_a_client_that_sends_nothing_hides_nothing(watched):
    with socket.create_connection(watched.address) as silent, socket.create_connection(watched.address) as long:
        long.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000)
        assert "authserver_requests_total" in watched.text()
        silent.close()


def test_counts_outlive_their_worker_and_a_reload(start_gunicorn, serving_url, wait_until):
    watched = Watched(start_gunicorn, serving_url, WORKERS="2")
    party = watched.server.register()
    assert party.token().status_code == 200
    wait_until(lambda: watched.value("authserver_tokens_issued_total") == 1, "the count")
    master, workers = watched.server.process.pid, watched.server.workers()
    os.kill(min(workers), signal.SIGKILL)
    wait_until(lambda: len(watched.server.workers() - {min(workers)}) == 2, "a new worker")
    wait_until(lambda: watched.value("authserver_worker_threads") == 16, "the threads of the worker that ended gone")
    os.kill(master, signal.SIGHUP)
    scrapes = 0

    def replaced() -> bool:
        nonlocal scrapes
        scrapes += 1
        assert "authserver_requests_total" in watched.text()  # no scrape fails meanwhile
        return scrapes > 1 and not watched.server.workers() & workers and len(watched.server.workers()) == 2

    wait_until(replaced, "new workers")
    assert watched.value("authserver_tokens_issued_total") == 1
    assert party.token().status_code == 200
    os.kill(master, signal.SIGHUP)  # what was counted an instant before the end is not lost
    wait_until(lambda: watched.value("authserver_tokens_issued_total") == 2, "the count")


def test_at_the_end_nothing_is_left_behind(start_gunicorn, serving_url):
    server = Watched(start_gunicorn, serving_url).server
    maps = psutil.Process(min(server.workers())).memory_maps()
    directories = {Path(each.path).parent for each in maps if "authserver-metrics" in each.path}
    assert len(directories) == 1
    server.stop()
    assert not directories.pop().exists()


def test_without_the_setting_there_are_none(start_gunicorn, serving_url):
    server = start_gunicorn(serving_url)
    listening = [c for c in psutil.Process(server.process.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(listening) == 1


def test_an_address_that_is_taken_ends_the_start(start_gunicorn, serving_url, wait_until):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        server = start_gunicorn(serving_url, ready=False, METRICS_BIND=address)
        assert server.process.wait(30) == 1
    assert "authserver: AUTHSERVER_METRICS_BIND 127.0.0.1 port" in server.logged().splitlines()[-1]


def test_without_the_database_the_rest_is_there(start_gunicorn, wait_until):
    watched = Watched(start_gunicorn, "host=127.0.0.1 port=1", ready=False)
    wait_until(lambda: "Booting worker" in watched.server.logged(), "the worker")
    wait_until(lambda: requests.get(f"{watched.server.url}/ready", timeout=30).status_code == 503, "an answer")
    assert watched.value("authserver_database_up") == 0
    answered = {"endpoint": "/ready", "status": "503"}
    wait_until(lambda: watched.value("authserver_requests_total", **answered) >= 1, "the count")
    assert watched.value("authserver_schema_version_expected") >= 8
    assert "authserver_schema_version " not in watched.text()


def test_a_schema_that_is_behind_is_told(start_gunicorn, make_database, as_role, wait_until):
    watched = Watched(start_gunicorn, as_role(make_database(), "authserver_app"), ready=False)
    wait_until(lambda: "the schema is behind" in watched.server.logged(), "the report")
    assert watched.value("authserver_database_up") == 1
    assert watched.value("authserver_schema_version") == 0


def test_every_reason_in_the_table_is_one_that_is_given(repository):
    sources = "".join(
        path.read_text() for path in (repository / "authserver").rglob("*.py") if path.name != "reasons.py"
    )
    for beginning, label in REASONS:
        assert beginning in sources, beginning
        assert re.fullmatch("[a-z_]+", label)


def test_the_master_that_takes_over_at_a_usr2_takes_the_metrics_over(start_gunicorn, serving_url, wait_until):
    watched = Watched(start_gunicorn, serving_url)
    watched.server.process.send_signal(signal.SIGUSR2)
    wait_until(watched.server.successor, "the new master with a worker")
    successor = watched.server.successor()
    try:
        wait_until(lambda: watched.server.logged().count("its schema is current") == 2, "its report")
        assert "authserver_build_info" in watched.text()  # of the one or the other
        watched.server.stop()
        assert watched.value("authserver_database_up") == 1
        assert watched.value("authserver_worker_threads") == 8
    finally:
        successor.terminate()
        successor.wait(30)
