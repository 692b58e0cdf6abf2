"""Real processes: gunicorn with preloading, and starts that must not happen."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

import resource_server

PATIENCE = 60.0  # seconds; a limit, never a pace

PRELOADED = """
import os
from resource_server import Guard, ResourceServer
from resource_server.app import Protected
from resource_server.config import Config

class Pid:
    def process_response(self, req, resp, resource, req_succeeded):
        resp.set_header("X-Pid", str(os.getpid()))

guard = Guard.from_config(Config.from_environ(os.environ))
guard.check("Bearer master")  # opens a connection before the fork
app = ResourceServer(guard).app(middleware=[Pid()])
app.add_route("/protected", Protected())
"""


@pytest.fixture
def environ(upstream):
    return os.environ | {
        "PYTHONPATH": str(Path(resource_server.__file__).parents[1]),
        "OAUTH2_INTROSPECT_URL": f"{upstream.url}/introspect",
        "OAUTH2_CLIENT_ID": "id",
        "OAUTH2_CLIENT_SECRET": "canary-secret",
        "OAUTH2_CACHE_TTL": "30",
        "RESOURCE_SERVER_BIND": "127.0.0.1:0",
        "WEB_CONCURRENCY": "2",
    }


FOLLOWING = """
import os
from resource_server.app import create_app
from resource_server.config import Config

class Pid:
    def process_response(self, req, resp, resource, req_succeeded):
        resp.set_header("X-Pid", str(os.getpid()))

app = create_app(Config.from_environ(os.environ))
app.add_middleware(Pid())
"""


def run(*arguments, environ):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_s21_preloaded_workers_share_no_connection(environ, upstream, tmp_path):
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    upstream.knows("master")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "gunicorn", "-c", "python:resource_server.gunicorn_conf"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--preload", "--chdir", str(tmp_path), "preloaded:app"],
            env=environ,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            ports = ask_both_workers(wait_for(log, r"Listening at: (http://\S+)"), upstream)
        finally:
            process.terminate()
            process.wait(PATIENCE)
    master = {call.client for call in upstream.calls if call.form["token"] == ["master"]}
    first, second = ports.values()
    assert not first & second
    assert not (first | second) & master
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["path"] for line in lines if "path" in line} == {"/protected"}
    assert "canary" not in log.read_text()


def test_all_log_lines_are_json(environ, upstream, tmp_path):
    """From the first line of the start to the last one of the stop, and what the guard itself has to say."""
    out, err = tmp_path / "stdout", tmp_path / "stderr"
    # the address of a server that is not there, with what must not be logged
    gone = {"OAUTH2_INTROSPECT_URL": "http://127.0.0.1:1/ascs_canary"}
    with (
        out.open("w") as output,
        err.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "resource_server"], env=environ | gone, stdout=output, stderr=errors
        ) as process,
    ):
        try:
            url = wait_for(err, r"Listening at: (http://\S+)")
            assert ask(url, "t").status_code == 503
        finally:
            process.terminate()
            process.wait(PATIENCE)
    told = [json.loads(line) for line in err.read_text().splitlines()]
    assert {line["level"] for line in told} >= {"info", "warning"}
    assert {line["logger"] for line in told} == {"gunicorn.error", "resource_server.endpoint"}
    assert "canary" not in err.read_text()
    assert [json.loads(line)["status"] for line in out.read_text().splitlines()] == [503]


def ask_both_workers(url, upstream):
    ports, end = {}, time.monotonic() + PATIENCE
    while len(ports) < 2:
        assert time.monotonic() < end, ports
        token = upstream.knows(f"t{len(upstream.calls)}")
        query = {"x": "canary-query"}
        answer = requests.get(f"{url}/protected", query, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
        assert answer.status_code == 200
        ports.setdefault(answer.headers["X-Pid"], set()).add(upstream.calls[-1].client)
    return ports


def test_s18_every_worker_refuses_within_the_bound_and_metrics_are_of_all(environ, upstream, feed, tmp_path):
    (tmp_path / "following.py").write_text(FOLLOWING)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "gunicorn", "-c", "python:resource_server.gunicorn_conf"]
    settings = {"OAUTH2_REVOCATIONS_URL": f"{upstream.url}/oauth/revocations", "OAUTH2_CACHE_TTL": "0"}
    temporary = {"TMPDIR": str(tmp_path)}
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--chdir", str(tmp_path), "following:app"],
            env=environ | settings | temporary,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            url = wait_for(log, r"Listening at: (http://\S+)")
            asked = 0
            upstream.knows("t", exp=4_000_000_000)
            # until both workers serve what they remember
            remembered, end = set(), time.monotonic() + PATIENCE
            while len(remembered) < 2:
                assert time.monotonic() < end
                before = len(upstream.calls)
                answer = ask(url, "t")
                asked += 1
                assert answer.status_code == 200
                if not any(call.path == "/introspect" for call in upstream.calls[before:]):
                    remembered.add(answer.headers["X-Pid"])
            del upstream.tokens["t"]
            feed.revoke("t")
            revoked_at, refused = time.monotonic(), {}
            while len(refused) < 2 or min(refused.values()) < 5:
                asked_at = time.monotonic()
                answer = ask(url, "t")
                asked += 1
                if answer.status_code == 200:
                    assert asked_at - revoked_at < 3
                    assert answer.headers["X-Pid"] not in refused
                else:
                    assert answer.status_code == 401
                    refused[answer.headers["X-Pid"]] = refused.get(answer.headers["X-Pid"], 0) + 1
            assert remembered == refused.keys()
            text = requests.get(f"{url}/metrics", timeout=PATIENCE).text
            assert sum(total(text, name) for name in ("cache_hits", "cache_misses", "fallbacks")) == asked
            assert total(text, "polls") > 2
            assert re.search(r"^resource_server_revocation_tombstones 1.0$", text, re.MULTILINE)
            age = time.time() - float(re.search(r"^\S+last_poll_timestamp_seconds (\S+)$", text, re.MULTILINE)[1])
            assert -1 < age < PATIENCE
        finally:
            process.terminate()
            process.wait(PATIENCE)
    assert not list(tmp_path.glob("resource-server-metrics-*"))
    assert "Traceback" not in log.read_text()


def ask(url, token):
    return requests.get(f"{url}/protected", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)


def total(text, name):
    found = re.findall(rf"^resource_server_{name}_total(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def wait_for(log, pattern):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize(
    "command",
    [
        ("resource_server",),
        ("gunicorn", "-c", "python:resource_server.gunicorn_conf", "resource_server.app:get_app()"),
        ("gunicorn", "-b", "127.0.0.1:0", "--preload", "resource_server.app:get_app()"),
        ("gunicorn", "-b", "127.0.0.1:0", "resource_server.app:get_app()"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(environ, command):
    # One worker: where several fail to load at the same moment, gunicorn's arbiter can die of its own HaltServer.
    # Our configuration, which is checked before any worker starts, is not concerned.
    bad = {"OAUTH2_CACHE_TTL": "canary", "WEB_CONCURRENCY": "1"}
    stopped = run(*command, environ=environ | bad)
    assert stopped.returncode != 0
    ours = [line for line in stopped.stderr.splitlines() if not re.match(r"\[\d{4}-|{", line)]
    assert set(ours) == {"resource_server: OAUTH2_CACHE_TTL is not a number from 0 to 30"}
    assert "Traceback" not in stopped.stderr + stopped.stdout


def test_an_address_in_use_ends_the_start_at_once_with_one_line(environ, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = {"RESOURCE_SERVER_BIND": f"127.0.0.1:{port}", "TMPDIR": str(tmp_path)}
        stopped = run("resource_server", environ=environ | taken)
    assert stopped.returncode == 1
    lines = [line for line in stopped.stderr.splitlines() if "Starting gunicorn" not in line]
    assert lines == [f"resource_server: RESOURCE_SERVER_BIND 127.0.0.1 port {port}: Address already in use"]
    assert list(tmp_path.iterdir()) == []


def test_help_prints_every_setting(environ):
    helped = run("resource_server", "--help", environ=environ)
    assert helped.returncode == 0
    for row in resource_server.config.SETTINGS:
        assert row.name in helped.stdout


def test_the_core_and_the_client_do_not_import_falcon(environ):
    code = "import sys, resource_server; assert 'falcon' not in sys.modules; resource_server.ResourceServer"
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=PATIENCE)
