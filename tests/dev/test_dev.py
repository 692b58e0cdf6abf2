"""`authserver dev` and the quickstart: they start only what is theirs, and leave nothing behind, however they end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from authserver.dev.stack import DidNotStart, Server, free_port

PATIENCE = 60.0  # seconds; a limit, never a pace


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the commands make their directories. Short: a socket's path may have 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="t-"))
    directory.chmod(0o755)  # as /tmp is, so that for root PostgreSQL's own user can have its directory there as well
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


class Command:
    """A running `python -m ...` with its output in files."""

    def __init__(self, temporary: Path, output: Path, *arguments: str, **environment: str) -> None:
        self.output, self.errors = output / "stdout", output / "stderr"
        with self.output.open("wb") as stdout, self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", *arguments],
                env=os.environ | {"TMPDIR": str(temporary)} | environment,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self.family: set[psutil.Process] = set()

    def wait_for(self, text: str) -> str:
        """Wait until this is printed; give all that is."""
        wait_until(lambda: text in self.output.read_text() or self.process.poll() is not None, text)
        assert text in self.output.read_text(), self.errors.read_text()
        self.family |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self.output.read_text()

    def end(self, number: int, *, whole_group: bool = False) -> None:
        """Send a signal, to the whole group as a terminal does, and wait for the end."""
        (os.killpg if whole_group else os.kill)(self.process.pid, number)
        assert self.process.wait(PATIENCE) == 128 + number
        assert self.errors.read_text() == ""
        assert not [each for each in self.family if is_alive(each)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(temporary: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start a command; what a failed test leaves of it is killed."""
    commands: list[Command] = []

    def start(*arguments: str, **environment: str) -> Command:
        commands.append(Command(temporary, tmp_path, *arguments, **environment))
        return commands[-1]

    yield start
    for command in commands:
        if command.process.poll() is None:
            for each in (*psutil.Process(command.process.pid).children(recursive=True), command.process):
                each.kill()
            command.process.wait()


def dev(*arguments: str) -> tuple[str, ...]:
    return ("authserver", "dev", "--port", str(free_port()), "--resource-port", str(free_port()), *arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_dev_stops_and_removes_everything_on_a_signal(start, temporary: Path, number: int) -> None:
    # The caller's own settings are for another installation.
    foreign = {"AUTHSERVER_AUDIT_FILE": "canary", "AUTHSERVER_DATABASE_URL_FILE": "x", "OAUTH2_CACHE_TTL": "x"}
    command = start(*dev(), **foreign)
    told = command.wait_for("Ctrl-C")
    assert f"\nIgnored, as they are for another installation: {', '.join(foreign)}\n" in told
    assert "canary" not in told
    exports = "\n".join(re.findall(r"^  (export .*)$", told, re.MULTILINE))

    def run_beside(*arguments: str) -> str:
        shell = ["/bin/sh", "-c", f'{exports}\nexec "$0" -m authserver "$@"', sys.executable, *arguments]
        return subprocess.run(shell, capture_output=True, text=True, check=True).stdout

    assert "service-a" in run_beside("client", "list")
    # Only with the servers' own encryption key.
    assert "signs from" in run_beside("keys", "rotate")
    run_beside("doctor")  # which ends with 1 if a setting is missing
    (data,) = re.findall(r"^data of PostgreSQL +(/.*)$", told, re.MULTILINE)
    assert (Path(data) / "PG_VERSION").exists()
    logs = re.findall(r"^(?:logs)? +(/.*)$", told, re.MULTILINE)
    assert [Path(log).name for log in logs] == ["log", "authserver.log", "resource_server.log"]
    assert all(Path(log).stat().st_size for log in logs)
    assert list(temporary.iterdir())
    command.end(number, whole_group=number == signal.SIGINT)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("module", ["authserver dev", "authserver.dev.quickstart"])
def test_a_signal_in_the_middle_of_the_start_leaves_nothing(start, temporary: Path, module: str) -> None:
    command = start(*(dev() if module == "authserver dev" else [module]))
    wait_until(lambda: list(temporary.glob("*/*/PG_VERSION")), "the database is being made")
    command.end(signal.SIGINT, whole_group=True)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("option", ["--port", "--resource-port"])
def test_dev_refuses_a_port_that_is_in_use(temporary: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run("authserver", "dev", *dev()[2:], option, port, temporary=temporary)
    assert done.returncode == 1
    assert done.stderr == f"authserver: dev: port {port} is in use: choose another one with {option}\n"
    assert list(temporary.iterdir()) == []


def test_dev_refuses_ports_that_cannot_be(temporary: Path) -> None:
    done = run(*dev("--port", "99999"), temporary=temporary)
    assert (done.returncode, done.stderr) == (1, "authserver: dev: --port must be from 1 to 65535\n")
    port = str(free_port())
    done = run(*dev("--port", port, "--resource-port", port), temporary=temporary)
    assert (done.returncode, done.stderr) == (1, "authserver: dev: --port and --resource-port must differ\n")


def run(*arguments: str, temporary: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=os.environ | {"TMPDIR": str(temporary)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


class AlwaysReady(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_server_is_not_believed_ready_because_another_one_answers(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), AlwaysReady) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        port = other.server_port
        try:
            ours = Server(
                ["http.server", "--bind", "127.0.0.1", str(port)], {}, tmp_path / "log", f"http://127.0.0.1:{port}"
            )
            with pytest.raises(DidNotStart, match="in use"):
                ours.wait_until_ready()
            ours.stop()
        finally:
            other.shutdown()
            thread.join()


def test_the_quickstart_ends_quietly_when_nobody_reads_on(temporary: Path) -> None:
    command = f'"{sys.executable}" -u -m authserver.dev.quickstart | head -n 3; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE
    assert list(temporary.iterdir()) == []


def test_what_is_kept_is_stopped_and_removed(temporary: Path) -> None:
    kept = run("authserver.dev.quickstart", "--keep", temporary=temporary)
    assert kept.returncode == 0, kept.stderr
    assert "scripts/quickstart.sh --stop" in kept.stdout
    (note,) = temporary.glob("*/kept.json")
    processes = [psutil.Process(each["pid"]) for each in json.loads(note.read_text())["processes"]]
    processes += [child for each in processes for child in each.children(recursive=True)]
    # Anybody can put such a directory there.
    foreign = temporary / "authserver-quickstart-foreign"
    foreign.mkdir()
    (foreign / "kept.json").write_text(json.dumps({"processes": [], "socket": str(foreign)}))
    foreign.chmod(0o777)

    stopped = run("authserver.dev.quickstart", "--stop", temporary=temporary)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "Stopped and removed: 1\n", "")
    assert not [each for each in processes if is_alive(each)]
    assert list(temporary.iterdir()) == [foreign]
