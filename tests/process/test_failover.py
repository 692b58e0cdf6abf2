"""The primary is lost and a replica takes over: 503 in between, nothing wrong, nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from authserver.dev.postgres import EmbeddedPostgres

OK, AWAY = 200, 503


@pytest.fixture
def make_replica(spare) -> Callable[[EmbeddedPostgres], EmbeddedPostgres]:
    """Make the spare server a hot standby that every commit of the primary waits for."""

    def make(primary: EmbeddedPostgres) -> EmbeddedPostgres:
        spare.take_base_backup(primary)
        spare.start_with("standby.signal", primary_conninfo=f"host={primary.home} user=postgres")
        with psycopg.connect(primary.url(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        return spare

    return make


def is_synchronous(primary: EmbeddedPostgres) -> bool:
    with psycopg.connect(primary.url()) as connection:
        return connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)]


def test_a_replica_takes_over_under_load(
    make_postgres, make_replica, start_gunicorn, make_witness, load, wait_until, backends
):
    primary, url = make_postgres(wal_level="replica")
    replica = make_replica(primary)
    wait_until(lambda: is_synchronous(primary), "the replica to follow")
    # As in docs/operations.md: both hosts, in whatever order, and no word on which may be written to.
    both = make_conninfo(url("authserver_app"), host=f"{replica.home},{primary.home}")
    server = start_gunicorn(both, WORKERS="2", THREADS="4")
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    workers = server.workers()
    witness = make_witness(server.register())
    load.start(witness.act, threads=6)
    wait_until(lambda: load.failures or len(witness.revoked) > 50, "revocations before")
    assert backends(replica.url()) == set(), "a replica may lack a revocation"

    primary.kill()
    load.counts.pop(str(AWAY), None)
    # Nobody is primary: the replica answers, but is not asked.
    wait_until(lambda: load.failures or load.counts.get(str(AWAY), 0) > 20, "503 without a primary")
    assert backends(replica.url()) == set()
    with psycopg.connect(replica.url(), autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
    acknowledged = len(witness.revoked)
    wait_until(lambda: load.failures or len(witness.revoked) > acknowledged + 20, "revocations by the new primary")
    load.end()
    witness.check_everything()
    assert server.workers() == workers
    assert '"critical"' not in server.logged()


def test_a_database_that_turned_read_only_costs_503_until_it_is_not(
    make_postgres, start_gunicorn, make_witness, load, wait_until
):
    postgres, url = make_postgres()
    server = start_gunicorn(url("authserver_app"), WORKERS="2", THREADS="4")
    witness = make_witness(server.register())
    load.start(witness.act, threads=4)
    wait_until(lambda: load.failures or len(witness.revoked) > 20, "revocations before")
    with psycopg.connect(postgres.url(), autocommit=True) as administrator:
        for value in ("on", "off"):
            administrator.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            administrator.execute("SELECT pg_reload_conf()")
            load.counts.clear()
            status = str(AWAY if value == "on" else OK)
            wait_until(lambda: load.failures or load.counts.get(status, 0) > 100, status)
            # Each worker finds out by itself, and looks four times a second.
            wait_until(lambda: str(witness.party.token().status_code) == status, f"{status} from whichever worker")
    load.end()
    witness.check_everything()
    assert '"critical"' not in server.logged()


def test_a_restart_under_load_costs_503_and_nothing_else(make_postgres, start_gunicorn, make_witness, load, wait_until):
    """As for a minor upgrade: connections are ended with a word of goodbye, in the middle of whatever they do."""
    postgres, url = make_postgres()
    server = start_gunicorn(url("authserver_app"), WORKERS="2", THREADS="4")
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    workers = server.workers()
    witness = make_witness(server.register())
    load.start(witness.act, threads=6)
    for _ in range(3):
        acknowledged = len(witness.revoked)
        wait_until(lambda: load.failures or len(witness.revoked) > acknowledged + 20, "revocations")
        postgres.restart()
    acknowledged = len(witness.revoked)
    wait_until(lambda: load.failures or len(witness.revoked) > acknowledged + 20, "revocations after")
    load.end()
    witness.check_everything()
    assert server.workers() == workers
    assert '"critical"' not in server.logged()
