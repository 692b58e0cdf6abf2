"""What was answered outlives a crash of PostgreSQL: a commit waits for the disk, or several answers wait together."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psutil
import psycopg
import pytest
import requests

from authserver.dev.postgres import EmbeddedPostgres
from authserver.oauth.access_token import AccessToken
from authserver.oauth.client_assertion import SingleUse
from authserver.store.access_tokens import AccessTokens
from authserver.store.assertion_jtis import AssertionJtis
from authserver.store.clients import Clients
from authserver.store.database import Database, Unavailable

OwnPostgres = tuple[EmbeddedPostgres, Callable[[str], str]]
NAME = "durability_test"
MANY = 16
OK = b"HTTP/1.1 200"
AWAY = b"HTTP/1.1 503"  # also to what has waited for longer than the database may take
GRANT = "grant_type=client_credentials"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FLUSHING = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%emit_message%'"
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


@pytest.fixture(scope="module")
def gunicorn(own_postgres: OwnPostgres, start_gunicorn: Callable[..., Any]) -> Any:
    return start_gunicorn(own_postgres[1]("authserver_app"), WORKERS="1")


@pytest.fixture
def at_once(paused: Any) -> Iterator[Callable[..., list[socket.socket]]]:
    """Send requests so that the worker finds them all at once, in this order; gives the connections."""
    with ExitStack() as stack:

        def send(gunicorn: Any, requests: list[bytes]) -> list[socket.socket]:
            connections = [stack.enter_context(gunicorn.connect()) for _ in requests]
            # Before it stops: what connects later might only be found one by one.
            health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
            assert {ask(each, health)[:12] for each in connections} == {OK}
            (worker,) = gunicorn.workers()
            with paused(worker):
                for connection, request in zip(connections, requests, strict=True):
                    connection.sendall(request)
            return connections

        yield send


@pytest.fixture
def together(gunicorn: Any, at_once: Any) -> Callable[[Any], list[socket.socket]]:
    """Send many requests for tokens so."""
    return lambda party: at_once(gunicorn, [party.raw("token", GRANT)] * MANY)


def is_granted(connection: socket.socket) -> bool:
    """Whether a good answer has come. It stays there to be read."""
    readable = bool(select.select([connection], [], [], 0)[0])
    return readable and connection.recv(len(OK), socket.MSG_PEEK) == OK


def ask(connection: socket.socket, request: bytes = b"") -> bytes:
    connection.sendall(request)
    return connection.recv(65536)


def is_refused(gunicorn: Any) -> bool:
    try:
        gunicorn.connect().close()
    except ConnectionRefusedError:
        return True
    return False


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


def test_what_is_alone_waits_for_the_disk_itself(gunicorn: Any, noted: Any) -> None:
    party = gunicorn.register()
    assert noted("access_tokens", lambda: issue(party)) == {"on"}
    token = issue(party)
    assert noted("access_tokens", lambda: party.revoke(token)) == {"on"}
    assert noted("clients", gunicorn.register) == {"on"}
    wrong = {"client_secret": "ascs_wrong"}
    assert noted("authentication_failures", lambda: party.post("introspect", token="x", **wrong)) == {"on"}


def test_what_comes_together_waits_together(gunicorn: Any, noted: Any, together: Any) -> None:
    party = gunicorn.register()
    issue(party)
    assert noted("access_tokens", lambda: {ask(each)[:12] for each in together(party)} == {OK}) >= {"off"}
    # In the same sessions, right after it.
    assert noted("access_tokens", lambda: issue(party)) == {"on"}


def test_nobody_waits_with_another_for_that_ones_keys(
    own_postgres: OwnPostgres,
    start_gunicorn: Callable[..., Any],
    at_once: Any,
    site: Any,
    make_signer: Callable[[], Any],
    wait_until: Callable[..., None],
) -> None:
    settings = {"THREADS": "2", "JWKS_ALLOWED_NETWORKS": "127.0.0.0/8", "JWKS_ALLOW_HTTP": "yes"}
    gunicorn = start_gunicorn(own_postgres[1]("authserver_app"), **settings)
    party = gunicorn.register()
    issue(party)
    site.pages["/keys"] = lambda page: page.server.ended.wait(30)
    by_key = {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": f"{site.url}/keys"}
    slow = gunicorn.register(**by_key).client_id
    claims = {"iss": slow, "sub": slow, "aud": "https://as.example", "exp": int(time.time()) + 60, "jti": "1"}
    form = f"{GRANT}&client_assertion_type={JWT_BEARER}&client_assertion={make_signer().sign(claims)}"
    head = f"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: {len(form)}\r\n"
    request = f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}".encode()
    *fast, waiting = at_once(gunicorn, [*[party.raw("token", GRANT)] * 4, request])
    wait_until(lambda: site.asked, "the fetch")
    for each in fast:
        assert ask(each)[:12] == OK
    assert select.select([waiting], [], [], 0)[0] == []


def test_no_answer_is_given_before_its_token_is_where_it_must_be(
    gunicorn: Any, own_postgres: OwnPostgres, together: Any, wait_until: Callable[..., None]
) -> None:
    party = gunicorn.register()
    issue(party)
    with psycopg.connect(own_postgres[0].url(), autocommit=True, application_name=NAME) as connection:

        def stored() -> int:
            row = connection.execute("SELECT count(*) FROM access_tokens").fetchone()
            return int(row[0]) if row else 0

        def standby(name: str) -> None:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            connection.execute("SELECT pg_reload_conf()")

        before = stored()
        # Commits that must wait, wait for it for ever, or until their time is over.
        standby("one_that_never_comes")
        try:
            waiting = together(party)
            wait_until(lambda: connection.execute(FLUSHING).fetchall(), "answers to be held")
            assert stored() > before
            assert not any(map(is_granted, waiting))
        finally:
            standby("")
    assert {ask(each)[:12] for each in waiting} <= {OK, AWAY}


def test_a_stop_gives_what_is_held_and_says_that_the_connection_ends(
    own_postgres: OwnPostgres, start_gunicorn: Callable[..., Any], at_once: Any, wait_until: Callable[..., None]
) -> None:
    gunicorn = start_gunicorn(own_postgres[1]("authserver_app"))
    party = gunicorn.register()
    issue(party)
    with psycopg.connect(own_postgres[0].url(), autocommit=True, application_name=NAME) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'one_that_never_comes'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            held = at_once(gunicorn, [party.raw("token", GRANT)] * MANY)
            wait_until(lambda: connection.execute(FLUSHING).fetchall(), "answers to be held")
            gunicorn.process.terminate()
            wait_until(lambda: is_refused(gunicorn), "the stop")
            assert not any(map(is_granted, held))
        finally:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
    for each in held:
        answer = ask(each)
        assert answer[:12] == AWAY or (answer[:12] == OK and b"\r\nConnection: close\r\n" in answer)
    assert gunicorn.process.wait(30) == 0


def test_a_crash_loses_no_revocation_and_no_token_that_was_given(
    gunicorn: Any, own_postgres: OwnPostgres, load: Any, wait_until: Callable[..., None]
) -> None:
    postgres, party = own_postgres[0], gunicorn.register()
    revoked, given = issue(party), []
    assert party.revoke(revoked).status_code == 200

    def act(session: requests.Session) -> None:
        try:
            answer = party.token(session)
        except requests.ConnectionError:
            return
        if answer.status_code == 200:
            given.append(answer.json()["access_token"])
        else:
            assert answer.status_code == 503
            assert answer.json()["error"] == "temporarily_unavailable"
            load.count("refused")

    load.start(act, threads=MANY)
    wait_until(lambda: load.failures or len(given) > 500, "many tokens")
    postgres.kill()
    wait_until(lambda: load.failures or load.counts.get("refused"), "the end of the database")
    load.end()
    postgres.start()
    gunicorn.wait_until_ready()
    assert party.introspect(revoked).json() == {"active": False}
    assert [party.introspect(token).json()["active"] for token in given[-300:]] == [True] * 300


def test_no_server_vouches_for_what_the_one_before_it_lost(
    make_postgres: Callable[[], OwnPostgres], start_gunicorn: Callable[..., Any]
) -> None:
    postgres, url = make_postgres()
    party = start_gunicorn(url("authserver_app")).register()
    held: list[Callable[[], None]] = []
    with closing(Database(url("authserver_app"))) as database:
        client = Clients(database).load(party.client_id)
        assert client
        database.begin_request(held.append)
        # Nobody writes to the disk what does not wait for it.
        (writer,) = (each for each in psutil.Process(postgres.pid).children() if "walwriter" in each.cmdline()[0])
        writer.suspend()
        now = int(time.time())
        token, token_hash = AccessToken(party.client_id, "read", [], now, now + 600), b"\1" * 23
        AccessTokens(database).add(token_hash, token, client)
        postgres.kill()
        postgres.start()
        with psycopg.connect(postgres.url(), application_name=NAME) as connection:
            found = connection.execute("SELECT FROM access_tokens WHERE short_hash = %s", [token_hash]).fetchall()
        assert found == [], "the crash lost nothing"
        with pytest.raises(Unavailable):
            held[0]()


def test_what_a_lost_connection_committed_is_vouched_for_by_none(gunicorn: Any, own_postgres: OwnPostgres) -> None:
    party = gunicorn.register()
    held: list[Callable[[], None]] = []
    now = int(time.time())
    with (
        closing(Database(own_postgres[1]("authserver_app"))) as database,
        psycopg.connect(own_postgres[0].url(), autocommit=True, application_name=NAME) as connection,
    ):
        client = Clients(database).load(party.client_id)
        assert client
        database.begin_request(held.append)
        jtis = AssertionJtis(database)
        jtis.use(SingleUse(b"\1" * 32, now + 60), client, b"1" * 16)
        row = database.fetch_one("SELECT pg_backend_pid()")
        assert row
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", row)
        # Asked again by a new connection: of this one it is known that the server has it.
        jtis.use(SingleUse(b"\2" * 32, now + 60), client, b"2" * 16)
        lost, there = held
        with pytest.raises(Unavailable):
            lost()
        there()


def test_behind_a_pooler_each_waits_by_itself(gunicorn: Any, own_postgres: OwnPostgres, noted: Any) -> None:
    party = gunicorn.register()
    held: list[Callable[[], None]] = []
    now = int(time.time())
    with closing(Database(own_postgres[1]("authserver_app"), pooled=True)) as database:
        client = Clients(database).load(party.client_id)
        assert client
        database.begin_request(held.append)
        token = AccessToken(party.client_id, "read", [], now, now + 600)
        assert noted("access_tokens", lambda: AccessTokens(database).add(b"\2" * 23, token, client)) == {"on"}
    assert held == []


def test_where_the_role_may_not_wait_for_all_each_waits_by_itself(
    gunicorn: Any, own_postgres: OwnPostgres, noted: Any, together: Any
) -> None:
    party = gunicorn.register()
    with psycopg.connect(own_postgres[0].url(), autocommit=True, application_name=NAME) as connection:
        for arguments in ("boolean, text, text, boolean", "boolean, text, bytea, boolean"):
            connection.execute(f"REVOKE EXECUTE ON FUNCTION pg_logical_emit_message({arguments}) FROM PUBLIC")
    # The first ones are told to try again, and not that all is well.
    statuses = {ask(each)[:12] for each in together(party)}
    assert AWAY in statuses <= {OK, AWAY}
    assert noted("access_tokens", lambda: {ask(each)[:12] for each in together(party)} == {OK}) == {"on"}
