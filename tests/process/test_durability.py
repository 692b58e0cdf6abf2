"""What an answer promises when PostgreSQL crashes right after it: all but the newest tokens, and these if so set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from authserver.dev.postgres import EmbeddedPostgres

OwnPostgres = tuple[EmbeddedPostgres, Callable[[str], str]]
NAME = "durability_test"
# Notes, as each transaction commits, whether the commit is going to wait for the disk.
NOTE = """
CREATE TABLE IF NOT EXISTS public.noted (waits text);
GRANT INSERT ON public.noted TO PUBLIC;
CREATE OR REPLACE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.noted VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON {} DEFERRABLE INITIALLY DEFERRED
   FOR EACH ROW EXECUTE FUNCTION public.note()
"""


@pytest.fixture(scope="module")
def own_postgres(make_postgres: Callable[[], OwnPostgres]) -> OwnPostgres:
    """A server of our own, since it gets killed and triggers."""
    return make_postgres()


@pytest.fixture(scope="module", params=["0", "1"])
def durable(request: pytest.FixtureRequest) -> bool:
    return request.param == "1"


@pytest.fixture(scope="module")
def gunicorn(own_postgres: OwnPostgres, start_gunicorn: Callable[..., Any], durable: bool) -> Any:
    return start_gunicorn(own_postgres[1]("authserver_app"), DURABLE_TOKENS=str(int(durable)))


@pytest.fixture
def noted(own_postgres: OwnPostgres) -> Any:
    """For what commits of one table wait: `noted("access_tokens", act)`."""
    with psycopg.connect(own_postgres[0].url(), autocommit=True, application_name=NAME) as connection:

        def of(table: str, act: Callable[[], object]) -> set[str]:
            connection.execute(NOTE)
            connection.execute(TRIGGER.format(table))
            try:
                act()
                return {waits for (waits,) in connection.execute("DELETE FROM noted RETURNING waits")}
            finally:
                connection.execute(f"DROP TRIGGER note ON {table}")

        yield of


def issue(party: Any) -> str:
    token: str = party.token().json()["access_token"]
    return token


def test_only_the_commit_of_a_token_does_not_wait_for_the_disk(gunicorn: Any, noted: Any, durable: bool) -> None:
    party = gunicorn.register()
    assert noted("access_tokens", lambda: issue(party)) == {"on" if durable else "off"}
    # In the same session, right after it.
    token = issue(party)
    assert noted("access_tokens", lambda: party.revoke(token)) == {"on"}
    issue(party)
    assert noted("clients", gunicorn.register) == {"on"}
    wrong = {"client_secret": "ascs_wrong"}
    assert noted("authentication_failures", lambda: party.post("introspect", token="x", **wrong)) == {"on"}


def test_a_crash_loses_no_revocation_and_no_durable_token(
    gunicorn: Any, own_postgres: OwnPostgres, wait_until: Callable[..., None], durable: bool
) -> None:
    postgres, party = own_postgres[0], gunicorn.register()
    old, revoked = issue(party), issue(party)
    with psycopg.connect(postgres.url(), autocommit=True, application_name=NAME) as connection:

        def ask(query: str) -> Any:
            return connection.execute(query).fetchone()

        (written,) = ask("SELECT pg_current_wal_insert_lsn()")
        flushed = f"SELECT pg_current_wal_flush_lsn() >= '{written}'"
        wait_until(lambda: ask(flushed)[0], "PostgreSQL to write by itself")
    newest = [issue(party) for _ in range(20)]
    assert party.revoke(revoked).status_code == 200
    behind = [issue(party) for _ in range(20)]
    postgres.kill()
    postgres.start()
    gunicorn.wait_until_ready()
    assert party.introspect(revoked).json() == {"active": False}
    # Also what was issued before the revocation: its commit wrote all that came before.
    for token in [old, *newest, *(behind if durable else ())]:
        assert party.introspect(token).json()["active"] is True
    for token in behind:
        answer = party.introspect(token)
        assert answer.status_code == 200
        assert answer.json() == {"active": False} or answer.json()["active"] is True
    assert party.introspect(issue(party)).json()["active"] is True
