"""Does a request cost more as more is stored, and does cleaning up hinder anybody? `scripts/bench.sh --flat`.

One database for each amount, all on one PostgreSQL, a server on each; rounds alternate between them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from authserver.dev.stack import RESOURCE, Stack
from bench import clean_up, fill, machine
from bench.generators import Generator, python, wrk
from bench.installation import Installation
from bench.measure import Figures, Rounds
from bench.report import Table, markdown_table
from bench.rows import Row

_UNITS = {"k": 1000, "M": 1_000_000}
_DAY = 86_400
_CONNECTIONS = 8  # few, so that latencies are not those of a queue
MANY = "100k clients, 1M revocations"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Fill, measure, clean up. Raises Failed, ValueError."""
    generate: Generator = python if options.python_load or not shutil.which("wrk") else wrk
    sizes = {name: _number(name) for name in options.sizes.split(",")}
    connections = options.connections or _CONNECTIONS
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="authserver-bench-")))
        stack = exits.enter_context(Stack(directory))
        with psycopg.connect(stack.postgres.url(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
            connection.execute("SELECT pg_reload_conf()")
        installations = {name: _filled(stack, exits, name, number) for name, number in sizes.items()}
        smallest, largest = next(iter(installations)), list(installations)[-1]
        many = installations[MANY] = _filled(stack, exits, MANY, sizes[smallest])
        _say("filling clients and revocations")
        now = int(time.time())
        fill.clients(many.url, _number("100k") if not options.quick else 1000)
        fill.revocations(many.url, _number("1M") if not options.quick else 10_000, lower=now + 60, upper=now + _DAY)
        fill.settle(many.url)
        described = machine.describe(stack.postgres.url())
        rounds = Rounds(generate, connections, options.seconds, list)
        figures = _measure({name: each.rows() for name, each in installations.items()}, rounds, options.rounds)
        first_sync = {name: installations[name].first_sync() for name in (smallest, MANY)}
        number = max(sizes.values())
        cleaned = []
        for at in range(options.rounds):
            _say(f"cleaning up, {at + 1} of {options.rounds}")
            cleaned.append(clean_up.run(installations[largest], number, generate, connections))
    return {
        "kind": "flat",
        "machine": described,
        "options": f"{connections} connections, {options.rounds} rounds of {options.seconds:g} s.",
        "amounts": list(figures),
        "figures": figures,
        "first_sync": first_sync,
        "clean_up": {"tokens": number, "rounds": cleaned},
    }


def _filled(stack: Stack, exits: ExitStack, name: str, number: int) -> Installation:
    _say(f"filling {name}")
    installation = Installation(stack, name, exits)
    now = int(time.time())
    fill.tokens(installation.url, installation.client_id, RESOURCE, number, lower=now + 60, upper=now + _DAY)
    fill.settle(installation.url)
    return installation


def _measure(
    rows: Mapping[str, list[Row]], rounds: Rounds, number: int
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By amount and act, the figures of each round."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for each in rows.values():
        for row in each:
            rounds.warm_up(row)
    for at in range(number):
        _say(f"round {at + 1} of {number}")
        for acts in zip(*rows.values(), strict=True):
            for amount, row in zip(rows, acts, strict=True):
                figures: Figures = rounds.measure(row)
                found.setdefault(amount, {}).setdefault(row.key, []).append(asdict(figures))
    return found


def lines(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """For each act and amount: p50 and p99 in milliseconds, and as multiples of the smallest amount's."""
    found = []
    smallest = result["figures"][result["amounts"][0]]
    for act in smallest:
        for amount in result["amounts"]:
            each, base = result["figures"][amount][act], smallest[act]
            cells = [act, amount]
            for percentile in ("p50", "p99"):
                ratios = [a[percentile] / b[percentile] for a, b in zip(each, base, strict=True)]
                cells += [
                    f"{statistics.median(a[percentile] for a in each):.2f}",
                    f"{statistics.median(ratios):.2f}",
                    f"{min(ratios):.2f}-{max(ratios):.2f}",
                ]
            found.append(tuple(cells))
    return found


_HEADINGS = ("", "stored", "p50 ms", "ratio", "min-max", "p99 ms", "ratio", "min-max")


def notes(result: Mapping[str, Any]) -> list[str]:
    """The rest, in sentences."""
    tokens, cleaned = result["clean_up"]["tokens"], result["clean_up"]["rounds"]
    syncs = "; ".join(
        f"{amount}: without a cursor {sync['without']:.1f} ms, from sequence 0: {sync['events']} events, "
        f"pages: {sync['pages']}, in {sync['seconds']:.2f} s, the slowest page {sync['slowest']:.0f} ms"
        for amount, sync in result["first_sync"].items()
    )
    issuing = "; ".join(
        f"{when} p50 {_spread([each['issuing'][when]['p50'] for each in cleaned], 1)} ms, "
        f"p99 {_spread([each['issuing'][when]['p99'] for each in cleaned], 1)} ms "
        f"at {_spread([each['issuing'][when]['rate'] for each in cleaned], 0)} tokens/s"
        for when in cleaned[0]["issuing"]
    )
    return [
        f"First sync of a follower: {syncs}.",
        f"`authserver maintain` with {tokens} expired tokens, while tokens are issued, in {len(cleaned)} rounds: "
        f"{_spread([each['seconds'] - each['nothing_to_do'] for each in cleaned], 2)} s longer than with nothing to do "
        f"({_spread([each['nothing_to_do'] for each in cleaned], 2)} s). The database shrank from "
        f"{cleaned[0]['before'] / 2**20:.0f} MiB to {cleaned[0]['after'] / 2**20:.0f} MiB. Issuing: {issuing}.",
    ]


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def section(result: Mapping[str, Any], table: Table = markdown_table) -> str:
    """For docs/performance.md, or with `text_table` for a terminal."""
    on = result["machine"]
    where = f"{on['cpus']} processors ({on['processor']}), PostgreSQL {on['postgresql']}, "
    where += f"commit {on['commit']}; {result['options']}"
    return "\n\n".join((where, table(_HEADINGS, lines(result)), *notes(result)))


def _number(text: str) -> int:
    return int(text.rstrip("kM")) * _UNITS.get(text[-1:], 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
