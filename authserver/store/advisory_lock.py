"""A lock on a name, for work that one process of an installation does at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authserver.store.database import Database
from authserver.store.queries import load

_SQL = load("advisory_lock.sql")
_POLL = 0.2  # seconds


@contextmanager
def advisory_lock(database: Database, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; call `waiting` once if another has it now. It ends with the connection at the latest.

    Raises Unavailable.
    """
    told = False
    while not (row := database.fetch_one(_SQL["try_lock"], {"name": name})) or not row[0]:
        if not told:
            waiting()
            told = True
        time.sleep(_POLL)
    try:
        yield
    finally:
        database.fetch_one(_SQL["unlock"], {"name": name})
