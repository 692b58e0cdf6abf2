"""A lock on a name, for work that one process of an installation does at a time.

It is a transaction's, on a connection of its own: through PgBouncer a lock of the session would be left to strangers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("advisory_lock.sql")
_POLL = 0.2  # seconds


@contextmanager
def advisory_lock(database: Database, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; call `waiting` once if another has it now. It ends with its connection at the latest.

    Raises Unavailable.
    """
    told = False
    with closing(database.apart()) as apart:
        while True:
            with apart.transaction() as connection:
                connection.execute(_SQL["begin"])
                row = connection.execute(_SQL["try_lock"], {"name": name}).fetchone()
                if row and row[0]:
                    connection.execute(_SQL["keep"])
                    yield
                    return
            if not told:
                waiting()
                told = True
            time.sleep(_POLL)
