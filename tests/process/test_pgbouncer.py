"""Many connections, and PgBouncer in transaction mode in between: all works, or the start says what to set."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import requests
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from authserver.dev.stack import free_port

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="needs pgbouncer (Debian: apt-get install pgbouncer)")
PATIENCE = 30.0  # seconds
TRANSACTION = {"DATABASE_POOLER": "transaction"}


@pytest.fixture(scope="module")
def through_pgbouncer(
    tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[], str]
) -> Iterator[Callable[..., tuple[str, str, str]]]:
    """Start a PgBouncer in front of an empty database; gives the connection strings of owner and
    server through it, and of the owner around it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*settings: str) -> tuple[str, str, str]:
        url = make_database()
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        # Whoever asks is not looked at, so each role has a name of its own for the database.
        names = {"authserver_owner": given["dbname"], "authserver_app": f"{given['dbname']}_serving"}
        parts = [f"{name}={given[name]}" for name in ("host", "port", "dbname", "password") if name in given]
        port = free_port()
        file = tmp_path_factory.mktemp("pgbouncer") / "pgbouncer.ini"
        lines = [
            "[databases]",
            *(f"{name} = {' '.join(parts)} user={role}" for role, name in names.items()),
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            "pool_mode = transaction",
            # Fewer sessions than the servers have connections: each gets those of the others.
            "default_pool_size = 3",
            "max_client_conn = 500",
            *settings,
        ]
        file.write_text("\n".join(lines))
        assert PGBOUNCER is not None
        command = [PGBOUNCER, "-q"]
        if os.geteuid() == 0:
            # It refuses to run as root, and the embedded server's socket is that server's user's own.
            command += ["-u", pwd.getpwuid(Path(given["host"]).stat().st_uid).pw_name]
            file.chmod(0o644)
            for directory in (file.parent, *file.parents[1:3]):
                directory.chmod(0o755)
        started.append(subprocess.Popen([*command, str(file)], stderr=subprocess.DEVNULL))
        owner, serving = (
            make_conninfo(url, host="127.0.0.1", port=port, user=role, dbname=name) for role, name in names.items()
        )
        return owner, serving, url

    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def key() -> str:
    return secrets.token_urlsafe(32)


@pytest.fixture
def command(key: str) -> Callable[..., str]:
    """Run an `authserver` command on a database through PgBouncer; gives what it printed."""

    def run(url: str, *arguments: str) -> str:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AUTHSERVER_")},
            "AUTHSERVER_DATABASE_URL": url,
            "AUTHSERVER_DATABASE_POOLER": "transaction",
            "AUTHSERVER_KEY_ENCRYPTION_KEY": key,
        }
        command = [sys.executable, "-m", "authserver", *arguments]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@needs_pgbouncer
def test_everything_works_through_pgbouncer_in_transaction_mode(
    through_pgbouncer, command, key, start_gunicorn, wait_until
):
    pooled, serving, direct = through_pgbouncer()
    wait_until(lambda: answers(pooled), "PgBouncer answers")
    # Several at once: only one has the lock, whichever sessions their statements get.
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(lambda _: command(pooled, "migrate"), range(3)))
    assert sum("applied 0001_clients.sql" in each for each in told) == 1
    assert "created access_tokens_" in command(pooled, "maintain")
    assert command(pooled, "keys", "rotate")
    with psycopg.connect(direct) as connection:
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM signing_keys").fetchone() == (2,)

    metrics = f"127.0.0.1:{free_port()}"
    server = start_gunicorn(
        serving, **TRANSACTION, WORKERS="2", THREADS="8", KEY_ENCRYPTION_KEY=key, METRICS_BIND=metrics
    )
    clients = [
        server.register(),
        server.register(access_token_format="jwt", audiences=["https://b.example"]),
    ]

    def live_and_die(number: int) -> None:
        client = clients[number % 2]
        token = client.token().json()["access_token"]
        assert client.introspect(token).json()["active"] is True
        assert client.revoke(token).status_code == 200
        assert client.introspect(token).json() == {"active": False}

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(live_and_die, range(64)))
    for _ in range(2):  # also over a second connection, in a session that another had
        assert "authserver_database_up 1.0" in requests.get(f"http://{metrics}/metrics", timeout=30).text
    assert '"level": "error"' not in server.logged()
    assert '"level": "warning"' not in server.logged()


@needs_pgbouncer
@pytest.mark.parametrize("settings", [(), ("ignore_startup_parameters = options",)])
def test_without_the_setting_the_log_says_what_to_set(through_pgbouncer, command, start_gunicorn, wait_until, settings):
    pooled, serving, _ = through_pgbouncer(*settings)
    wait_until(lambda: answers(pooled), "PgBouncer answers")
    command(pooled, "migrate")
    server = start_gunicorn(serving, ready=False)
    wait_until(lambda: "Listening at" in server.logged(), "it listens")

    def told() -> bool:
        # Statements meet sessions in which they were not prepared when several threads ask.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: requests.get(f"{server.url}/ready", timeout=PATIENCE), range(32)))
        return "set AUTHSERVER_DATABASE_POOLER=transaction" in server.logged()

    wait_until(told, "the log says what to set")


def test_the_connections_of_sixteen_workers(serving_url, start_gunicorn, backends):
    server = start_gunicorn(serving_url, WORKERS="16", THREADS="4")
    client = server.register()

    def ask(_number: int) -> int:
        return int(client.token().status_code)

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(ask, range(320))) == {200}
    # A connection for each thread that had something to do: how many is the kernel's choice.
    assert len(backends(serving_url)) > 1


def test_more_connections_than_postgresql_has_are_told_at_the_start(serving_url, start_gunicorn, wait_until):
    server = start_gunicorn(serving_url, WORKERS="4", THREADS="256")
    wait_until(lambda: "is 1024 connections, and PostgreSQL lets this role have" in server.logged(), "it is told")
