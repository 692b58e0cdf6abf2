"""What looks like a credential leaves no trace in a log line, wherever it stands."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from authserver.logs import JsonFormatter, JsonLogger
from authserver.oauth.credentials import conceal

CREDENTIALS = [
    *(f"{marker}{'k3Yb-Zq_' + 'x' * 35}" for marker in ("asat_7fffffff", "ascs_", "asra_", "asia_", "ASAT_")),
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0",
    "eyJhbGciOiJFUzI1NiJ9.a.b.c.d",
]


def record(credential: str, name: str = "x") -> logging.LogRecord:
    try:
        raise ValueError(f"no {credential}")
    except ValueError:
        info = sys.exc_info()
    made = logging.LogRecord(name, logging.INFO, "f", 1, "seen %s.", (credential,), info)
    made.request_id = credential
    return made


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_no_credential_in_any_part_of_a_line(credential: str) -> None:
    line = JsonFormatter().format(record(credential))
    assert credential[5:] not in line
    assert json.loads(line)["logger"]


class Answered:
    """What gunicorn's logger is told of an answer."""

    status_code, sent = 200, 12


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """What is logged of a request."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    config, root = Config(), logging.getLogger()
    config.set("accesslog", "-")
    before = root.handlers, root.level, logging.raiseExceptions
    logger = JsonLogger(config)
    root.handlers, _, logging.raiseExceptions = before
    root.setLevel(before[1])

    def log(*, broken: bool = False, **environ: str) -> str:
        if broken:
            written.close()
        line = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": "10.0.0.1"} | environ
        logger.access(Answered(), None, line, timedelta(milliseconds=1.5))
        return "" if written.closed else written.getvalue()

    yield log
    for each in (logger.error_log, logger.access_log):
        each.handlers = []


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_an_access_line_has_no_credential(access: Callable[..., str], credential: str) -> None:
    line = access(PATH_INFO=f"/a{credential}/b", REQUEST_METHOD=credential)
    assert credential[5:] not in line
    told = json.loads(line)
    assert told["path"] == f"/a{credential[: 5 if '_' in credential else 3]}…/b"
    assert (told["status"], told["bytes"], told["ms"], told["remote"]) == (200, 12, 1.5, "10.0.0.1")


def test_an_access_line_is_one_line_whatever_the_path_is(access: Callable[..., str]) -> None:
    line = access(PATH_INFO='/"\r\n\x00\u2028{"time": 1}')
    assert line.endswith("}\n")
    assert len(line.splitlines()) == 1
    assert json.loads(line)["path"] == '/"\r\n\x00\u2028{"time": 1}'


def test_an_access_line_that_cannot_be_written_costs_no_answer(access: Callable[..., str]) -> None:
    assert access(broken=True) == ""


@given(st.text())
def test_concealing_twice_changes_nothing(text: str) -> None:
    assert conceal(conceal(text)) == conceal(text)


@pytest.mark.parametrize("marker", ["a\u017fcs_", "A\u017fat_", "a\u017fia_", "a\u017fra_"])
def test_a_letter_that_is_the_same_in_another_case_hides_no_credential(marker: str) -> None:
    assert conceal(f"no {marker}k3Yb-Zq_") == f"no {marker}…"


def test_what_is_no_credential_stays() -> None:
    assert conceal("GET /clients/register/service-a 200 as_x eye") == "GET /clients/register/service-a 200 as_x eye"
