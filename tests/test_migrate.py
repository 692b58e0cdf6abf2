"""Migrations: by hand with psql and by the runner are the same act."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from authserver.dev.postgres import EmbeddedPostgres
from authserver.flows.maintain import HOUR, maintain
from authserver.migrate import MigrationError, is_current, make_plan, migrate, read_migrations
from authserver.oauth.access_token import AccessToken
from authserver.oauth.credentials import make_opaque_token, short_hash
from authserver.oauth.revocation_feed import START
from authserver.store import schema_migrations
from authserver.store.access_tokens import AccessTokens
from authserver.store.clients import Clients
from authserver.store.database import Database, SchemaBehind
from authserver.store.partitions import partitioned_tables
from authserver.store.revocations import Revocations
from authserver.store.schema_migrations import Applied, MigrationFailed, SchemaMigrations

MakeDatabase = Callable[..., str]


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    """An empty database of a role to whose migrations sql/roles.sql adds nothing: some of them are not ours."""
    return make_database("authserver_test_owner")


@pytest.fixture
def run(url: str) -> Callable[..., list[str]]:
    """Run the migrations of a directory (default: ours) on the database; give what was told."""

    def run(directory: Path | None = None) -> list[str]:
        told: list[str] = []
        database = Database(url, patient=True)
        try:
            migrations = read_migrations(directory) if directory else read_migrations()
            migrate(SchemaMigrations(database), migrations, told.append)
        finally:
            database.close()
        return told

    return run


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def ledger(url: str) -> list[tuple[int, str, bool]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT version, name, checksum IS NOT NULL FROM schema_migrations ORDER BY version"
        ).fetchall()  # type: ignore[return-value] # rows are tuples


def psql(url: str, file: Path) -> None:
    """What ops do by hand; psycopg's own libpq stands in where there is no psql."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(file.read_bytes())


def write(directory: Path, name: str, body: str) -> Path:
    version, _, rest = name.partition("_")
    record = f"INSERT INTO schema_migrations (version, name) VALUES ({int(version)}, '{rest}');"
    file = directory / f"{name}.sql"
    file.write_text(f"BEGIN;\n{body}\n{record}\nCOMMIT;\n")
    return file


@pytest.fixture
def directory(tmp_path: Path, repository: Path) -> Path:
    """A directory of migrations that begins with our first one, which makes the ledger."""
    (tmp_path / "0001_clients.sql").write_bytes((repository / "sql/0001_clients.sql").read_bytes())
    return tmp_path


def test_the_runner_applies_all_and_then_nothing(url: str, run: Callable[..., list[str]], repository: Path) -> None:
    names = sorted(path.name for path in (repository / "sql").glob("[0-9]*.sql"))
    assert run() == [f"applied {name}" for name in names]
    assert run() == ["nothing to do"]
    assert [row[2] for row in ledger(url)] == [True] * len(names)
    assert {"clients", "client_secrets", "access_tokens", "access_tokens_default"} <= tables(url)


def test_by_hand_and_by_runner_leave_the_same_schema(make_database: MakeDatabase, repository: Path) -> None:
    by_hand, by_runner = make_database(), make_database()
    for file in sorted((repository / "sql").glob("[0-9]*.sql")):
        psql(by_hand, file)
    database = Database(by_runner, patient=True)
    migrate(SchemaMigrations(database), read_migrations(), lambda _line: None)
    database.close()
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    seen = []
    for each in (by_hand, by_runner):
        with psycopg.connect(each) as connection:
            seen.append(connection.execute(columns).fetchall())
    assert seen[0] == seen[1]
    assert [row[:2] for row in ledger(by_hand)] == [row[:2] for row in ledger(by_runner)]


def test_files_applied_by_hand_are_adopted(url: str, run: Callable[..., list[str]], repository: Path) -> None:
    files = sorted((repository / "sql").glob("[0-9]*.sql"))
    psql(url, files[0])
    assert [row[2] for row in ledger(url)] == [False]
    assert run()[0] == f"adopted {files[0].name}, applied by hand"
    assert all(row[2] for row in ledger(url))
    assert run() == ["nothing to do"]


def test_two_runners_at_once_apply_once(url: str) -> None:
    def runner(_number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "authserver", "migrate"],
            env=os.environ | {"AUTHSERVER_DATABASE_URL": url},
            check=True,
            capture_output=True,
            text=True,
        )

    with ThreadPoolExecutor() as pool:
        outputs = [done.stdout for done in pool.map(runner, range(3))]
    assert sum("applied 0001_clients.sql" in output for output in outputs) == 1
    assert sum("nothing to do" in output for output in outputs) == 2
    assert [row[0] for row in ledger(url)] == list(range(1, len(read_migrations()) + 1))


def test_a_file_that_fails_in_the_middle_leaves_nothing(
    url: str, run: Callable[..., list[str]], directory: Path
) -> None:
    write(directory, "0002_broken", "CREATE TABLE half (id int);\nSELECT no_such_function();")
    with pytest.raises(MigrationFailed, match="no_such_function"):
        run(directory)
    assert "half" not in tables(url)
    assert [row[0] for row in ledger(url)] == [1]
    # Mended, it goes on where it stopped.
    write(directory, "0002_broken", "CREATE TABLE half (id int);")
    assert run(directory) == ["applied 0002_broken.sql"]
    assert "half" in tables(url)


@pytest.mark.parametrize("begin", ["", "BEGIN;\n"])
def test_a_file_that_does_not_commit_is_not_applied(
    url: str, run: Callable[..., list[str]], directory: Path, begin: str
) -> None:
    record = "INSERT INTO schema_migrations (version, name) VALUES (2, 'open');"
    (directory / "0002_open.sql").write_text(f"{begin}CREATE TABLE half (id int);\n{record}\n")
    with pytest.raises(MigrationFailed, match="COMMIT"):
        run(directory)
    assert "half" not in tables(url)
    assert [row[0] for row in ledger(url)] == [1]


def await_its_lock(migration: Future[list[str]], connection: psycopg.Connection[Any], table: str) -> None:
    """Until a migration that runs waits for its lock on a table."""
    waiting = "SELECT FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
    while not connection.execute(waiting, [table]).fetchall():
        assert not migration.done()


def test_requests_do_not_wait_behind_a_migration_that_waits(
    url: str, run: Callable[..., list[str]], directory: Path
) -> None:
    run(directory)
    write(directory, "0002_more", "ALTER TABLE clients ADD COLUMN more int;")
    with ThreadPoolExecutor() as pool, psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as other:
        reader.execute("SELECT FROM clients")
        migration = pool.submit(run, directory)
        await_its_lock(migration, other, "clients")
        other.execute("SET statement_timeout = '20s'")
        other.execute("SELECT FROM clients")
        reader.rollback()
        assert migration.result() == [
            "0002_more.sql needs locks that others have; trying again",
            "applied 0002_more.sql",
        ]


def test_a_deadlock_with_a_request_is_tried_again(
    url: str, as_administrator: Callable[[str], str], run: Callable[..., list[str]], directory: Path
) -> None:
    run(directory)
    write(directory, "0002_more", "ALTER TABLE clients ADD more int; ALTER TABLE client_secrets ADD more int;")
    with (
        ThreadPoolExecutor() as pool,
        psycopg.connect(as_administrator(url)) as reader,
        psycopg.connect(url, autocommit=True) as other,
    ):
        # It is the migration that is to find out.
        reader.execute("SET deadlock_timeout = '1min'")
        reader.execute("SELECT FROM client_secrets")
        migration = pool.submit(run, directory)
        await_its_lock(migration, other, "client_secrets")
        reader.execute("SELECT FROM clients")
        reader.rollback()
        assert migration.result()[-1] == "applied 0002_more.sql"


def test_a_migration_does_not_wait_for_autovacuum(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_migrations, "_ATTEMPTS", 3)
    # It yields to who has waited for as long as deadlock_timeout. Here it is made to take minutes.
    slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1"
    vacuuming = "SELECT FROM pg_stat_progress_vacuum WHERE relid = 'big'::regclass"
    write(directory, "0002_more", "ALTER TABLE big ADD more int;")
    told: list[str] = []
    with (
        EmbeddedPostgres(tmp_path / "postgres", {"autovacuum_naptime": "1"}) as server,
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        connection.execute(f"CREATE TABLE big (id int, filler text) WITH ({slow})")  # type: ignore[arg-type] # a constant
        connection.execute("INSERT INTO big SELECT id, repeat('x', 500) FROM generate_series(1, 20000) id")
        connection.execute("DELETE FROM big WHERE id % 2 = 0")
        deadline = time.monotonic() + 60
        while not connection.execute(vacuuming).fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with closing(Database(server.url(), patient=True)) as database:
            migrate(SchemaMigrations(database), read_migrations(directory), told.append)
    assert told[-1] == "applied 0002_more.sql"


def test_what_it_does_is_told_at_once(url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with psycopg.connect(url) as another:
        another.execute("SELECT pg_advisory_xact_lock(hashtext('authserver migrate'))")
        process = subprocess.Popen(
            [sys.executable, "-m", "authserver", "migrate"],
            env=environment | {"AUTHSERVER_DATABASE_URL": url},
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            seen, _, _ = select.select([process.stdout], [], [], 20)
            another.rollback()
            assert seen
            assert process.stdout.readline() == "waiting for another run to finish\n"
            process.stdout.read()
    assert process.returncode == 0


def test_a_migration_does_not_try_for_ever(
    url: str, run: Callable[..., list[str]], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(directory)
    write(directory, "0002_more", "ALTER TABLE clients ADD COLUMN more int;")
    monkeypatch.setattr(schema_migrations, "_ATTEMPTS", 1)
    monkeypatch.setattr(schema_migrations, "_PAUSE", 0)
    with psycopg.connect(url) as reader:
        reader.execute("SELECT FROM clients")
        with pytest.raises(MigrationFailed, match="others have kept locks"):
            run(directory)
    assert [row[0] for row in ledger(url)] == [1]


def test_a_changed_file_is_refused(url: str, run: Callable[..., list[str]], directory: Path) -> None:
    file = write(directory, "0002_more", "CREATE TABLE more (id int);")
    run(directory)
    file.write_text(file.read_text() + "-- harmless\n")
    with pytest.raises(MigrationError, match=r"0002_more\.sql was changed"):
        run(directory)


@pytest.mark.parametrize("names", [["0003_gap"], ["0002_a", "0002_b"]])
def test_gaps_and_repeats_are_refused(directory: Path, names: list[str]) -> None:
    for name in names:
        write(directory, name, "SELECT 1;")
    with pytest.raises(MigrationError, match="expected version"):
        read_migrations(directory)


def test_an_older_release_refuses_a_newer_schema(url: str, run: Callable[..., list[str]], directory: Path) -> None:
    newer = write(directory, "0002_newer", "SELECT 1;")
    run(directory)
    newer.unlink()
    with pytest.raises(MigrationError, match="0002_newer, which this release does not know"):
        run(directory)


def test_a_skipped_migration_is_refused() -> None:
    with pytest.raises(MigrationError, match="0002 was skipped"):
        make_plan(read_migrations(), [Applied(1, "clients", None), Applied(3, "initial_access_tokens", None)])


def test_an_unknown_version_after_a_gap_is_said_to_be_unknown() -> None:
    migrations = read_migrations()
    applied = [Applied(each.version, each.name, None) for each in migrations]
    with pytest.raises(MigrationError, match="0099_later, which this release does not know"):
        make_plan(migrations, [*applied, Applied(99, "later", None)])


def test_a_renamed_migration_is_refused() -> None:
    with pytest.raises(MigrationError, match="is recorded as 0001_customers"):
        make_plan(read_migrations(), [Applied(1, "customers", None)])


def test_a_file_without_transaction_holds_one_statement(
    url: str, run: Callable[..., list[str]], directory: Path
) -> None:
    (directory / "0002_index.sql").write_text(
        "-- no-transaction: CREATE INDEX CONCURRENTLY cannot run in one\n"
        "CREATE INDEX CONCURRENTLY clients_created_at ON clients (created_at);\n"
        "INSERT INTO schema_migrations (version, name) VALUES (2, 'index');\n"
    )
    # A second runner that waits for the lock must not hold a snapshot that the index build would wait for.
    with ThreadPoolExecutor() as pool:
        outputs = sorted(pool.map(lambda _: run(directory)[-1], range(2)))
    assert outputs == ["applied 0002_index.sql", "nothing to do"]


def test_readiness_follows_the_schema(url: str, run: Callable[..., list[str]], directory: Path) -> None:
    run(directory)
    database = Database(url)
    try:
        assert is_current(SchemaMigrations(database), read_migrations(directory))
        assert not is_current(SchemaMigrations(database), read_migrations())
        # A newer schema serves an older release: that is how an upgrade rolls.
        assert is_current(SchemaMigrations(database), read_migrations(directory)[:0])
    finally:
        database.close()


def test_status_and_plan_change_nothing(url: str, repository: Path) -> None:
    def authserver(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "authserver", "migrate", *arguments],
            env=os.environ | {"AUTHSERVER_DATABASE_URL": url},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert "pending  0001_clients.sql" in authserver("--status")
    assert "would apply 0001_clients.sql" in authserver("--plan")
    assert tables(url) == set()
    psql(url, repository / "sql/0001_clients.sql")
    assert "applied  0001_clients.sql by hand" in authserver("--status")
    assert "would adopt 0001_clients.sql" in authserver("--plan")
    assert [row[2] for row in ledger(url)] == [False]


def test_status_shows_the_state_also_if_it_does_not_fit_together(url: str, run: Callable[..., list[str]]) -> None:
    names = [migration.file_name for migration in read_migrations()]
    run()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE version = 2")
        connection.execute("INSERT INTO schema_migrations (version, name) VALUES (99, 'later')")
    done = subprocess.run(
        [sys.executable, "-m", "authserver", "migrate", "--status"],
        env=os.environ | {"AUTHSERVER_DATABASE_URL": url},
        check=False,
        capture_output=True,
        text=True,
    )
    states = ["applied ", "pending ", *("applied " for _ in names[2:])]
    expected = [f"{state} {name}" for state, name in zip(states, names, strict=True)]
    assert done.stdout.splitlines() == [*expected, "applied  0099_later.sql by hand, checksum not yet recorded"]
    assert done.stderr.startswith("authserver: migrate: migration 0002 was skipped")
    assert done.returncode == 1


def test_tokens_and_revocations_outlive_the_shortening_of_their_rows(
    url: str, run: Callable[..., list[str]], tmp_path: Path, repository: Path
) -> None:
    for file in (repository / "sql").glob("00[01][0-9]_*.sql"):
        if file.name < "0011":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    run(tmp_path)
    now = int(time.time())
    # In partitions, and in the default ones.
    live, revoked, late = (make_opaque_token(now + after, secrets.token_bytes) for after in (3600, 3601, 900_000))
    with closing(Database(url, patient=True)) as database:
        maintain(partitioned_tables(database), now, 6 * HOUR, lambda _line: None)
        with database.transaction() as connection:
            connection.execute("INSERT INTO clients (client_id) VALUES ('a')")
            tokens = (
                "INSERT INTO access_tokens (expires_at, token_hash, client, issued_at, scope, audience, revoked_at)"
                " SELECT %s, sha256(%s), id, %s, 'read', %s, %s FROM clients"
            )
            connection.execute(tokens, (now + 3600, live.encode(), now, ["https://b.example", "urn:c"], None))
            connection.execute(tokens, (now + 3601, revoked.encode(), now, [], now))
            connection.execute(tokens, (now + 900_000, late.encode(), now, [], None))
            revocations = "INSERT INTO revocations (expires_at, token_hash) VALUES (%s, sha256(%s))"
            for expires_at in (now + 3601, now + 900_000):
                connection.execute(revocations, (expires_at, revoked.encode()))
        caller = Clients(database).load("a")
        assert caller is not None
        rows, events = AccessTokens(database), Revocations(database)
        token = AccessToken("a", "read", [], now, now + 3600)
        for act in (
            # Until it is applied, this code finds out that it is not, and answers 503.
            lambda: rows.add(short_hash(live), token, caller),
            lambda: rows.find(short_hash(live), now + 3600, caller),
            lambda: rows.revoke(short_hash(live), now + 3600, caller, now),
            lambda: events.is_live(short_hash(live), token, caller, 1),
            lambda: events.revoke_jwt(short_hash(live), token, caller, 1),
            lambda: events.read_feed(START, 10, now, caller),
        ):
            with pytest.raises(SchemaBehind):
                act()

        run()
        found = [
            rows.find(short_hash(token), expires_at, caller)
            for token, expires_at in ((live, now + 3600), (revoked, now + 3601), (late, now + 900_000))
        ]
        _, told = events.read_feed(START, 10, now, caller)
    assert found == [
        AccessToken("a", "read", ["https://b.example", "urn:c"], now, now + 3600),
        None,
        AccessToken("a", "read", [], now, now + 900_000),
    ]
    assert [each.short_hash for each in told] == [short_hash(revoked)] * 2
