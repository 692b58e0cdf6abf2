"""Run commands as an operator does: real processes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database_url: str, run_forked: Run) -> Run:
    """Run `authserver ARGUMENTS` as the role for it; by default it must succeed. An error has that many lines."""

    def run(
        *arguments: str, status: int = 0, typed: str = "", lines: int = 1, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        settings = os.environ | {"AUTHSERVER_DATABASE_URL": database_url} | environment
        done = run_forked("authserver", arguments, settings, typed)
        assert done.returncode == status, done.stderr
        if status == 1:
            assert re.fullmatch(rf"(authserver: [^\n]+\n){{{lines}}}", done.stderr)
        return done

    return run
