"""The bench counts nothing that is wrong, and writes only where it may."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from authserver.dev.stack import Stack
from bench import capacity, ours, protected, report
from bench.catalog import CEILING, OURS, PLAIN_GUNICORN
from bench.direct import Issuing
from bench.generators import Failed, Generator, python, wrk
from bench.loads import Load, get, post
from bench.measure import Figures
from bench.rows import Contender, Row, choose

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
GENERATORS = [python, pytest.param(wrk, marks=needs_wrk)]


def make_row(key: str, url: str = "http://127.0.0.1", **more: Any) -> Row:
    contender = Contender("authserver", 1)
    return Row(key, key, contender, url, lambda _: [get(url)], lambda body: body == b'"right"', **more)


@pytest.mark.parametrize("arguments", [["--help"], ["--rounds", "2", "-h"], ["--list"], ["--list", "--peers"]])
def test_what_there_is_is_told_without_installing_anything(
    repository: Path, tmp_path: Path, arguments: list[str]
) -> None:
    for name in ("scripts", "bench"):
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    # With neither this environment's packages nor what PYTHONPATH adds.
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        ["bash", tmp_path / "scripts/bench.sh", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHON": str(tmp_path / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "--list" in arguments:
        keys = [line.split()[0] for line in done.stdout.splitlines()]
        assert keys[: len(OURS)] == [*OURS]
        assert ("django-hashed-token" in keys) == ("--peers" in arguments)
    else:
        assert done.stdout.startswith("usage: scripts/bench.sh ")
    assert not (tmp_path / ".venv").exists()


def test_the_rows_that_are_named_are_those_that_are_measured(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack") as stack, closing(Issuing(stack.environment)) as issuing:
        rows = [ours.ceiling(stack), ours.plain_gunicorn(stack), *ours.rows(stack, issuing)]
        rows += [*protected.rows(stack, issuing)]
    assert {row.key: row.name for row in rows} == OURS


@pytest.mark.parametrize("generate", GENERATORS)
def test_an_answer_that_is_not_200_fails_the_run(generate: Generator, site: Any) -> None:
    with pytest.raises(Failed):
        generate(Load(site.url, [get(f"{site.url}/nothing")]), 1, 1)


def test_a_wrong_body_fails_the_row(site: Any) -> None:
    def answer(request: Any) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Content-Length", "7")
        request.end_headers()
        request.wfile.write(b'"wrong"')

    site.pages["/"] = answer
    row = make_row("a", f"{site.url}/")
    with pytest.raises(Failed, match="wrong"):
        row.check(row.load(1))


def test_rows_are_chosen_by_pattern_and_the_ceiling_always() -> None:
    rows = [make_row(key) for key in (CEILING, "token-opaque", "token-jwt", "revoke")]
    assert [row.key for row in choose(rows, "token-*")] == [CEILING, "token-opaque", "token-jwt"]
    with pytest.raises(ValueError, match="no row is called tokn"):
        choose(rows, "token-*,tokn")


def test_a_ratio_is_formed_within_a_round() -> None:
    rows = [make_row(CEILING), make_row("a")]
    rounds = [
        {CEILING: Figures(1000, 1, 2, 10, 0), "a": Figures(500, 1, 2, 30, 10)},
        {CEILING: Figures(100, 1, 2, 10, 0), "a": Figures(60, 1, 2, 30, 10)},
        {CEILING: Figures(2000, 1, 2, 10, 0), "a": Figures(800, 1, 2, 30, 10)},
    ]
    told = report.to_json(rows, rounds, {CEILING: 0, "a": 1})
    assert told[1]["ratio"] == 0.5
    assert told[1]["ratio_min_max"] == [0.4, 0.6]
    assert report.cells(told[1])[1:3] == ("0.50", "0.40-0.60")


def test_rates_stand_beside_those_of_gunicorns_own_worker() -> None:
    rows = [make_row(CEILING), make_row(PLAIN_GUNICORN), make_row("token-opaque-secret")]
    rounds = [
        {CEILING: figure(9), PLAIN_GUNICORN: figure(100), "token-opaque-secret": figure(90)},
        {CEILING: figure(9), PLAIN_GUNICORN: figure(100), "token-opaque-secret": figure(50)},
        {CEILING: figure(9), PLAIN_GUNICORN: figure(50), "token-opaque-secret": figure(60)},
    ]
    told = report.to_json(rows, rounds, dict.fromkeys(rounds[0], 0))
    assert [line[1:] for line in report.beside_gunicorn(told)] == [("0.90", "0.50-1.20")]
    assert report.beside_gunicorn(told[:1]) == []


def test_a_terminal_is_told_what_the_document_says() -> None:
    rows = [make_row(CEILING), make_row(PLAIN_GUNICORN), make_row("token-opaque-secret")]
    figures = {row.key: figure(100) for row in rows}
    run = {
        "machine": {"cpus": 2, "processor": "P", "system": "S", "commit": "c", "python": "3.11"},
        "peers": {},
        "options": "O.",
        "rows": report.to_json(rows, [figures], dict.fromkeys(figures, 0)),
        "memory": [{"contender": "authserver", "workers": 2, "uss": 3 * 2**20, "pss": 4 * 2**20}],
        "start_up": {"median": 1, "min": 1, "max": 1},
    }
    told, published = report.section(run, report.text_table), report.section(run)
    assert re.findall(r"[\w.:]+", told) == re.findall(r"[\w.:]+", re.sub(r"-{3}:?", "", published))
    assert "authserver        2    3    4" in told


def figure(rate: float) -> Figures:
    return Figures(rate, 1, 2, 10, 0)


def test_a_section_is_put_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    report.put_into(document, "bench", "new")
    assert document.read_text() == "before\n<!-- bench: begin -->\nnew\n<!-- bench: end -->\nafter\n"
    with pytest.raises(ValueError, match="lacks <!-- flat: begin"):
        report.put_into(document, "flat", "new")


@pytest.mark.parametrize(
    ("document", "marker"), [("performance", "bench"), ("performance", "flat"), ("scaling", "capacity")]
)
def test_the_documents_have_the_markers(repository: Path, document: str, marker: str) -> None:
    text = (repository / f"docs/{document}.md").read_text()
    assert text.count(f"<!-- {marker}: begin -->") == text.count(f"<!-- {marker}: end -->") == 1


def test_what_a_run_lacks_is_not_planned_with() -> None:
    assert capacity.section({"rows": [], "machine": {}}) is None


def test_a_form_is_sent_with_its_length() -> None:
    assert post("http://a.test/x", {"b": "c d"}).endswith(b"Content-Length: 5\r\n\r\nb=c+d")
