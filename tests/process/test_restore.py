"""A restore from a dump, as docs/operations.md has it: what was revoked after the backup does not stay alive."""

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

    new, url = make_postgres()
    run(binaries / "createdb", "--maintenance-db", new.url(), "--owner=authserver_owner", "restored")
    run(binaries / "pg_restore", "--exit-on-error", "--dbname", new.url("restored"), dump)
    as_role = {
        role: url(role).replace("dbname=postgres", "dbname=restored") for role in ("authserver_owner", "authserver_app")
    }
    assert all("dbname=restored" in each for each in as_role.values())

    server = start_gunicorn(as_role["authserver_app"], KEY_ENCRYPTION_KEY=KEY)
    clients, follower = [at(client, server) for client in clients], at(follower, server)
    # This is why: all that was revoked since the backup is good again.
    assert [client.introspect(token).json()["active"] for client, token in zip(clients, before, strict=True)] == [
        True,
        True,
    ]
    server.stop()

    run(
        binaries / "psql",
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        repository / "sql/after_restore.sql",
        as_role["authserver_owner"],
    )
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
