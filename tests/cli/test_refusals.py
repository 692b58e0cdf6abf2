"""What cannot be done ends in one line that says why, and that quotes no value."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import psycopg

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_schema_that_is_behind_is_named_as_what_it_is(run: Run, make_database: Callable[[], str]) -> None:
    for command in (("client", "list"), ("maintain",), ("client", "create", "a")):
        done = run(*command, status=1, AUTHSERVER_DATABASE_URL=make_database())
        assert done.stderr == "authserver: the schema is behind this release: run 'authserver migrate'\n"


def test_what_nobody_expected_quotes_no_value(run: Run, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE client_secrets ADD CONSTRAINT broken CHECK (label = '') NOT VALID")
        try:
            done = run("client", "create", "canary", status=1)
        finally:
            connection.execute("ALTER TABLE client_secrets DROP CONSTRAINT broken")
    assert done.stderr.startswith("authserver: unexpected CheckViolation at ")
    assert "canary" not in done.stderr
