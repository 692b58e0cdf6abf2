"""Tokens that do not pile up: partitions are made ahead and dropped behind, and a missing one stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.flows.maintain import AHEAD, HOUR, SKEW, maintain, missing_ranges
from authserver.flows.register import create_client
from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.migrate import migrate, read_migrations
from authserver.oauth.access_token import AccessToken
from authserver.oauth.registration import ClientMetadata
from authserver.store import partitions as module
from authserver.store.database import Database
from authserver.store.partitions import PARTITIONED_TABLES, Busy, Partition, Partitions, partitioned_tables
from authserver.store.schema_migrations import SchemaMigrations

WIDTH = 6 * HOUR
NOW = 1_800_000_000


@pytest.fixture
def fresh(make_database: Callable[[], str]) -> Iterator[Database]:
    """A database of its own, with the schema and without partitions."""
    database = Database(make_database(), patient=True)
    migrate(SchemaMigrations(database), read_migrations(), lambda _line: None)
    yield database
    database.close()


@pytest.fixture
def server(fresh: Database) -> AuthorizationServer:
    """An authorization server whose clock stands at NOW."""
    server = make_server(Policy("https://as.example"), fresh, clock=lambda: NOW)
    create_client(server, "a", ClientMetadata())
    return server


@pytest.fixture
def partitions(fresh: Database) -> Partitions:
    return Partitions(fresh, "access_tokens")


def add(server: AuthorizationServer, expires_at: int) -> bytes:
    """Store a token that expires then; give its hash."""
    client = server.clients.load("a")
    assert client is not None
    token_hash = expires_at.to_bytes(23, "big")
    server.access_tokens.add(token_hash, AccessToken("a", "read", [], NOW, expires_at), client)
    return token_hash


def where(database: Database, expires_at: int) -> str:
    """The partition that holds the tokens of an expiry."""
    row = database.fetch_one(
        "SELECT tableoid::regclass::text FROM access_tokens WHERE expires_at = %(at)s", {"at": expires_at}
    )
    assert row is not None
    return str(row[0])


def test_maintenance_moves_ahead_and_drops_behind(
    fresh: Database, server: AuthorizationServer, partitions: Partitions
) -> None:
    told: list[str] = []
    maintain([partitions], NOW, WIDTH, told.append)
    made = partitions.list()
    assert len(made) == len(told)
    assert made[0].lower <= NOW < made[0].upper
    assert made[-1].upper >= NOW + AHEAD
    assert all(a.upper == b.lower for a, b in pairwise(made))
    add(server, NOW + 60)
    assert where(fresh, NOW + 60) == made[0].name

    told.clear()
    maintain([partitions], NOW, WIDTH, told.append)
    assert told == []

    later = made[0].upper + SKEW
    maintain([partitions], later - 1, WIDTH, lambda _line: None)
    assert made[0].name in {each.name for each in partitions.list()}
    maintain([partitions], later, WIDTH, told.append)
    assert f"dropped {made[0].name}" in told
    assert made[0].name not in {each.name for each in partitions.list()}


def test_without_partitions_tokens_are_issued_found_and_cleaned_up(
    fresh: Database, server: AuthorizationServer, partitions: Partitions
) -> None:
    expires_at = NOW + HOUR
    token_hash = add(server, expires_at)
    assert where(fresh, expires_at) == "access_tokens_default"
    client = server.clients.load("a")
    assert client is not None
    assert server.access_tokens.find(token_hash, expires_at, client) is not None

    told: list[str] = []
    maintain([partitions], NOW, WIDTH, told.append)
    # The range in which the default partition holds a token is left out, all others are made.
    assert sum(line.startswith("left out") for line in told) == 1
    assert not any(p.lower <= expires_at < p.upper for p in partitions.list())
    assert server.access_tokens.find(token_hash, expires_at, client) is not None

    later = expires_at + SKEW + 1
    told.clear()
    maintain([partitions], later, WIDTH, told.append)
    assert "deleted 1 expired rows from the default partition" in told
    maintain([partitions], later, WIDTH, told.append)
    assert any(p.lower <= later < p.upper for p in partitions.list())


def test_every_partitioned_table_is_kept(fresh: Database) -> None:
    told: list[str] = []
    maintain(partitioned_tables(fresh), NOW, WIDTH, told.append)
    rows = fresh.fetch_all("SELECT relname FROM pg_class WHERE relkind = 'p'")
    assert {name for (name,) in rows} == set(PARTITIONED_TABLES)
    for table in PARTITIONED_TABLES:
        assert len(Partitions(fresh, table).list()) == AHEAD // WIDTH + 1
    assert not [line for line in told if line.startswith("left out")]
    told.clear()
    maintain(partitioned_tables(fresh), NOW, WIDTH, told.append)
    assert told == []


def test_several_maintenance_runs_at_once(fresh: Database, partitions: Partitions) -> None:
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(maintain, [partitions], NOW, WIDTH, lambda _line: None) for _ in range(4)]:
            done.result()
    maintain([partitions], NOW, WIDTH, lambda _line: None)
    bounds = [(p.lower, p.upper) for p in partitions.list()]
    assert len(bounds) == len(set(bounds)) == AHEAD // WIDTH + 1


def test_a_lock_held_by_another_is_waited_for_only_briefly(
    fresh: Database, partitions: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    with fresh.transaction() as connection:
        connection.execute("LOCK TABLE access_tokens IN ACCESS SHARE MODE")
        with ThreadPoolExecutor() as pool, pytest.raises(Busy):
            # From another thread, and so on another connection.
            pool.submit(partitions.drop, Partition("access_tokens_default", 0, 1)).result()


def test_what_keeps_the_table_is_let_go_before_the_next_attempt(
    fresh: Database, partitions: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    maintain([partitions], NOW, WIDTH, lambda _line: None)
    first = partitions.list()[0]
    attempts = 0
    held = partitions._holders

    with psycopg.connect(fresh._conninfo) as dump, ThreadPoolExecutor() as pool:
        dump.execute("SELECT count(*) FROM access_tokens")

        def holders() -> set[str]:
            nonlocal attempts
            attempts += 1
            found = held()
            if attempts == 4:  # it has been looked for again and again, and is there
                assert found
                dump.rollback()
            return found

        monkeypatch.setattr(partitions, "_holders", holders)
        tried: list[None] = []
        pool.submit(lambda: partitions._patiently(lambda c: (tried.append(None), drop(c, first))[1])).result()
    # Once before, and once after it had gone.
    assert len(tried) == 2
    assert first not in partitions.list()


def drop(connection: psycopg.Connection[Any], partition: Partition) -> None:
    connection.execute(f"ALTER TABLE access_tokens DETACH PARTITION {partition.name}")  # type: ignore[arg-type]


def test_a_token_probe_touches_one_partition(fresh: Database, partitions: Partitions) -> None:
    maintain([partitions], NOW, WIDTH, lambda _line: None)
    plan = explain(
        fresh,
        "SELECT 1 FROM access_tokens WHERE expires_at = %(at)s AND short_hash = %(hash)s",
        {"at": NOW + 60, "hash": bytes(23)},
    )
    assert plan.count("Scan") == 1
    assert "Index" in plan
    assert partitions.list()[0].name in plan


def explain(database: Database, query: str, parameters: dict[str, Any]) -> str:
    with psycopg.ClientCursor(database._connection()[0]) as cursor:
        # ruff's rule on built statements is off in tests: this one is a literal of the test
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("EXPLAIN " + query, parameters)  # type: ignore[arg-type]
        return "\n".join(row[0] for row in cursor.fetchall())


ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=6)


@given(ranges, st.integers(0, 30 * 24 * HOUR), st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
def test_ranges_fill_every_gap_and_never_overlap(taken: list[tuple[int, int]], now: int, hours: int) -> None:
    existing = []
    end = 0
    for gap, length in taken:
        lower = end + gap * HOUR
        end = lower + length * HOUR
        existing.append(Partition("p", lower, end))
    missing = missing_ranges(existing, now, hours * HOUR)
    everything = sorted([(p.lower, p.upper) for p in existing] + missing)
    assert all(lower < upper for lower, upper in missing)
    assert all(a[1] <= b[0] for a, b in pairwise(everything))
    at = now
    for lower, upper in everything:
        if lower <= at < upper:
            at = upper
    assert at >= now + AHEAD
