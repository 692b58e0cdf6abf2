"""How gunicorn serves the example.

`gunicorn -c python:resource_server.gunicorn_conf 'resource_server.app:get_app()'`
"""

import os
import shutil
import sys
import tempfile
from typing import Any

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


def child_exit(_server: Any, worker: Any) -> None:
    """Take what an ended worker measured out of the sums."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - only now the variable is set

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client's own


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
