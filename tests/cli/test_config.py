"""Settings as commands read them, and `authserver config`, which shows and checks them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from authserver.config import unknown_variables
from authserver.store.conninfo import MASK, without_secrets

Run = Callable[..., subprocess.CompletedProcess[str]]
ISSUER = {"AUTHSERVER_ISSUER": "https://as.example"}


def test_config_shows_everything_but_secrets(run: Run) -> None:
    secret = "s" * 40
    url = "postgresql://someone:hunter2@db.example:5433/tokens?password=hunter2"
    shown = run("config", AUTHSERVER_DATABASE_URL=url, AUTHSERVER_INITIAL_ACCESS_TOKEN=secret, **ISSUER).stdout
    assert secret not in shown
    assert "hunter2" not in shown
    assert re.search(r"DATABASE_URL +user=someone password=\*{8} dbname=tokens host=db\.example port=5433 ", shown)


def test_config_is_a_check(run: Run) -> None:
    done = run("config", status=1, AUTHSERVER_THREADS="0", AUTHSERVER_ISSUER="")
    assert "wrong: must be a whole number from 1 to 256" in done.stdout
    assert re.search(r"AUTHSERVER_ISSUER +\(not set\)", done.stdout)
    assert "AUTHSERVER_ISSUER is not set" in done.stderr
    done = run("config", status=1, AUTHSERVER_DATABASE_URL="nonsense", **ISSUER)
    assert done.stderr == "authserver: AUTHSERVER_DATABASE_URL is not a PostgreSQL connection string\n"


def test_config_names_misspelt_settings(database_url: str) -> None:
    settings = {"AUTHSERVER_DATABASE_URL": database_url, "AUTHSERVER_TREADS": "4", **ISSUER}
    done = subprocess.run(
        [sys.executable, "-m", "authserver", "config"],
        env=os.environ | settings,
        check=True,
        capture_output=True,
        text=True,
    )
    line = "AUTHSERVER_TREADS is not a setting and has no effect; the closest one is AUTHSERVER_THREADS"
    assert done.stderr == f"authserver: warning: {line}\n"


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("AUTHSERVER_ISSUER_URL", "x", "AUTHSERVER_ISSUER"),
        ("AUTHSERVER_ISSUER_FILE", "x", "AUTHSERVER_ISSUER"),
        ("AUTHSERVER_DB_URL_FILE", "x", "AUTHSERVER_DATABASE_URL_FILE"),
        ("AUTHSERVER_PORT", "8000", "AUTHSERVER_"),
        # What Kubernetes puts into the containers beside a service named "authserver" or "authserver-db".
        ("AUTHSERVER_PORT", "tcp://10.0.0.1:80", None),
        ("AUTHSERVER_SERVICE_HOST", "10.0.0.1", None),
        ("AUTHSERVER_SERVICE_PORT_HTTP", "80", None),
        ("AUTHSERVER_PORT_80_TCP_ADDR", "10.0.0.1", None),
        ("AUTHSERVER_DB_SERVICE_PORT", "5432", None),
        ("AUTHSERVER_DB_PORT_5432_TCP", "tcp://10.0.0.1:5432", None),
        ("AUTHSERVER_DATABASE_URL_FILE", "x", None),
        ("OTHER_TREADS", "x", None),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_closest_one(name: str, value: str, meant: str | None) -> None:
    lines = unknown_variables({name: value})
    if meant is None:
        assert lines == []
    else:
        assert [name in line and meant in line for line in lines] == [True]


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        ("postgresql://u:canary@h:5432/d", "user=u password=******** dbname=d host=h port=5432"),
        ("postgresql:///d?host=/run/pg&user=u&password=canary", "dbname=d host=/run/pg user=u password=********"),
        ("host=h password='can ary' user=u", "host=h password=******** user=u"),
        ("postgresql://u:%63anary@h/d", "user=u password=******** dbname=d host=h"),
        ("host=h sslpassword=canary options='-c x.y=canary'", "host=h sslpassword=******** options=********"),
        # Not percent-encoded where it should be, or where nobody expects it: nothing of it is shown.
        ("postgresql://u:12@canary@h/d", MASK),
        ("postgresql://u:canary/12@h/d", MASK),
        ("postgresql://u:12/canary@h/d", MASK),
        ("postgresql://u%3Acanary@h/d", MASK),
        ("dbname='postgresql://u:canary@h/d'", MASK),
        ("dbname='password=canary'", MASK),
        ("host='h password=canary'", MASK),
        ("canary", MASK),
        ("postgresql://u:canary@[/d", MASK),
    ],
)
def test_of_a_connection_string_only_harmless_parts_are_shown(conninfo: str, shown: str) -> None:
    assert sorted(without_secrets(conninfo).split()) == sorted(shown.split())


def test_secrets_come_from_files(run: Run, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(database_url + "\n")
    environment = {"AUTHSERVER_DATABASE_URL": "", "AUTHSERVER_DATABASE_URL_FILE": str(file)}
    run("client", "list", **environment)
    both = {"AUTHSERVER_DATABASE_URL_FILE": str(file)}
    assert "AUTHSERVER_DATABASE_URL_FILE are both set" in run("client", "list", status=1, **both).stderr
    (tmp_path / "empty").write_text("\n")
    empty = environment | {"AUTHSERVER_DATABASE_URL_FILE": str(tmp_path / "empty")}
    assert "AUTHSERVER_DATABASE_URL_FILE is empty" in run("client", "list", status=1, **empty).stderr
    missing = environment | {"AUTHSERVER_DATABASE_URL_FILE": str(tmp_path / "none")}
    said = run("client", "list", status=1, **missing).stderr
    assert said == "authserver: AUTHSERVER_DATABASE_URL_FILE cannot be read: No such file or directory\n"
