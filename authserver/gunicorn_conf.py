"""gunicorn's settings, from the environment: `gunicorn -c authserver/gunicorn_conf.py 'authserver.app:get_app()'`."""

import logging
import os
import sys
import threading
from typing import Any

from gunicorn.systemd import listen_fds

from authserver import metrics_master
from authserver.app import configure, make_configured_server
from authserver.config import ConfigError, unknown_variables
from authserver.flows.maintain import HOUR
from authserver.flows.ready import Readiness
from authserver.listening import CannotListen, check_address
from authserver.logs import JsonLogger
from authserver.store.connection_limits import most_connections
from authserver.store.database import Unavailable
from authserver.worker import Worker

_log = logging.getLogger("authserver.start")


def on_starting(server: Any) -> None:
    """gunicorn calls this once, before it listens, and not at a reload: end here if it could not listen."""
    for line in unknown_variables(os.environ):
        _log.warning(line)
    try:
        if _config.metrics_bind:
            metrics_master.listen(_config.metrics_bind)
    except (CannotListen, OSError) as error:
        sys.exit(f"authserver: AUTHSERVER_METRICS_BIND {error}")
    # Sockets that systemd or, at a USR2, the predecessor hands on are bound already.
    if listen_fds(unset_environment=False) or "GUNICORN_FD" in os.environ or server.cfg.reuse_port:
        return
    try:
        for address in server.cfg.address:
            if not isinstance(address, int):
                check_address(address)
    except CannotListen as error:
        sys.exit(f"authserver: AUTHSERVER_BIND {error}")


def pre_fork(server: Any, worker: Any) -> None:
    """gunicorn calls this before it makes a worker."""
    worker.noted_signals = server.SIG_QUEUE


def post_worker_init(worker: Any) -> None:
    """gunicorn calls this in each new worker. The first of all reports on the database, once and beside its work."""
    if _config.metrics_bind:
        age = _config.key_rotation_days * 24 * HOUR
        metrics_master.start(make_configured_server(_config), age)
    if worker.age == 1:
        threading.Thread(target=_report_database, daemon=True).start()


def worker_exit(_server: Any, _worker: Any) -> None:
    """gunicorn calls this in a worker that ends."""
    if _config.metrics_bind:
        metrics_master.end_worker()


def child_exit(_server: Any, worker: Any) -> None:
    """gunicorn calls this when a worker has ended, however it did."""
    worker.give_back_place()
    if _config.metrics_bind:
        metrics_master.forget_worker(worker.pid)


def _report_database() -> None:
    server = make_configured_server(_config)
    try:
        missing = Readiness(server).missing()
        most = most_connections(server.database)
    except Unavailable as error:
        _log.warning("the database cannot be asked, /ready is 503 until it can: %s", error)
        return
    finally:
        server.database.close()
    if missing is None:
        _log.info("the database answers and its schema is current")
    else:
        _log.warning("%s, /ready is 503: %s", missing.reason, missing.advice)
    # Through PgBouncer they are not PostgreSQL's connections.
    if _config.workers * _config.threads > most and not _config.database_pooler:
        _log.warning(
            "AUTHSERVER_WORKERS x AUTHSERVER_THREADS is %d connections, and PostgreSQL lets this role have %d: "
            "lower them, raise max_connections, or put PgBouncer in between (AUTHSERVER_DATABASE_POOLER=transaction)",
            _config.workers * _config.threads,
            most,
        )


try:
    _config = configure()
except ConfigError as _error:
    sys.exit(f"authserver: {_error}")

if _config.metrics_bind:
    metrics_master.make_directory()

Worker.request_timeout = _config.request_timeout

wsgi_app = "authserver.app:get_app()"
bind = _config.bind
workers = _config.workers
threads = _config.threads
worker_class = Worker
worker_connections = 1000
backlog = 2048
keepalive = _config.keepalive
timeout = 30
graceful_timeout = _config.graceful_timeout
logger_class = JsonLogger
loglevel = _config.log_level
accesslog = "-"
# A heartbeat file on a disk that stalls would make the arbiter kill healthy workers.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - a directory of the system, not a file of ours
control_socket_disable = True
