"""Expire as many tokens as live, and clean up while tokens are issued."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import psycopg

from authserver.dev.stack import RESOURCE
from authserver.flows.maintain import HOUR, SKEW
from authserver.store.database import Database
from authserver.store.partitions import Partitions
from bench import fill
from bench.generators import Generator, Outcome
from bench.installation import Installation

_WIDTH = 6 * HOUR
_PARTITIONS = 4
_SECONDS = 5  # of issuing, in the midst of which maintenance runs


def run(installation: Installation, number: int, generate: Generator, connections: int) -> dict[str, Any]:
    """Durations, sizes, and what issuing was like before and meanwhile. Raises Failed."""
    now = int(time.time())
    # Before the partition of this hour, and before what maintenance still keeps for clocks that are behind.
    upper = now - now % _WIDTH - _WIDTH
    lower = upper - _PARTITIONS * _WIDTH
    database = Database(installation.url, patient=True)
    try:
        partitions = Partitions(database, "access_tokens")
        for at in range(_PARTITIONS):
            partitions.create(lower + at * _WIDTH, lower + (at + 1) * _WIDTH)
    finally:
        database.close()
    fill.tokens(installation.url, installation.client_id, RESOURCE, number, lower=lower, upper=upper - SKEW)
    fill.settle(installation.url)
    row = installation.token_row({"grant_type": "client_credentials", "scope": "read"})
    load = row.load(1)

    def issue() -> Outcome:
        return generate(load, connections, _SECONDS)

    issue()
    issuing = {"before": issue()}
    before = _size(installation.url)
    with ThreadPoolExecutor(1) as pool:
        meanwhile = pool.submit(issue)
        time.sleep(1)
        seconds, told = _timed(installation)
        nothing_to_do, _ = _timed(installation)
        issuing["meanwhile"] = meanwhile.result()
    if told.count("dropped access_tokens_") != _PARTITIONS:
        raise RuntimeError(told)
    return {
        "seconds": seconds,
        "nothing_to_do": nothing_to_do,
        "before": before,
        "after": _size(installation.url),
        "issuing": {when: asdict(each) | {"rate": each.requests / each.seconds} for when, each in issuing.items()},
    }


def _timed(installation: Installation) -> tuple[float, str]:
    start = time.monotonic()
    told = installation.run("maintain")
    return time.monotonic() - start, told


def _size(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0
