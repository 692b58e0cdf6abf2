"""How many statements a request costs: counted in PostgreSQL's log, outside of the rounds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench.rows import Row

_NUMBER = 20
_SETTLE = 0.3  # seconds in which idle sessions notice a setting


class Statements:
    """Counts by the log of one PostgreSQL server, which a superuser can reach by `url`."""

    def __init__(self, url: str, log: Path) -> None:
        self._url, self._log = url, log

    def of_rows(self, rows: Sequence[Row]) -> dict[str, float]:
        """The mean by row. Every statement is sent and answered by itself, so these are round trips. Raises Failed."""
        with self._logging():
            return {row.key: self._of_row(row) for row in rows}

    def _of_row(self, row: Row) -> float:
        if not row.contender.database:
            return 0
        # Made first: to make them may ask the database, too.
        load = row.load(_NUMBER)
        requests = load.requests if row.once else [load.requests[at % len(load.requests)] for at in range(_NUMBER)]
        before = self._log.stat().st_size
        for request in requests:
            row.ask(request)
        with self._log.open("rb") as log:
            log.seek(before)
            text = log.read()
        name = re.escape(row.contender.database.encode())
        return len(re.findall(rb"^@" + name + rb" LOG:  (?:execute|statement)", text, re.MULTILINE)) / len(requests)

    @contextmanager
    def _logging(self) -> Iterator[None]:
        with psycopg.connect(self._url, dbname="template1", autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")
            connection.execute("ALTER SYSTEM SET log_line_prefix = '@%d '")
            connection.execute("SELECT pg_reload_conf()")
            time.sleep(_SETTLE)
            try:
                yield
            finally:
                connection.execute("ALTER SYSTEM RESET log_statement")
                connection.execute("SELECT pg_reload_conf()")
