"""The prepared statements of one connection; each run costs one round trip.

A cursor does much that a request of one row has no use for, and would take half of all the time that this process
spends on a token. This is what libpq needs to be told, with psycopg's own adaptation of values.
"""

from __future__ import annotations

import hashlib
import re
import select
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, LiteralString

import psycopg
from psycopg import errors, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.rows import TupleRow

from authserver.store.patience import Patience

Parameters = Mapping[str, Any]

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_READ, _READ_WRITE = select.POLLIN, select.POLLIN | select.POLLOUT


class NoAnswer(psycopg.OperationalError):
    """The server took the statement and fell silent."""


@lru_cache
def _numbered(query: LiteralString) -> tuple[bytes, list[str]]:
    """A query with its named placeholders numbered, and the names in the order of the numbers."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(query)))
    return _PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", query).encode(), names


class PreparedStatements:
    """For one connection in autocommit mode, used by one thread."""

    def __init__(self, connection: psycopg.Connection[TupleRow], patience: Patience, *, prepare: bool = True) -> None:
        """`prepare` False: where the next statement may meet another session, each is sent whole."""
        self._connection, self._patience, self._prepare = connection, patience, prepare
        self._libpq = connection.pgconn
        self._transformer = Transformer(connection)
        self._names: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._poll = select.poll()
        self._poll.register(self._libpq.socket, _READ)

    def run(self, query: LiteralString, parameters: Parameters, timeout: float | None) -> list[TupleRow]:
        """The rows that a statement gives. `timeout` is in seconds, for all of it.

        Raises psycopg.Error; NoAnswer at the timeout. What leaves an answer outstanding closes the connection.
        """
        text, names = _numbered(query)
        transformer = self._transformer
        values = transformer.dump_sequence([parameters[name] for name in names], [PyFormat.AUTO] * len(names))
        types = transformer.types or ()
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._prepare:
            name = self._names.get((query, types)) or self._prepared(query, text, types, deadline)
            self._libpq.send_query_prepared(name, values, transformer.formats, pq.Format.BINARY)
        else:
            self._libpq.send_query_params(text, values, types, transformer.formats, pq.Format.BINARY)
        answer = self._answer(deadline, query)
        transformer.set_pgresult(answer)
        return transformer.load_rows(0, answer.ntuples, tuple)

    def _prepared(self, query: str, text: bytes, types: tuple[int, ...], deadline: float | None) -> bytes:
        # By its text: in another's session, where a pooler led us, this name is this statement or none.
        name = b"as_" + hashlib.sha256(repr((text, types)).encode()).hexdigest()[:32].encode()
        self._libpq.send_prepare(name, text, types)
        self._patience.before_waiting()
        self._answer(deadline)
        self._names[query, types] = name
        return name

    def _answer(self, deadline: float | None, query: str | None = None) -> pq.abc.PGresult:
        """The one answer to what was sent; `query` is what may be answered promptly. Raises what the server says."""
        try:
            if self._libpq.flush():
                self._send_rest(deadline)
            if query is not None and self._patience.wait(query, self._poll):
                self._libpq.consume_input()
            answer = self._next_result(deadline)
            while self._next_result(deadline) is not None:
                pass
        except BaseException:
            # Whatever it was: the next statement must not be given this one's answer.
            self._connection.close()
            raise
        if answer is None:
            raise NoAnswer("the server answered nothing")
        if answer.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise errors.error_from_result(answer, self._connection.info.encoding)
        return answer

    def _next_result(self, deadline: float | None) -> pq.abc.PGresult | None:
        while self._libpq.is_busy():
            self._wait(deadline)
            self._libpq.consume_input()
        return self._libpq.get_result()

    def _send_rest(self, deadline: float | None) -> None:
        self._poll.modify(self._libpq.socket, _READ_WRITE)
        try:
            while self._libpq.flush():
                self._wait(deadline)
                self._libpq.consume_input()
        finally:
            self._poll.modify(self._libpq.socket, _READ)

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else max(0, deadline - time.monotonic()) * 1000
        if not self._poll.poll(left):
            raise NoAnswer("no answer in time")
