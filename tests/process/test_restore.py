"""Restores as docs/operations.md has them: what was revoked after the backup does not stay alive."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time

import psycopg
import pytest
import requests

RESOURCE = "https://b.example"
KEY = secrets.token_urlsafe(32)


@pytest.fixture
def run(repository):
    """Run a program; give what it printed."""

    def run(*command, **environment):
        done = subprocess.run(
            [str(each) for each in command],
            env=os.environ | environment,
            cwd=repository,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def authserver(run, url, *arguments):
    environment = {"AUTHSERVER_DATABASE_URL": url, "AUTHSERVER_KEY_ENCRYPTION_KEY": KEY}
    return run(sys.executable, "-m", "authserver", *arguments, **environment)


def feed(party, cursor=None):
    form = {"client_id": party.client_id, "client_secret": party.secret, **({"cursor": cursor} if cursor else {})}
    return requests.post(f"{party.url}/oauth/revocations", form, timeout=30)


def use_transactions(url, number):
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(number):
            connection.execute("SELECT pg_current_xact_id()")


def at(party, server):
    return type(party)(server.url, party.client_id, party.secret)


def after_restore(run, binaries, repository, owner):
    run(binaries / "psql", "-v", "ON_ERROR_STOP=1", "-f", repository / "sql/after_restore.sql", owner)


def test_a_recovery_to_a_point_in_time_brings_no_revoked_token_back_after_the_script(
    make_postgres, spare, start_gunicorn, repository, run, wait_until
):
    """The drill: base backup and archive of a server under way, a mishap, recovery to the moment before it."""
    archive = spare.home / "archive"
    lost, url = make_postgres(archive_mode="on", archive_command=f"mkdir -p {archive} && cp %p {archive}/%f")
    authserver(run, url("authserver_owner"), "maintain")
    server = start_gunicorn(url("authserver_app"), KEY_ENCRYPTION_KEY=KEY)
    clients = [server.register(audiences=[RESOURCE], access_token_format="opaque")]
    spare.take_base_backup(lost)

    clients.append(server.register(audiences=[RESOURCE], access_token_format="jwt"))
    kept, revoked = ([client.token().json()["access_token"] for client in clients] for _ in range(2))
    with psycopg.connect(lost.url(), autocommit=True) as connection:
        (moment,) = connection.execute("SELECT clock_timestamp()::text").fetchone()
        for client, token in zip(clients, revoked, strict=True):
            assert client.revoke(token).status_code == 200
        # The mishap, and the last of the log that is still archived before the server is gone.
        connection.execute("DELETE FROM clients")
        (last,) = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        archived = "SELECT last_archived_wal >= %s FROM pg_stat_archiver"
        wait_until(lambda: connection.execute(archived, (last,)).fetchone() == (True,), "the archive")
    server.stop()
    lost.kill()

    spare.start_with(
        "recovery.signal",
        restore_command=f"cp {archive}/%f %p",
        recovery_target_time=moment,
        recovery_target_action="promote",
    )
    server = start_gunicorn(spare.url(user="authserver_app"), KEY_ENCRYPTION_KEY=KEY)
    clients = [at(client, server) for client in clients]
    # All that was there at that moment is, the client that came after the base backup too; and nothing is revoked.
    for client, *tokens in zip(clients, kept, revoked, strict=True):
        assert [client.introspect(token).json()["active"] for token in tokens] == [True, True]
    server.stop()

    after_restore(run, lost.binaries, repository, spare.url(user="authserver_owner"))
    server = start_gunicorn(spare.url(user="authserver_app"), KEY_ENCRYPTION_KEY=KEY)
    for client, *tokens in zip([at(client, server) for client in clients], kept, revoked, strict=True):
        assert [client.introspect(token).json() for token in tokens] == [{"active": False}] * 2
        fresh = client.token().json()["access_token"]
        wait_until(lambda: client.introspect(fresh).json()["active"], "tokens that are good again")


def test_a_restore_brings_revoked_tokens_back_until_the_script_for_it_has_run(
    make_postgres, start_gunicorn, repository, run, tmp_path, wait_until
):
    lost, url = make_postgres()
    owner = url("authserver_owner")
    # It has been in use for long: transactions have higher numbers than a new cluster's.
    use_transactions(lost.url(), 500)
    with psycopg.connect(lost.url(), autocommit=True) as connection:
        connection.execute("INSERT INTO revocation_feed_marks VALUES (1, pg_snapshot_xmin(pg_current_snapshot()))")
    authserver(run, owner, "maintain")
    server = start_gunicorn(url("authserver_app"), KEY_ENCRYPTION_KEY=KEY)
    clients = [server.register(audiences=[RESOURCE], access_token_format=each) for each in ("opaque", "jwt")]
    follower = server.register()
    authserver(run, owner, "client", "update", follower.client_id, "--permission", "revocations:read")
    before = [client.token().json()["access_token"] for client in clients]
    cursor = feed(follower).json()["cursor"]

    binaries, dump = lost.binaries, tmp_path / "authserver.dump"
    run(binaries / "pg_dump", "--format=custom", "--file", dump, lost.url())
    for client, token in zip(clients, before, strict=True):
        assert client.revoke(token).status_code == 200
        assert client.introspect(token).json() == {"active": False}
    after = [client.token().json()["access_token"] for client in clients]
    server.stop()
    lost.kill()

    new, _ = make_postgres()
    run(binaries / "createdb", "--maintenance-db", new.url(), "--owner=authserver_owner", "restored")
    run(binaries / "pg_restore", "--exit-on-error", "--dbname", new.url("restored"), dump)
    as_role = {role: new.url("restored", role) for role in ("authserver_owner", "authserver_app")}

    server = start_gunicorn(as_role["authserver_app"], KEY_ENCRYPTION_KEY=KEY)
    clients, follower = [at(client, server) for client in clients], at(follower, server)
    # This is why: all that was revoked since the backup is good again.
    assert [client.introspect(token).json()["active"] for client, token in zip(clients, before, strict=True)] == [
        True,
        True,
    ]
    server.stop()

    after_restore(run, binaries, repository, as_role["authserver_owner"])
    restored_at = time.time()
    server = start_gunicorn(as_role["authserver_app"], KEY_ENCRYPTION_KEY=KEY)
    clients, follower = [at(client, server) for client in clients], at(follower, server)
    for client, *tokens in zip(clients, before, after, strict=True):
        for token in tokens:
            assert client.introspect(token).json() == {"active": False}
    # So that the old cursor is none of the future.
    use_transactions(new.url(), 1000)
    # Followers are told that theirs is another history, and then all of this one.
    assert feed(follower, cursor).status_code == 410
    told = feed(follower, "0").json()
    assert {client.client_id for client in clients} <= {event.get("client_id") for event in told["events"]}
    again = feed(follower, told["cursor"])
    assert (again.status_code, again.json()["events"]) == (200, [])
    # Two seconds ahead, for clocks that disagree.
    wait_until(lambda: time.time() > restored_at + 3, "the time from which tokens are good again")
    for client in clients:
        token = client.token().json()["access_token"]
        assert client.introspect(token).json()["active"] is True
        assert client.revoke(token).status_code == 200
        assert client.introspect(token).json() == {"active": False}
    assert json.dumps(feed(follower, told["cursor"]).json()["events"]).count('"token"') == 2
