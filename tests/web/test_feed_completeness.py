"""No revocation is ever skipped, whatever writers do: the harness in which a cursor by number does skip some."""

from __future__ import annotations

import random
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

WRITERS = 8
REVOCATIONS = 60  # by each writer
INSERT = "INSERT INTO revocations (expires_at, short_hash) VALUES (4000000000, %s)"


@pytest.fixture
def ask(app, make_client, basic) -> Callable[[str], dict[str, Any]]:
    follower = make_client("follower", grant_types=[], permissions=["revocations:read"])
    headers = basic(follower.client_id, follower.secret)
    return lambda cursor: app.get("/oauth/revocations", {"cursor": cursor, "limit": "7"}, headers=headers).json


class Writers:
    """Threads that revoke in transactions of their own, which stay open for random times."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.committed: set[bytes] = set()
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(WRITERS)]

    def _write(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - a harness, not a secret
        with psycopg.connect(self.url) as connection:
            for _ in range(REVOCATIONS):
                token_hash = secrets.token_bytes(23)
                connection.execute(INSERT, [token_hash])
                time.sleep(chance.expovariate(200))  # how long the transaction is open
                if chance.random() < 0.1:
                    connection.rollback()
                    continue
                connection.commit()
                self.committed.add(token_hash)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)


class Follower:
    """Follows by the feed, and now and then is started anew with the last cursor that it had completed a poll with."""

    def __init__(self, ask: Callable[[str], dict[str, Any]]) -> None:
        self.ask = ask
        self.seen: set[str] = set()
        self.cursor = "0"
        self._chance = random.Random(1)  # noqa: S311 - as above

    def poll(self, *, may_crash: bool = True) -> None:
        cursor = self.cursor
        while True:
            page = self.ask(cursor)
            self.seen.update(event["hash"] for event in page["events"])
            cursor = page["cursor"]
            if not page["more"]:
                self.cursor = cursor
                return
            if may_crash and self._chance.random() < 0.05:
                return  # it crashed between two pages


class NaiveFollower:
    """Follows by the number of the row, as one might think would do."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self.seen: set[str] = set()
        self._last = 0

    def poll(self, **_options: bool) -> None:
        query = "SELECT seq, short_hash FROM revocations WHERE seq > %s ORDER BY seq"
        for seq, token_hash in self._connection.execute(query, [self._last]).fetchall():
            self._last = seq
            self.seen.add(short(token_hash))

    def close(self) -> None:
        self._connection.close()


def short(token_hash: bytes) -> str:
    return urlsafe_b64encode(token_hash[:16]).rstrip(b"=").decode()


def missed(writers: Writers, follower: Follower | NaiveFollower) -> int:
    """Follow while the writers write, once more when they are done, and count what was not seen."""
    with writers:
        while writers.busy:
            follower.poll()
    follower.poll(may_crash=False)
    return len({short(token_hash) for token_hash in writers.committed} - follower.seen)


def test_no_revocation_is_skipped(ask, database_url) -> None:
    assert missed(Writers(database_url), Follower(ask)) == 0


def test_a_transaction_that_hangs_delays_no_revocation(ask, database_url, postgres) -> None:
    with psycopg.connect(postgres("postgres")) as elsewhere, psycopg.connect(database_url) as here:
        for hanging in (elsewhere, here):
            hanging.execute("SELECT pg_current_xact_id()")
        assert missed(Writers(database_url), Follower(ask)) == 0
        elsewhere.rollback()


def test_a_cursor_by_number_does_skip_some(database_url) -> None:
    # Were this to fail, the two tests above would prove nothing.
    naive = NaiveFollower(database_url)
    lost = missed(Writers(database_url), naive)
    naive.close()
    assert lost > 0
