"""A wrong setting stops the start with one line that names it, however the server is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

SERVE = ("authserver", "serve")
PLAIN = ("gunicorn", "-c", "authserver/gunicorn_conf.py", "authserver.app:get_app()")
CANARY = "canary-value-of-a-setting"

WRONG = {
    "DATABASE_URL": f"postgresql://user:{CANARY}@[/x",
    "ISSUER": "https://as.example/",
    "ACCESS_TOKEN_LIFETIME": "0",
    "INITIAL_ACCESS_TOKEN": CANARY,
    "PARTITION_HOURS": "5",
    "BIND": "localhost:http",
    "WORKERS": "many",
    "THREADS": "0",
    "KEEPALIVE": "-1",
    "REQUEST_TIMEOUT": "0",
    "GRACEFUL_TIMEOUT": "1.5",
    "FORWARDED_ALLOW_IPS": "proxy",
    "API_DOCS": "yes",
    "LOG_LEVEL": "verbose",
}
CASES: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (f"AUTHSERVER_{name}", {name: value}) for name, value in WRONG.items()},
    "no DATABASE_URL": ("AUTHSERVER_DATABASE_URL", {"DATABASE_URL": ""}),
    "no ISSUER": ("AUTHSERVER_ISSUER", {"ISSUER": ""}),
    "no such file": ("AUTHSERVER_INITIAL_ACCESS_TOKEN_FILE", {"INITIAL_ACCESS_TOKEN_FILE": "/no/such/file"}),
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


Start = Callable[[tuple[str, ...], str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def started() -> Start:
    """The outcome of each start. All are begun at the first question: one after the other they would take long."""
    repository = Path(__file__).resolve().parents[2]

    def start(command: tuple[str, ...], settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=environment(**settings),
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    with ThreadPoolExecutor(4) as pool:
        outcomes: dict[tuple[tuple[str, ...], str], Future[subprocess.CompletedProcess[str]]] = {
            (command, case): pool.submit(start, command, CASES[case][1]) for command in (SERVE, PLAIN) for case in CASES
        }
        yield lambda command, case: outcomes[command, case].result()


@pytest.mark.parametrize("command", [SERVE, PLAIN], ids=["authserver serve", "gunicorn"])
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(started: Start, command, case):
    outcome = started(command, case)
    lines = (outcome.stdout + outcome.stderr).splitlines()
    assert outcome.returncode == 1, lines
    assert len(lines) == 1
    assert lines[0].startswith(f"authserver: {CASES[case][0]}")
    assert CANARY not in lines[0]


def test_every_setting_has_its_case():
    from authserver.config import SETTINGS  # noqa: PLC0415 - for this test alone

    assert {setting.name for setting in SETTINGS} == WRONG.keys()


def test_secrets_are_read_from_files(start_gunicorn, migrated_database, tmp_path):
    url, token = tmp_path / "url", tmp_path / "token"
    url.write_text(f"{migrated_database}\n")
    token.write_text(f"{'t' * 40}\n")
    files = {"DATABASE_URL_FILE": str(url), "INITIAL_ACCESS_TOKEN_FILE": str(token), "INITIAL_ACCESS_TOKEN": ""}
    server = start_gunicorn("", **files)
    answer = requests.post(
        f"{server.url}/clients/register",
        headers={"Authorization": f"Bearer {'t' * 40}"},
        json={"scope": "read"},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
