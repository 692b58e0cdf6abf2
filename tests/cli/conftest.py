"""Run commands as an operator does: real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run `authserver ARGUMENTS` with an environment and what is typed, in a process of its own (see warm.py)."""
    files = [tmp_path_factory.mktemp("command") / name for name in ("in", "out", "err")]
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as warm:
        assert warm.stdin
        assert warm.stdout

        def start(arguments: tuple[str, ...], environment: dict[str, str], typed: str) -> Run:
            for file, text in zip(files, (typed, "", ""), strict=True):
                file.write_text(text, encoding="utf-8")
            line = {"arguments": arguments, "environment": environment, "files": [str(file) for file in files]}
            print(json.dumps(line), file=warm.stdin, flush=True)
            status = int(warm.stdout.readline())
            _, out, err = (file.read_text(encoding="utf-8") for file in files)
            return subprocess.CompletedProcess(arguments, status, out, err)

        yield start
        warm.stdin.close()


@pytest.fixture
def run(database_url: str, start: Run) -> Run:
    """Run `authserver ARGUMENTS` as the role for it; by default it must succeed. An error has that many lines."""

    def run(
        *arguments: str, status: int = 0, typed: str = "", lines: int = 1, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = start(arguments, os.environ | {"AUTHSERVER_DATABASE_URL": database_url} | environment, typed)
        assert done.returncode == status, done.stderr
        if status == 1:
            assert re.fullmatch(rf"(authserver: [^\n]+\n){{{lines}}}", done.stderr)
        return done

    return run
