"""An embedded PostgreSQL: binaries from a wheel, data in a directory of its own, reached by a Unix socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import urlencode

import psutil  # type: ignore[import-untyped] # comes with the wheel, without types

from authserver.dev.postgres_wheel import BINARIES, Programs

_PATIENCE = 30.0  # seconds for a start
_READY = "ready"


class PostgresDidNotStart(Exception):
    """The server ended or did not answer in time; the message ends with its log."""


class EmbeddedPostgres:
    """A PostgreSQL server that lives once. A context manager: leaving it stops the server and removes its data.

    Data and socket are in `home`. As root it runs as a user of its own, who need not reach the log's directory.
    """

    def __init__(self, directory: Path, settings: dict[str, str] | None = None) -> None:
        """Use a directory for the log. `settings` go into postgresql.auto.conf."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log = directory / "log"
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = Programs()
        # Its path is short, because a socket's may have 107 bytes; private, because whoever reaches it is superuser.
        self.home = self._programs.home
        self.data = self.home / "data"

    def start(self) -> None:
        """Start, making the data first if there are none; wait until it answers. Raises PostgresDidNotStart."""
        binaries = self._programs.find()
        with private_log(self.log) as log:
            run = self._programs.arguments(log)
            if not (self.data / "PG_VERSION").exists():
                options = ["--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", str(self.data)]
                if subprocess.run([str(binaries / "initdb"), *options], check=False, **run).returncode:  # noqa: S603 - the wheel's own
                    raise PostgresDidNotStart(self._last_words())
            settings = "".join(f"{name} = '{value}'\n" for name, value in self._settings.items())
            (self.data / "postgresql.auto.conf").write_text(settings, encoding="utf-8")
            command = [str(binaries / "postgres"), "-D", str(self.data), "-k", str(self.home), "-h", ""]
            process = subprocess.Popen[bytes](command, start_new_session=True, **run)
        self._process = process
        self._wait_until_ready(process)

    def stop(self) -> None:
        """Stop, wait, and remove the data; the log stays."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.home, ignore_errors=True)

    def restart(self) -> None:
        """Stop as an administrator does, ending all connections, and start again on the same data."""
        self._end(signal.SIGINT)
        self.start()

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL, as a crash would, and wait until they are gone.

        Those that outlive the first one for a moment would keep the next start from using the data.
        """
        others = psutil.Process(self.pid).children()
        self._end(signal.SIGKILL)
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(others)

    def freeze(self) -> None:
        """Stop all processes of the server from running, as a stalled disk or a lost machine would."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them run on."""
        self._signal_all(signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def binaries(self) -> Path:
        """Where psql and its like are."""
        return BINARIES

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection URL for a database of this server."""
        return f"postgresql:///{database}?{urlencode({'host': self.home, 'user': user})}"

    def run(self, statements: str) -> None:
        """Run statements as superuser. Raises PostgresDidNotStart if they fail."""
        # By this process's own user, to whom the wheel's programs are open in any case.
        command = [
            str(BINARIES / "psql"),
            "--quiet",
            "--no-psqlrc",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statements,
            self.url(),
        ]
        with private_log(self.log) as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)  # noqa: S603 - likewise
        if done.returncode:
            raise PostgresDidNotStart(self._last_words())

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        status = self.data / "postmaster.pid"
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            lines: list[str] = []
            with suppress(FileNotFoundError):  # a new server replaces what a killed one has left
                lines = status.read_text(encoding="utf-8").split()
            if lines and lines[0] == str(process.pid) and lines[-1] == _READY:
                return
            time.sleep(0.01)
        raise PostgresDidNotStart(self._last_words())

    def _last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def _signal_all(self, sent: signal.Signals) -> None:
        first = psutil.Process(self.pid)
        for process in (first, *first.children()):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sent)

    def _end(self, sent: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(sent)
            self._process.wait()
            self._process = None

    def __enter__(self) -> EmbeddedPostgres:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


def private_log(path: Path) -> IO[bytes]:
    """Open a log to append to, which nobody else may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
