"""The virtual environment that the scripts make for themselves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ENSURE = 'set -euo pipefail; source scripts/environment.sh; ensure_environment dev; "$python" -c "import project"'
PYPROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
SETUP = "[metadata]\nname = x\nversion = 1\n[options]\npy_modules = project\n[options.extras_require]\ndev =\n"
Ensure = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def clone(tmp_path: Path, repository: Path) -> Path:
    """A small project with our script."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(repository / "scripts/environment.sh", tmp_path / "scripts")
    for name, text in (("pyproject.toml", PYPROJECT), ("setup.cfg", SETUP), ("project.py", "")):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def ensure(clone: Path, outside: dict[str, str]) -> Ensure:
    """Begin to make the environment."""
    return lambda: subprocess.Popen(
        ["bash", "-c", ENSURE],
        cwd=clone,
        env=outside | {"PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_after_an_interrupted_run_two_at_once_install_once(clone: Path, ensure: Ensure) -> None:
    interrupted = ensure()
    end = time.monotonic() + 60
    while not (clone / ".venv/bin/python").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(interrupted.pid, signal.SIGKILL)
    interrupted.communicate()

    runs = [ensure() for _ in range(2)]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sum("Installing" in stdout for stdout, _ in outputs) == 1
    again = ensure()
    assert again.communicate(timeout=60) == ("", "")
    assert again.returncode == 0


def test_an_environment_without_pip_is_mended(clone: Path, ensure: Ensure) -> None:
    venv.create(clone / ".venv", with_pip=False)
    (clone / ".venv/mine").touch()
    run = ensure()
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert (clone / ".venv/mine").exists()
