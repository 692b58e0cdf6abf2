"""What `scripts/quickstart.sh --keep` leaves running: noted in its directory, so that `--stop` can find and remove it.

The directories are found by their name among the temporary files, where anybody may put one: only those are believed
that are this user's own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil  # type: ignore[import-untyped] # comes with the embedded PostgreSQL, without types

from authserver.dev.stack import Stack

PREFIX = "authserver-quickstart-"
_NOTE = "kept.json"
_PATIENCE = 40.0  # seconds; longer than the servers give their last requests


def keep(stack: Stack) -> None:
    """Note what runs, in the order in which it is to be stopped."""
    servers = [(server.process.pid, signal.SIGTERM) for server in reversed(stack.servers)]
    processes = [
        {"pid": pid, "started": psutil.Process(pid).create_time(), "signal": number}
        for pid, number in [*servers, (stack.postgres.pid, signal.SIGINT)]
    ]
    # The directory of PostgreSQL's socket is beside ours: a socket's path has to be short.
    socket = parse_qs(urlsplit(stack.postgres.url()).query)["host"][0]
    note = {"processes": processes, "socket": socket}
    (stack.directory / _NOTE).write_text(json.dumps(note), encoding="utf-8")


def stop_kept() -> int:
    """Stop and remove all that this user has kept; wait for it, and give how many installations it was."""
    count = 0
    for count, directory in enumerate(_kept(), start=1):  # noqa: B007 - the last one is the answer
        note = json.loads((directory / _NOTE).read_text(encoding="utf-8"))
        for each in note["processes"]:
            _end(each["pid"], each["started"], each["signal"])
        for path in (note["socket"], directory):
            shutil.rmtree(path, ignore_errors=True)
    return count


def _kept() -> Iterator[Path]:
    for directory in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with suppress(FileNotFoundError):  # another --stop was faster
            of = [path.lstat() for path in (directory, directory / _NOTE)]
            if all(s.st_uid == os.geteuid() and not s.st_mode & (stat.S_IWGRP | stat.S_IWOTH) for s in of):
                yield directory


def _end(pid: int, started: float, number: int) -> None:
    """Stop a process and what it has started; kill what is still there after a while."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.create_time() != started:  # the number has been given to another process since
            return
        family = [process, *process.children(recursive=True)]
        process.send_signal(number)
        deadline = time.monotonic() + _PATIENCE
        while not all(_has_ended(each) for each in family):
            if time.monotonic() > deadline:
                for each in family:
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
            time.sleep(0.02)


def _has_ended(process: psutil.Process) -> bool:
    # One that nobody has waited for has ended as well: in a container the first process may never do that.
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True
