"""The figures of a run: as JSON, as a table, and as a section of docs/performance.md."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.catalog import CEILING, PLAIN_GUNICORN
from bench.measure import Figures
from bench.rows import Row


def to_json(
    rows: Sequence[Row], rounds: Sequence[Mapping[str, Figures]], statements: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Each row with its rounds, and its medians; a ratio is formed within a round, so that noise falls on both."""
    found = []
    for row in rows:
        each = [asdict(round_[row.key]) for round_ in rounds]
        ratios = [round_[row.key].rate / round_[CEILING].rate for round_ in rounds]
        medians = {name: statistics.median(figures[name] for figures in each) for name in each[0]}
        rates = [figures["rate"] for figures in each]
        found.append(
            {
                "key": row.key,
                "name": row.name,
                "contender": row.contender.name,
                "statements": statements[row.key],
                "rounds": each,
                **medians,
                "rate_min_max": [min(rates), max(rates)],
                "ratio": statistics.median(ratios),
                "ratio_min_max": [min(ratios), max(ratios)],
                "ratios": ratios,
            }
        )
    return found


HEADINGS = (
    "",
    "of ceiling",
    "min-max",
    "requests/s",
    "min-max",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "DB µs",
    "statements",
)


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    low, high = row["ratio_min_max"]
    least, most = row["rate_min_max"]
    digits = 3 if row["ratio"] < 0.1 else 2  # noqa: PLR2004 - two digits that say something
    return (
        row["name"],
        f"{row['ratio']:.{digits}f}",
        f"{low:.{digits}f}-{high:.{digits}f}",
        f"{row['rate']:.0f}",
        f"{least:.0f}-{most:.0f}",
        f"{row['p50']:.1f}",
        f"{row['p99']:.1f}",
        f"{row['server_cpu']:.0f}",
        f"{row['postgres_cpu']:.0f}",
        f"{row['statements']:.2f}",
    )


def text_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces: the first to the left, numbers to the right."""
    widths = [max(len(line[at]) for line in (headings, *lines)) for at in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (headings, *lines)
    )


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same for a document."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rule, *lines))


Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]

_OURS = {
    "token": "token-opaque-secret",
    "introspect": "introspect-opaque-active-secret",
}
_SHOWN = ("introspect-opaque-active-secret", "token-opaque-secret", "token-jwt-secret")


def beside_peers(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """This server's rate as a multiple of each peer's, within a round: the median, and from the least to the most."""
    by_key = {row["key"]: row for row in rows}
    found = []
    for row in rows:
        ours = by_key.get(_OURS.get(row["key"].rpartition("-")[2], ""))
        if row["contender"].startswith("peer") and ours:
            median, low, high = _times(ours, row)
            faster = "" if median >= 1 else " (the peer is faster)"
            found.append((row["name"], f"{median:.2f}{faster}", f"{low:.2f}-{high:.2f}"))
    return found


def beside_gunicorn(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Likewise for what the goals are about, as a share of the empty endpoint's rate under gunicorn's own worker."""
    by_key = {row["key"]: row for row in rows}
    if PLAIN_GUNICORN not in by_key:
        return []
    found = []
    for row in (by_key[key] for key in _SHOWN if key in by_key):
        median, low, high = _times(row, by_key[PLAIN_GUNICORN])
        found.append((row["name"], f"{median:.2f}", f"{low:.2f}-{high:.2f}"))
    return found


def _times(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float, float]:
    times = [mine["rate"] / other["rate"] for mine, other in zip(ours["rounds"], theirs["rounds"], strict=True)]
    return statistics.median(times), min(times), max(times)


def put_into(document: Path, marker: str, text: str) -> None:
    """Replace what stands between two markers. Raises ValueError if they are not there."""
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    before = document.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{document} lacks {begin}")
    document.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", before), encoding="utf-8")


def section(run: Mapping[str, Any], table: Table = markdown_table) -> str:
    """What docs/performance.md, or with `text_table` a terminal, says of a run."""
    machine, peers = run["machine"], beside_peers(run["rows"])
    versions = ", ".join(f"{name} {value}" for name, value in {**machine, **run["peers"]}.items() if name not in _PLACE)
    memory = [
        (each["contender"], str(each["workers"]), f"{each['uss'] / 2**20:.0f}", f"{each['pss'] / 2**20:.0f}")
        for each in run["memory"]
    ]
    parts = [
        f"{machine['cpus']} processors ({machine['processor']}), {machine['system']}; commit {machine['commit']}; "
        f"{versions}. {run['options']}",
        table(HEADINGS, [cells(row) for row in run["rows"]]),
        "Memory of one worker, on average, in MiB:",
        table(("", "workers", "USS", "PSS"), memory),
        f"From the start of `authserver serve` to the first 200 of `/ready`: {run['start_up']['median']:.2f} s "
        f"({run['start_up']['min']:.2f}-{run['start_up']['max']:.2f}).",
    ]
    if plain := beside_gunicorn(run["rows"]):
        parts.insert(2, table(("", "share", "min-max"), plain))
        parts.insert(2, "As a share of the same empty endpoint under gunicorn's own worker:")
    if peers:
        parts.insert(2, table(("peer", "times as fast", "min-max"), peers))
        parts.insert(2, "This server's requests a second (opaque token, secret) as a multiple of the peer's:")
    return "\n\n".join(parts)


_PLACE = ("cpus", "processor", "system", "commit")
