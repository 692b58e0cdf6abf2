"""PostgreSQL is killed, or freezes, under load: every answer is right or 503, and what was acknowledged stays so."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
import requests

from authserver.dev.postgres import EmbeddedPostgres
from authserver.migrate import migrate, read_migrations
from authserver.store.database import ANSWER_TIMEOUT, CONNECT_TIMEOUT, Database
from authserver.store.schema_migrations import SchemaMigrations

OK, REFUSED, AWAY = 200, 401, 503
# Seconds; each far below what a process would need that got it wrong, and far above what a loaded machine adds.
BACK = 5.0  # from the database's return to the last 503
AT_ONCE = 3.0  # for what needs no database


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory) -> Iterator[EmbeddedPostgres]:
    """A durable server of our own, since it gets killed; tokens go to the default partition."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("own") / "data") as server:
        database = Database(server.url(), patient=True)
        migrate(SchemaMigrations(database), read_migrations(), lambda _line: None)
        database.close()
        yield server


@pytest.fixture(scope="module")
def gunicorn(own_postgres, start_gunicorn, give_roles):
    return start_gunicorn(give_roles(own_postgres.url())("authserver_app"), WORKERS="2", THREADS="4")


class Witness:
    """Does what clients do, knows what each answer must be, and remembers what was acknowledged."""

    def __init__(self, party, load):
        self.party, self.load = party, load
        self.live, self.revoked = [], []
        self.last_away = 0.0

    def answered(self, response: requests.Response, right: int = OK) -> bool:
        """Whether the answer is the right one; 503 is allowed, anything else is not."""
        self.load.count(str(response.status_code))
        if response.status_code == AWAY:
            assert response.headers["Retry-After"]
            assert "active" not in response.text
            self.last_away = time.monotonic()
            return False
        assert response.status_code == right, response.text
        return True

    def act(self, session: requests.Session) -> None:
        party = self.party
        wrong = party.post("introspect", session, token="x", client_secret="ascs_wrong")
        if wrong.status_code != requests.codes.too_many_requests:  # so many failures are throttled
            self.answered(wrong, REFUSED)
        if not self.answered(issued := party.token(session)):
            return
        token = issued.json()["access_token"]
        self.expect(token, session, active=True)
        if secrets.randbelow(2):
            self.live.append(token)
        elif self.answered(party.revoke(token, session)):
            self.revoked.append(token)
            self.expect(token, session, active=False)

    def expect(self, token: str, session: requests.Session | None, *, active: bool) -> None:
        if self.answered(answer := self.party.introspect(token, session)):
            assert answer.json()["active"] is active

    def check_everything(self) -> None:
        """Nothing that was acknowledged is lost. A sample of the live ones will do: there may be thousands."""
        with requests.Session() as session:
            session.trust_env = False
            for token in self.revoked:
                assert self.party.introspect(token, session).json() == {"active": False}
            for token in self.live[-200:]:
                assert self.party.introspect(token, session).json()["active"] is True


@pytest.fixture
def witness(gunicorn, load):
    return Witness(gunicorn.register(), load)


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
    own_postgres.kill()
    load.counts.pop(str(AWAY), None)
    wait_until(lambda: load.failures or load.counts.get(str(AWAY), 0) >= 10, "503 while the database is away")
    assert health(gunicorn) < AT_ONCE
    assert requests.get(f"{gunicorn.url}/ready", timeout=30).status_code == AWAY
    own_postgres.start()
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
    own_postgres.freeze()
    try:
        frozen = time.monotonic()
        load.counts.pop(str(AWAY), None)
        wait_until(lambda: load.failures or load.counts.get(str(AWAY), 0) >= 10, "503 while the database is frozen")
        assert time.monotonic() - frozen < ANSWER_TIMEOUT + CONNECT_TIMEOUT + BACK
        # One thread tries the database now and then, the others are free.
        assert health(gunicorn) < AT_ONCE
    finally:
        own_postgres.thaw()
    back = time.monotonic()
    wait_until(lambda: load.failures or is_answered(witness.party), "200 again")
    # The one thread that tries may just have begun to wait.
    assert time.monotonic() - back < CONNECT_TIMEOUT + BACK
    load.end()
    witness.check_everything()
    assert gunicorn.workers() == workers
