"""From the figures of a run, what many protected requests a second take: a section of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.report import markdown_table

# Processors are planned to be busy for this part of the time: the rest is for peaks and for a replica that is away.
_BUSY = 0.6
_LIFETIME = 3600  # seconds that a token lives
# Protected requests a second, and the callers that make them.
_INSTALLATIONS = ((1_000, 100), (100_000, 10_000), (1_000_000, 100_000))
_NEEDED = (
    *("protected-introspect", "protected-cached", "protected-jwt"),
    *("introspect-opaque-active-secret", "token-opaque-secret", "token-jwt-secret", "feed"),
)
_HEADINGS = (
    *("requests/s", "mode", "resource servers' cores", "introspections/s"),
    *("polls/s", "authserver cores", "PostgreSQL cores"),
)


def section(run: Mapping[str, Any]) -> str | None:
    """The section; None if the run lacks one of the rows that it takes."""
    rows = {row["key"]: row for row in run["rows"]}
    if not all(key in rows for key in _NEEDED):
        return None
    lines = [
        _line(rows, requests, callers, mode)
        for requests, callers in _INSTALLATIONS
        for mode in ("introspect", "cached", "jwt")
    ]
    one_core = [
        (row["name"], _per_core(row["server_cpu"]), _per_core(row["postgres_cpu"]))
        for row in (rows[key] for key in _NEEDED)
    ]
    return "\n\n".join(
        (
            f"Measured on {run['machine']['processor']}, commit {run['machine']['commit']}: requests a second that one "
            "core, wholly busy, carries.",
            markdown_table(("", "of the server", "of PostgreSQL"), one_core),
            f"From these, with processors busy for {_BUSY:.0%} and tokens that live an hour; 100, 10,000 and 100,000 "
            "callers:",
            markdown_table(_HEADINGS, lines),
        )
    )


def _line(rows: Mapping[str, Any], requests: int, callers: int, mode: str) -> tuple[str, ...]:
    here = _cores(requests, rows[f"protected-{mode}"]["server_cpu"])
    processes = math.ceil(here)
    # A process that caches asks about each caller's token once.
    asked = {"introspect": float(requests), "cached": callers * processes / _LIFETIME, "jwt": 0.0}[mode]
    asked = min(asked, requests)
    polls = 0 if mode == "introspect" else processes
    token = rows["token-jwt-secret" if mode == "jwt" else "token-opaque-secret"]
    work = ((asked, rows["introspect-opaque-active-secret"]), (polls, rows["feed"]), (callers / _LIFETIME, token))
    server, postgres = (sum(_cores(rate, row[cpu]) for rate, row in work) for cpu in ("server_cpu", "postgres_cpu"))
    return (f"{requests:,}", mode, f"{here:.1f}", f"{asked:,.0f}", f"{polls:,}", f"{server:.2f}", f"{postgres:.2f}")


def _cores(rate: float, microseconds: float) -> float:
    return rate * microseconds / 1e6 / _BUSY


def _per_core(microseconds: float) -> str:
    return f"{1e6 / microseconds:.0f}" if microseconds >= 1 else "-"
