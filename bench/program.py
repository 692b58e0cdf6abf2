"""Measure what requests cost, beside an empty endpoint and beside peers: `scripts/bench.sh`.

All run under the same gunicorn configuration, in production's way: access log on, to a file; PostgreSQL durable.
Rounds alternate between the rows, so that what else the machine does falls on each alike; a ratio is formed within
a round.
AUTHSERVER_WORKERS and AUTHSERVER_THREADS are taken from the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # comes with the embedded PostgreSQL, without types

from authserver.dev.stack import Server, Stack, free_port
from authserver.dev.stopping import Stopped, stop_signals
from bench import capacity, flat, machine, ours, protected, report
from bench.direct import Issuing
from bench.generators import Failed, python, wrk
from bench.measure import Rounds
from bench.measure import run as run_rounds
from bench.options import CONNECTIONS, DOCUMENT
from bench.peers import django_oauth_toolkit, oidc_provider
from bench.peers.common import CannotInstall
from bench.plot import plot
from bench.rows import Contender, choose
from bench.statements import Statements

_PLOT = DOCUMENT.parent / "images/performance.svg"


def run(options: argparse.Namespace) -> int:
    """Start everything, measure, tell, stop everything, also when a signal asks for it. Gives the exit status."""
    try:
        with stop_signals():
            return _run(options)
    except Stopped as stopped:
        return stopped.status


def _run(options: argparse.Namespace) -> int:
    if options.from_json:
        for file in options.from_json:
            _publish(json.loads(file.read_text(encoding="utf-8")), options)
        return 0
    try:
        result = flat.run(options) if options.flat else measure(options)
    except (Failed, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _publish(result, options)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows that were asked for. Raises Failed, ValueError."""
    generate = python if options.python_load or not shutil.which("wrk") else wrk
    shared = {name: os.environ[name] for name in ("AUTHSERVER_WORKERS", "AUTHSERVER_THREADS") if name in os.environ}
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="authserver-bench-")))
        stack = exits.enter_context(Stack(directory, environment=shared))
        issuing = Issuing(stack.environment)
        exits.callback(issuing.close)
        rows = [
            ours.ceiling(stack),
            ours.plain_gunicorn(stack),
            *ours.rows(stack, issuing),
            *protected.rows(stack, issuing),
        ]
        versions: dict[str, str] = {}
        for peer in (oidc_provider, django_oauth_toolkit) if options.peers else ():
            try:
                found, version = peer.start(stack, exits)
            except CannotInstall as error:
                print(f"left out: {error}", flush=True)
            else:
                rows += found
                versions |= version
        rows = choose(rows, options.rows)
        url = stack.postgres.url()
        postgres = Contender("PostgreSQL", stack.postgres.pid)
        rounds = Rounds(generate, options.connections or CONNECTIONS, options.seconds, postgres.processes)
        figures = run_rounds(rows, rounds, options.rounds, lambda line: print(line, file=sys.stderr, flush=True))
        statements = Statements(url, stack.directory / "postgres/log").of_rows(rows)
        memory = [_memory(each) for each in dict.fromkeys(row.contender for row in rows)]
        start_up = _start_up(stack, options.starts)
        workers, threads = (shared.get(f"AUTHSERVER_{name}", "default") for name in ("WORKERS", "THREADS"))
        return {
            "kind": "requests",
            "machine": machine.describe(url),
            "peers": versions,
            "options": f"Workers {workers}, threads {threads}; load by {generate.__name__}, "
            f"{options.connections or CONNECTIONS} connections, {options.rounds} rounds of {options.seconds:g} s.",
            "rows": report.to_json(rows, figures, statements),
            "memory": memory,
            "start_up": start_up,
        }


def _memory(contender: Contender) -> dict[str, Any]:
    workers: Sequence[psutil.Process] = contender.workers()
    sizes = [worker.memory_full_info() for worker in workers]
    return {
        "contender": contender.name,
        "workers": len(workers),
        "uss": statistics.mean(size.uss for size in sizes),
        "pss": statistics.mean(size.pss for size in sizes),
    }


def _start_up(stack: Stack, number: int) -> dict[str, float]:
    """Seconds from the start of a process to its first 200 of /ready."""
    times = []
    for _ in range(number):
        url = f"http://127.0.0.1:{free_port()}"
        settings = stack.serving | {"AUTHSERVER_BIND": url.removeprefix("http://")}
        start = time.monotonic()
        server = Server(["authserver", "serve"], settings, stack.directory / "start-up.log", url)
        try:
            server.wait_until_ready()
            times.append(time.monotonic() - start)
        finally:
            server.stop()
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def _publish(result: dict[str, Any], options: argparse.Namespace) -> None:
    if result["kind"] == "flat":
        print(flat.section(result, report.text_table))
        if options.docs:
            report.put_into(DOCUMENT, "flat", flat.section(result))
        return
    rows = result["rows"]
    print(report.section(result, report.text_table))
    if options.docs:
        report.put_into(DOCUMENT, "bench", report.section(result))
        if planned := capacity.section(result):
            report.put_into(DOCUMENT.with_name("scaling.md"), "capacity", planned)
    for path in (options.plot, _PLOT if options.docs else None):
        if path:
            plot(rows, path)
