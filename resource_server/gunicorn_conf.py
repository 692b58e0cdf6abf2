"""How gunicorn serves the example.

`gunicorn -c python:resource_server.gunicorn_conf 'resource_server.app:get_app()'`
"""

import os
import shutil
import socket
import sys
import tempfile
from typing import Any

from gunicorn.systemd import listen_fds

from resource_server.config import Config
from resource_server.errors import ConfigError

try:
    _config = Config.from_environ(os.environ)
except ConfigError as _error:
    sys.stderr.write(f"resource_server: {_error}\n")
    raise SystemExit(1) from None

# neither a header nor the environment moves the paths
os.environ.pop("SCRIPT_NAME", None)
forwarder_headers = ""

bind = _config.bind
workers = _config.workers
worker_class = "resource_server.worker.Worker"
threads = _config.threads
keepalive = 75
graceful_timeout = _config.graceful_timeout
preload_app = True
# a JWT of 8 KiB in its Authorization field
limit_request_field_size = 8192 + 256
accesslog = "-"
logger_class = "resource_server.access_log.JsonAccessLog"
control_socket_disable = True

# Where the workers leave their numbers for each other's /metrics; a start must not find those of an earlier one.
# This file is read anew at a reload, by the same process, and by the next master at an upgrade.
if os.environ.get("RESOURCE_SERVER_METRICS_OWNER") != str(os.getpid()):
    os.environ["RESOURCE_SERVER_METRICS_OWNER"] = str(os.getpid())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="resource-server-metrics-")


def on_starting(server: Any) -> None:
    """End here, in one line, if it could not listen: gunicorn by itself would try for five seconds."""
    # Sockets that systemd or, at a USR2, the predecessor hands on are bound already.
    if listen_fds(unset_environment=False) or "GUNICORN_FD" in os.environ or server.cfg.reuse_port:
        return
    for address in server.cfg.address:
        if isinstance(address, tuple):  # a path of a Unix socket is gunicorn's own to judge
            try:
                with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
            except (OSError, UnicodeError) as error:  # the latter for what cannot be a host name
                on_exit(server)
                reason = getattr(error, "strerror", None) or error
                sys.exit(f"resource_server: RESOURCE_SERVER_BIND {address[0]} port {address[1]}: {reason}")


def child_exit(_server: Any, worker: Any) -> None:
    """Take what an ended worker measured out of the sums."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - only now the variable is set

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client's own


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
