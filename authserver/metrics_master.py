"""What the gunicorn master does for the metrics: a directory for the workers' numbers, and the address to ask at.

prometheus_client looks for the directory's name when it is imported, so what imports it is imported here later.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path

from authserver.flows.server import AuthorizationServer
from authserver.listening import check_address

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_OWNER = "_AUTHSERVER_METRICS_OWNER"
_MEMORY = "/dev/shm"  # noqa: S108 - a directory of the system: numbers written to a disk that stalls would stall requests

_listeners: list[socket.socket] = []


def make_directory() -> None:
    """Give this master and its workers a directory; called again at a reload, and by the next master at a USR2."""
    if os.environ.get(_OWNER) == str(os.getpid()):
        return
    where = _MEMORY if Path(_MEMORY).is_dir() and os.access(_MEMORY, os.W_OK) else None
    os.environ[_OWNER] = str(os.getpid())
    os.environ[_DIRECTORY] = directory = tempfile.mkdtemp(prefix="authserver-metrics-", dir=where)
    atexit.register(_remove, directory, os.getpid())


def listen(address: tuple[str, int]) -> None:
    """Take the address, for all workers to come. Raises CannotListen, OSError."""
    if "GUNICORN_FD" not in os.environ:  # at a USR2 the predecessor has it, too, and lets it go at its end
        check_address(address)
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen()
    _listeners.append(listener)


def start(server: AuthorizationServer, key_age: int) -> None:
    """Answer from now on in this worker, too. `server` is for this alone: its connection is closed after each look.

    Signing keys are due at an age of `key_age` seconds (0: never).
    """
    from authserver import metrics_server  # noqa: PLC0415 - see the module
    from authserver.observe.metrics import process_metrics  # noqa: PLC0415 - likewise

    state = metrics_server.StateMetrics(server, key_age)
    for listener in _listeners:
        metrics_server.start(listener, process_metrics(), state)


def end_worker() -> None:
    """Write what this worker has counted and not written."""
    from authserver.observe.metrics import process_metrics  # noqa: PLC0415 - see the module

    process_metrics().flush()


def forget_worker(pid: int) -> None:
    """Take what an ended worker measured out of the sums; what it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - see the module

    mark_process_dead(pid)  # type: ignore[no-untyped-call] # prometheus_client's own


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # a worker inherits what its master is to do at the end
        shutil.rmtree(directory, ignore_errors=True)
