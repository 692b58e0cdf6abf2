"""`authserver client show`: the evidence by which secrets are rotated, for people and for programs."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from authserver.store.clients import Clients
from authserver.store.database import Database

Run = Callable[..., subprocess.CompletedProcess[str]]
DAY = 86400


@pytest.fixture
def on_a_terminal(database_url: str) -> Callable[..., str]:
    """Run a command whose standard output is a terminal; give what it shows."""

    def run(*arguments: str) -> str:
        ours, theirs = pty.openpty()
        try:
            subprocess.run(
                [sys.executable, "-m", "authserver", *arguments],
                env=os.environ | {"AUTHSERVER_DATABASE_URL": database_url},
                check=True,
                stdout=theirs,
            )
        finally:
            os.close(theirs)
        with os.fdopen(ours, "rb") as terminal:
            shown = bytearray()
            while chunk := _read(terminal.fileno()):
                shown += chunk
        return shown.decode().replace("\r\n", "\n")

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody has the other side any more
        return b""


def history(database_url: str, label: str, **days_ago: int | None) -> None:
    """Have a secret been made, used or expire so many days ago."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for column, days in days_ago.items():
            connection.execute(
                f"UPDATE client_secrets SET {column} = now() - make_interval(days => %s) WHERE label = %s",
                (days, label),
            )


def test_show_says_which_secret_is_safe_to_drop(
    run: Run, on_a_terminal: Callable[..., str], database_url: str, app: Any
) -> None:
    run("client", "create", "a", "--scope", "read")
    second = json.loads(run("client", "secret", "add", "a", "--label", "second").stdout)["client_secret"]
    run("client", "secret", "add", "a", "--label", "third", "--expires", "20d")
    history(database_url, "first", created_at=300, last_used_at=40)
    form = {"client_id": "a", "client_secret": second, "grant_type": "client_credentials"}
    app.post("/oauth/token", form)

    shown = on_a_terminal("client", "show", "a")
    assert re.search(r"^first +\S+ \S+ +never +\S+ \S+ +safe to drop: a newer one is in use$", shown, re.MULTILINE)
    assert re.search(r"^second +\S+ \S+ +never +within the last hour$", shown, re.MULTILINE)
    assert re.search(r"^third +\S+ \S+ +\S+ \S+ +never +expires soon: add another one$", shown, re.MULTILINE)
    assert on_a_terminal("client", "show", "a", "--json") == run("client", "show", "a").stdout

    secrets = json.loads(run("client", "show", "a", "--json").stdout)["secrets"]
    assert [s["safe_to_drop"] for s in secrets] == [True, False, False]
    assert [s["expires_soon"] for s in secrets] == [False, False, True]
    assert [s["last_used_at"] is None for s in secrets] == [False, False, True]
    assert "secret_hash" not in secrets[0]


def test_secrets_about_to_expire_can_be_counted(run: Run, database_url: str, database: Database) -> None:
    run("client", "create", "a")
    for label, expires in (("soon", "10d"), ("sooner", "1d"), ("later", "60d")):
        run("client", "secret", "add", "a", "--label", label, "--expires", expires)
    run("client", "secret", "add", "a", "--label", "gone", "--expires", "1d")
    history(database_url, "gone", expires_at=1)
    clients = Clients(database)
    (now,) = database.fetch_all("SELECT extract(epoch FROM now())::bigint")[0]
    found = clients.expiring_secrets(now, 30 * DAY)
    assert [(secret.client_id, secret.label) for secret in found] == [("a", "sooner"), ("a", "soon")]
