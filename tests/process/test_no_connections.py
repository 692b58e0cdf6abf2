"""PostgreSQL has no connection left for us: 503, and no restart is needed when it has."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

OK, AWAY = 200, 503
OURS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'authserver_app'"


@pytest.fixture(scope="module")
def own_postgres(make_postgres):
    postgres, url = make_postgres(max_connections="20", superuser_reserved_connections="3")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE neighbour LOGIN")
    return postgres, url


@pytest.fixture
def server(own_postgres, start_gunicorn, wait_until):
    server = start_gunicorn(own_postgres[1]("authserver_app"), WORKERS="2", THREADS="3")
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    return server


def take_all(stack: ExitStack, url: str) -> int:
    """Open connections until there are none; give how many."""
    taken = 0
    while True:
        try:
            stack.enter_context(psycopg.connect(url))
        except psycopg.OperationalError as error:
            if "connection slots" not in str(error) and "too many clients" not in str(error):
                raise
            return taken
        taken += 1


def is_refused(party) -> bool:
    answer = party.token()
    if answer.status_code == OK:
        return False
    assert answer.status_code == AWAY
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"] == "temporarily_unavailable"
    return True


def test_neighbours_that_take_all_connections_cost_503_until_they_leave(
    own_postgres, server, make_witness, load, wait_until
):
    postgres, _ = own_postgres
    workers = server.workers()
    witness = make_witness(server.register())
    load.start(witness.act, threads=4)
    wait_until(lambda: load.failures or len(witness.revoked) > 20, "revocations before")
    with psycopg.connect(postgres.url(), autocommit=True) as administrator, ExitStack() as neighbours:
        neighbour = make_conninfo(postgres.url(), user="neighbour")
        assert take_all(neighbours, neighbour) > 3
        # Who has a connection works on, whoever else has one.
        served = load.counts[str(OK)]
        wait_until(lambda: load.failures or load.counts[str(OK)] > served + 50, "answers by the connections there are")
        administrator.execute("ALTER ROLE authserver_app CONNECTION LIMIT 0")  # until the neighbours have them
        administrator.execute(OURS)
        wait_until(lambda: load.failures or is_refused(witness.party), "503 without a connection")
        take_all(neighbours, neighbour)
        administrator.execute("ALTER ROLE authserver_app CONNECTION LIMIT -1")
        load.counts.pop(str(AWAY), None)
        wait_until(lambda: load.failures or load.counts.get(str(AWAY), 0) > 20, "503 while they have all")
    wait_until(lambda: load.failures or not is_refused(witness.party), "200 once they have left")
    acknowledged = len(witness.revoked)
    wait_until(lambda: load.failures or len(witness.revoked) > acknowledged + 20, "revocations after")
    load.end()
    witness.check_everything()
    assert server.workers() == workers
    assert '"critical"' not in server.logged()


def test_a_limit_of_our_role_costs_503_until_it_is_raised(own_postgres, server, wait_until):
    postgres, _ = own_postgres
    party = server.register()
    with psycopg.connect(postgres.url(), autocommit=True) as administrator:
        administrator.execute("ALTER ROLE authserver_app CONNECTION LIMIT 0")
        try:
            administrator.execute(OURS)
            wait_until(lambda: is_refused(party), "503")
        finally:
            administrator.execute("ALTER ROLE authserver_app CONNECTION LIMIT -1")
    wait_until(lambda: not is_refused(party), "200")
