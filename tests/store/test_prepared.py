"""Prepared statements by libpq's own means: every answer belongs to its question, whatever happened before."""

from __future__ import annotations

import time

import psycopg
import pytest

from authserver.store.database import Database, Unavailable


@pytest.fixture
def one(database_url):
    database = Database(database_url)
    yield database
    database.close()


def test_values_of_all_kinds_come_back_as_they_went(one):
    row = {"a": 7, "b": 2**40, "c": "ü%", "d": b"\0\xff", "e": ["x", 'y"{}'], "f": None, "g": [], "h": True}
    query = (
        "SELECT %(a)s::int, %(b)s::bigint, %(c)s::text, %(d)s::bytea, %(e)s::text[], %(f)s::text, %(g)s::text[], "
        "%(h)s::boolean, %(a)s::int + 1"
    )
    assert one.fetch_one(query, row) == (*row.values(), 8)
    assert one.fetch_one(query, row | {"a": 70_000, "b": 1}) == (*(row | {"a": 70_000, "b": 1}).values(), 70_001)


def test_no_row_is_none_and_many_rows_are_a_list(one):
    assert one.fetch_one("SELECT 1 WHERE %(no)s::boolean", {"no": False}) is None
    assert one.fetch_all("SELECT n FROM generate_series(1, 3) n") == [(1,), (2,), (3,)]


def test_more_than_the_socket_takes_at_once_goes_and_comes(one):
    big = "x" * 8_000_000
    assert one.fetch_one("SELECT %(big)s::text", {"big": big}) == (big,)


def test_a_refused_statement_leaves_the_next_its_own_answer(one):
    with pytest.raises(psycopg.errors.DivisionByZero):
        one.fetch_one("SELECT 1 / %(by)s::int", {"by": 0})
    assert one.fetch_one("SELECT 1 / %(by)s::int", {"by": 1}) == (1,)
    with pytest.raises(psycopg.DataError):
        one.fetch_one("SELECT %(text)s::text", {"text": "a\0b"})
    assert one.fetch_one("SELECT %(text)s::text", {"text": "ab"}) == ("ab",)


def test_a_statement_that_cannot_be_prepared_is_tried_again(one):
    query = "SELECT count(*) FROM made_later"
    with pytest.raises(Unavailable, match="UndefinedTable"):
        one.fetch_one(query)
    with one.session() as connection:
        connection.execute("CREATE TABLE made_later ()")
    assert one.fetch_one(query) == (0,)
    with one.session() as connection:
        connection.execute("DROP TABLE made_later")


def test_statements_that_others_deallocated_are_prepared_anew(one):
    assert one.fetch_one("SELECT 2") == (2,)
    with one.session() as connection:
        connection.execute("DEALLOCATE ALL")
    assert one.fetch_one("SELECT 2") == (2,)


def test_a_statement_of_the_same_place_in_another_process_has_another_name(one, database_url):
    other = Database(database_url)
    assert one.fetch_one("SELECT 'mine'") == ("mine",)
    assert other.fetch_one("SELECT 'theirs'") == ("theirs",)
    names = []
    for database in (one, other):
        with database.session() as connection:
            names += [{name for (name,) in connection.execute("SELECT name FROM pg_prepared_statements").fetchall()}]
    other.close()
    assert len(names[0]) == len(names[1]) == 1
    assert names[0].isdisjoint(names[1])


def test_a_column_that_got_another_type_costs_a_new_connection_and_nothing_else(one):
    with one.session() as connection:
        connection.execute("CREATE TABLE retyped AS SELECT 1 AS a")
    assert one.fetch_one("SELECT a FROM retyped") == (1,)
    with one.session() as connection:
        connection.execute("ALTER TABLE retyped ALTER a TYPE text")
    assert one.fetch_one("SELECT a FROM retyped") == ("1",)
    with one.session() as connection:
        connection.execute("DROP TABLE retyped")


def test_dropping_a_table_forgets_no_statement(one):
    assert one.fetch_one("SELECT 3") == (3,)
    with one.transaction() as connection:
        for number in range(8):  # more than psycopg waits for before it prepares by itself
            connection.execute("CREATE TABLE passing ()" if number % 2 == 0 else "DROP TABLE passing")
    with one.session() as connection:
        before = connection.info.backend_pid
    assert one.fetch_one("SELECT 3") == (3,)
    with one.session() as connection:
        assert connection.info.backend_pid == before


def test_an_answer_that_comes_too_late_is_nobodys(one, monkeypatch):
    with one.session() as connection:
        monkeypatch.setattr(connection, "answer_timeout", 0.1)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="NoAnswer"):
        one.fetch_one("SELECT 'late' FROM pg_sleep(2)")
    assert time.monotonic() - begun < 2
    assert one.fetch_one("SELECT 'next'") == ("next",)


def test_an_interruption_while_waiting_leaves_no_answer_behind(one, monkeypatch):
    with one.session() as connection:
        monkeypatch.setattr(connection.statements, "_wait", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.fetch_one("SELECT 'first' FROM pg_sleep(0.01)")
    assert one.fetch_one("SELECT 'second'") == ("second",)


def _interrupted(_deadline):
    raise KeyboardInterrupt
