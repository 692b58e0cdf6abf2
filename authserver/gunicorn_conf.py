"""gunicorn's settings, from the environment: `gunicorn -c authserver/gunicorn_conf.py 'authserver.app:get_app()'`."""

import ipaddress
import os
import sys

from gunicorn.util import parse_address

from authserver.app import make_configured_server
from authserver.config import Config, ConfigError, read_config
from authserver.logs import JsonLogger
from authserver.worker import Worker


def _check(config: Config) -> None:
    """Find here what gunicorn would report without naming the setting, or start worker after worker on."""
    make_configured_server(config)  # for the connection string; it connects to nothing
    try:
        parse_address(config.bind)
    except RuntimeError:
        raise ConfigError("AUTHSERVER_BIND must be HOST:PORT or unix:PATH") from None
    try:
        for proxy in config.forwarded_allow_ips.split(","):
            if proxy.strip() not in ("", "*"):
                ipaddress.ip_network(proxy.strip())
    except ValueError:
        raise ConfigError(
            "AUTHSERVER_FORWARDED_ALLOW_IPS must be IP addresses or networks, separated by commas, or *"
        ) from None


try:
    _config = read_config(os.environ)
    _check(_config)
except ConfigError as _error:
    sys.exit(f"authserver: {_error}")

# Neither a header nor the environment moves the paths.
os.environ.pop("SCRIPT_NAME", None)
forwarder_headers = ""

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
forwarded_allow_ips = _config.forwarded_allow_ips
# A form of 64 KiB has its own limit; these are for the request line and the headers.
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190
logger_class = JsonLogger
loglevel = _config.log_level
accesslog = "-"
# A heartbeat file on a disk that stalls would make the arbiter kill healthy workers.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - a directory of the system, not a file of ours
control_socket_disable = True
