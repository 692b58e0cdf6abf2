"""PostgreSQL is killed, or freezes, under load: every answer is right or 503, and what was acknowledged stays so."""

from __future__ import annotations

import time

import pytest
import requests

from authserver.store.database import ANSWER_TIMEOUT, CONNECT_TIMEOUT

OK, AWAY = 200, 503
# Seconds; each far below what a process would need that got it wrong, and far above what a loaded machine adds.
BACK = 5.0  # from the database's return to the last 503
AT_ONCE = 3.0  # for what needs no database


@pytest.fixture(scope="module")
def own_postgres(make_postgres):
    """A server of our own, since it gets killed; and its URLs by role."""
    return make_postgres()


@pytest.fixture(scope="module")
def gunicorn(own_postgres, start_gunicorn):
    return start_gunicorn(own_postgres[1]("authserver_app"), WORKERS="2", THREADS="4")


@pytest.fixture
def witness(gunicorn, make_witness):
    return make_witness(gunicorn.register())


def is_answered(party) -> bool:
    return party.token().status_code == OK


def health(gunicorn) -> float:
    """Seconds until /health answers."""
    start = time.monotonic()
    assert requests.get(f"{gunicorn.url}/health", timeout=30).status_code == OK
    return time.monotonic() - start


def test_r6_a_killed_database_costs_503_and_nothing_else(gunicorn, own_postgres, witness, load, wait_until):
    load.start(witness.act, threads=6)
    wait_until(lambda: len(witness.revoked) > 50, "revocations before the crash")
    # The first worker answers while gunicorn still starts the others.
    wait_until(lambda: len(gunicorn.workers()) == 2, "all workers")
    workers = gunicorn.workers()
    own_postgres[0].kill()
    load.counts.pop(str(AWAY), None)
    wait_until(lambda: load.failures or load.counts.get(str(AWAY), 0) >= 10, "503 while the database is away")
    assert health(gunicorn) < AT_ONCE
    assert requests.get(f"{gunicorn.url}/ready", timeout=30).status_code == AWAY
    own_postgres[0].start()
    back = time.monotonic()
    wait_until(lambda: load.failures or is_answered(witness.party), "200 again")
    assert time.monotonic() - back < BACK
    acknowledged = len(witness.revoked)
    wait_until(
        lambda: load.failures or (len(witness.revoked) > acknowledged + 20 and time.monotonic() > back + BACK),
        "revocations after the crash",
    )
    assert witness.last_away < back + BACK
    load.end()
    witness.check_everything()
    assert gunicorn.workers() == workers


def test_r6_a_frozen_database_costs_503_within_bounds(gunicorn, own_postgres, witness, load, wait_until):
    workers = gunicorn.workers()
    load.start(witness.act, threads=6)
    wait_until(lambda: len(witness.revoked) > 20, "revocations before")
    own_postgres[0].freeze()
    try:
        frozen = time.monotonic()
        load.counts.pop(str(AWAY), None)
        wait_until(lambda: load.failures or load.counts.get(str(AWAY), 0) >= 10, "503 while the database is frozen")
        assert time.monotonic() - frozen < ANSWER_TIMEOUT + CONNECT_TIMEOUT + BACK
        # One thread tries the database now and then, the others are free.
        assert health(gunicorn) < AT_ONCE
    finally:
        own_postgres[0].thaw()
    back = time.monotonic()
    wait_until(lambda: load.failures or is_answered(witness.party), "200 again")
    # The one thread that tries may just have begun to wait.
    assert time.monotonic() - back < CONNECT_TIMEOUT + BACK
    load.end()
    witness.check_everything()
    assert gunicorn.workers() == workers
