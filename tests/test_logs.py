"""What looks like a credential leaves no trace in a log line, wherever it stands."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.logs import JsonFormatter
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
    access = record("x", "gunicorn.access")
    access.args = {"path": f"/a{credential}/b", "status": 200}
    for made in (record(credential), access):
        line = JsonFormatter().format(made)
        assert credential[5:] not in line
        assert json.loads(line)["logger"]
    assert json.loads(JsonFormatter().format(access))["path"] == f"/a{credential[: 5 if '_' in credential else 3]}…/b"


@given(st.text())
def test_concealing_twice_changes_nothing(text: str) -> None:
    assert conceal(conceal(text)) == conceal(text)


def test_what_is_no_credential_stays() -> None:
    assert conceal("GET /clients/register/service-a 200 as_x eye") == "GET /clients/register/service-a 200 as_x eye"
