"""The end-to-end scripts in a tree of their own, with stubs for all that they call. Nothing real is started."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUBS = ("docker", "kind", "kubectl", "python")
# All else that a script may call. With these and the stubs alone on the PATH, no real cluster can be reached.
TOOLS = ("bash", "basename", "cat", "cp", "dirname", "env", "git", "grep", "head", "mkdir", "mktemp", "rm", "sed", "tr")
CLIENT_SECRET = "ascs_of-the-stub"
TOKEN = "asia_of-the-stub"
PATIENCE = 30.0  # seconds; a limit, never a pace


@dataclass(frozen=True)
class Call:
    """One call of a stub."""

    tool: str
    kubeconfig: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.tool, *self.arguments))


@dataclass
class Run:
    """A script that runs or has run, and what it did."""

    process: subprocess.Popen[str]
    directory: Path
    stdout: str = ""
    stderr: str = ""

    @property
    def calls(self) -> list[Call]:
        log = self.directory / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [Call(words[0], words[1], tuple(words[2:])) for words in map(shlex.split, lines)]

    def called(self, beginning: str) -> list[str]:
        """The calls that begin so."""
        return [str(call) for call in self.calls if str(call).startswith(beginning)]

    def secret(self, name: str) -> str:
        """What a Secret was made of."""
        return (self.directory / f"secret-{name}").read_text()

    @property
    def suite(self) -> dict[str, str]:
        """The environment in which tests/e2e was run."""
        lines = (self.directory / "suite").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait_until_blocked(self) -> None:
        """Wait for the call that STUB_BLOCK names."""
        end = time.monotonic() + PATIENCE
        while not (self.directory / "blocked").exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.005)

    def interrupt(self, number: signal.Signals) -> None:
        """Send a signal to the script and all that it runs, as a terminal does."""
        self.wait_until_blocked()
        os.killpg(self.process.pid, number)

    def finish(self) -> Run:
        """Wait for the end, and check what every run must keep."""
        stdout, self.stderr = self.process.communicate(timeout=PATIENCE)
        self.stdout = stdout or ""
        temporary = self.directory / "tmp"
        assert not list(temporary.iterdir()), "temporary files are left"
        assert (self.directory / "kubeconfig").read_text() == "the user's"
        for call in self.calls:
            if call.tool in ("kind", "kubectl"):
                assert call.kubeconfig.startswith(f"{temporary}/"), call
            assert not any(secret in str(call) for secret in self.secrets()), call
        assert not any(secret in self.stdout + self.stderr for secret in self.secrets())
        return self

    def secrets(self) -> set[str]:
        """What no list of processes and no output may show."""
        found = {CLIENT_SECRET, TOKEN}
        if (file := self.directory / "secret-postgres").exists():
            found |= {line.partition("=")[2] for line in file.read_text().splitlines()}
        if (file := self.directory / "environment").exists():
            passwords = [line for line in file.read_text().splitlines() if line.startswith("POSTGRES_PASSWORD=")]
            found |= {line.partition("=")[2] for line in passwords}
        return found - {""}


@dataclass
class Tree:
    """A checkout with the scripts, and the commands on their PATH."""

    root: Path
    commands: Path = field(init=False)

    def __post_init__(self) -> None:
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        shutil.copy(ROOT / "setup.cfg", self.root)
        (self.root / "k8s").symlink_to(ROOT / "k8s")
        (self.root / "authserver").mkdir()
        shutil.copy(ROOT / "authserver/__init__.py", self.root / "authserver")
        self.commands = self.root / "commands"
        self.commands.mkdir()
        stub = Path(__file__).with_name("stub.sh").resolve()
        for name in STUBS:
            (self.commands / name).symlink_to(stub)
        for name in TOOLS:
            (self.commands / name).symlink_to(_find(name))
        # The scripts look again soon, and do not wait longer for a stub than it takes.
        (self.commands / "sleep").write_text(f"#!/bin/sh\nexec {_find('sleep')} 0.01\n")
        (self.commands / "sleep").chmod(0o755)
        (self.root / ".venv/bin").mkdir(parents=True)
        (self.root / ".venv/bin/python").symlink_to(stub)
        (self.root / ".venv/.installed-test").touch()


def _find(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"the scripts need {name}")
    return path


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("tree").resolve())


@pytest.fixture
def start(tree: Tree, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a script: `start("e2e_kind", "--skip-build", STUB_FAIL="kind create")`."""
    runs: list[Run] = []

    def begin(script: str, *arguments: str, path: Path = tree.commands, **environment: str) -> Run:
        directory = tmp_path / str(len(runs))
        (directory / "tmp").mkdir(parents=True)
        (directory / "kubeconfig").write_text("the user's")
        process = subprocess.Popen(
            [_find("bash"), f"{tree.root}/scripts/{script}.sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell cannot trap what was ignored when it started, as SIGINT is in a job in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
            env={
                "PATH": str(path),
                "PYTHON": "python",
                "TMPDIR": str(directory / "tmp"),
                "HOME": str(directory),
                "KUBECONFIG": str(directory / "kubeconfig"),
                "STUB_DIRECTORY": str(directory),
                "STUB_PYTHON": sys.executable,
                "STUB_SLEEP": _find("sleep"),
                "STUB_CLIENT_SECRET": CLIENT_SECRET,
                "STUB_TOKEN": TOKEN,
                **environment,
            },
        )
        runs.append(Run(process, directory))
        return runs[-1]

    yield begin
    for each in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.communicate()


@pytest.fixture
def run(start: Callable[..., Run]) -> Callable[..., Run]:
    """Run a script to its end."""
    return lambda *arguments, **environment: start(*arguments, **environment).finish()
