"""A wrong setting stops the start with one line that names it, however the server is started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from authserver.listening import check_address

SERVE = ("authserver", "serve")
PLAIN = ("gunicorn", "-c", "authserver/gunicorn_conf.py", "authserver.app:get_app()")
CANARY = "canary-value-of-a-setting"

WRONG = {
    "DATABASE_POOLER": "session",
    "DATABASE_URL": f"postgresql://user:{CANARY}@[/x",
    "ISSUER": "https://as.example/",
    "ACCESS_TOKEN_LIFETIME": "0",
    "TOKENS_PER_MINUTE": "-1",
    "INITIAL_ACCESS_TOKEN": CANARY,
    "KEY_ENCRYPTION_KEY": CANARY,
    "SIGNING_ALGORITHM": "HS256",
    "KEY_ROTATION_DAYS": "-1",
    "PARTITION_HOURS": "5",
    "JWKS_ALLOWED_NETWORKS": "10.0.0.1/8",
    "JWKS_ALLOW_HTTP": "true",
    "JWKS_CA_BUNDLE": "/no/such/file",
    "BIND": "localhost:http",
    "WORKERS": "many",
    "THREADS": "0",
    "KEEPALIVE": "-1",
    "REQUEST_TIMEOUT": "0",
    "GRACEFUL_TIMEOUT": "1.5",
    "FORWARDED_ALLOW_IPS": "proxy",
    "API_DOCS": "yes",
    "METRICS_BIND": "unix:/metrics",
    "AUDIT_FILE": "/no/such/directory/audit",
    "AUDIT_INTROSPECTIONS": "yes",
    "OPENTELEMETRY": "yes",
    "LOG_LEVEL": "verbose",
}
CASES: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (f"AUTHSERVER_{name}", {name: value}) for name, value in WRONG.items()},
    "no DATABASE_URL": ("AUTHSERVER_DATABASE_URL", {"DATABASE_URL": ""}),
    "no ISSUER": ("AUTHSERVER_ISSUER", {"ISSUER": ""}),
    "an empty file": ("AUTHSERVER_INITIAL_ACCESS_TOKEN_FILE is empty", {"INITIAL_ACCESS_TOKEN_FILE": "/dev/null"}),
    "no port of this world": ("AUTHSERVER_BIND must be", {"BIND": "127.0.0.1:99999"}),
    "nonsense": ("AUTHSERVER_BIND must be", {"BIND": "nonsense"}),
    "no such file": ("AUTHSERVER_INITIAL_ACCESS_TOKEN_FILE", {"INITIAL_ACCESS_TOKEN_FILE": "/no/such/file"}),
    "a directory": ("AUTHSERVER_AUDIT_FILE must be", {"AUDIT_FILE": "/"}),
    "a value and a file": (
        "AUTHSERVER_INITIAL_ACCESS_TOKEN",
        {"INITIAL_ACCESS_TOKEN": CANARY, "INITIAL_ACCESS_TOKEN_FILE": "/no/such/file"},
    ),
}


def environment(**settings: str) -> dict[str, str]:
    good = {"DATABASE_URL": "postgresql:///x", "ISSUER": "https://as.example", "BIND": "127.0.0.1:0", "WORKERS": "1"}
    return {k: v for k, v in os.environ.items() if not k.startswith("AUTHSERVER_")} | {
        f"AUTHSERVER_{name}": value for name, value in (good | settings).items()
    }


@pytest.mark.parametrize("command", [SERVE, PLAIN], ids=["authserver serve", "gunicorn"])
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(run_forked, command, case):
    program, *arguments = command
    outcome = run_forked(program, arguments, environment(**CASES[case][1]))
    lines = (outcome.stdout + outcome.stderr).splitlines()
    assert outcome.returncode == 1, lines
    assert len(lines) == 1
    assert lines[0].startswith(f"authserver: {CASES[case][0]}")
    assert CANARY not in lines[0]


@pytest.mark.parametrize("command", [SERVE, PLAIN], ids=["authserver serve", "gunicorn"])
def test_a_process_that_was_not_forked_says_the_same(run_forked, repository, command):
    settings = environment(**CASES["ISSUER"][1])
    program, *arguments = command
    forked = run_forked(program, arguments, settings)
    started = subprocess.run(
        [sys.executable, "-m", *command], env=settings, cwd=repository, capture_output=True, text=True, check=False
    )
    assert (started.returncode, started.stdout, started.stderr) == (forked.returncode, forked.stdout, forked.stderr)


@pytest.fixture
def refused() -> Callable[[str], str]:
    """Start on an address that cannot be listened on; give the last line, after gunicorn's own that it starts."""

    def start(bind: str) -> str:
        outcome = subprocess.run(
            [sys.executable, "-m", *SERVE],
            env=environment(BIND=bind, DATABASE_URL="host=127.0.0.1 port=1"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = outcome.stderr.splitlines()
        assert outcome.returncode == 1
        assert ["Starting gunicorn" in line for line in lines] == [True, False], lines
        return lines[-1]

    return start


def test_an_address_that_cannot_be_listened_on_ends_the_start_at_once(refused, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        says = f"authserver: AUTHSERVER_BIND 127.0.0.1 port {port}: Address already in use"
        assert refused(f"127.0.0.1:{port}") == says
    assert refused("unix:/nope/x") == "authserver: AUTHSERVER_BIND /nope/x: No such file or directory"
    file = tmp_path / "file"
    file.touch()
    assert refused(f"unix:{file}") == f"authserver: AUTHSERVER_BIND {file}: there is a file, and it is no socket"
    assert refused("no.such.host.invalid:80").startswith("authserver: AUTHSERVER_BIND no.such.host.invalid port 80: ")


def test_a_unix_socket_in_use_is_left_alone_and_an_abandoned_one_replaced(refused):
    directory = Path(tempfile.mkdtemp(prefix="s-"))  # short: a socket's path may have 107 bytes
    path = str(directory / "s")
    try:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            assert refused(f"unix:{path}") == f"authserver: AUTHSERVER_BIND {path}: another process listens on it"
            assert Path(path).is_socket()
        check_address(path)
        assert not Path(path).exists()
    finally:
        shutil.rmtree(directory)


def test_sockets_that_systemd_hands_on_are_used(serving_url, wait_until, tmp_path):
    """As systemd does it: the socket is descriptor 3, LISTEN_PID the process itself. The setting is not looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "log").open("wb") as log:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = environment(DATABASE_URL=serving_url, BIND=url.removeprefix("http://"))
        script = 'exec 3<&"$1"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$2" -m authserver serve'
        process = subprocess.Popen(
            ["bash", "-c", script, "-", str(listener.fileno()), sys.executable],
            env=settings,
            pass_fds=[listener.fileno()],
            stderr=log,
        )
        try:
            wait_until(lambda: requests.get(f"{url}/health", timeout=30).status_code == 200, "an answer")
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_a_misspelt_setting_and_the_state_of_the_schema_are_logged_once(
    start_gunicorn, serving_url, make_database, as_role, wait_until
):
    server = start_gunicorn(serving_url, TREADS="4", WORKERS="2")
    wait_until(lambda: "the database answers and its schema is current" in server.logged(), "the report")
    line = "AUTHSERVER_TREADS is not a setting and has no effect; the closest one is AUTHSERVER_THREADS"
    assert server.logged().count(line) == 1

    behind = start_gunicorn(as_role(make_database(), "authserver_app"), ready=False)
    wait_until(lambda: "the schema is behind this release, /ready is 503" in behind.logged(), "the report")
    away = start_gunicorn("host=127.0.0.1 port=1", ready=False)
    wait_until(lambda: "the database cannot be asked, /ready is 503" in away.logged(), "the report")
    for server in (behind, away):
        wait_until(lambda: requests.get(f"{server.url}/health", timeout=30).status_code == 200, "an answer")


def test_every_setting_has_its_case():
    from authserver.config import SETTINGS  # noqa: PLC0415 - for this test alone

    assert {setting.name for setting in SETTINGS} == WRONG.keys()


def test_secrets_are_read_from_files(start_gunicorn, serving_url, tmp_path):
    url, token = tmp_path / "url", tmp_path / "token"
    url.write_text(f"{serving_url}\n")
    token.write_text(f"{'t' * 40}\n")
    files = {"DATABASE_URL_FILE": str(url), "INITIAL_ACCESS_TOKEN_FILE": str(token), "INITIAL_ACCESS_TOKEN": ""}
    server = start_gunicorn("", **files)
    answer = requests.post(
        f"{server.url}/clients/register",
        headers={"Authorization": f"Bearer {'t' * 40}"},
        json={"scope": "read"},
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
