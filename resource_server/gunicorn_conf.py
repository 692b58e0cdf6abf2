"""How gunicorn serves the example.

`gunicorn -c python:resource_server.gunicorn_conf 'resource_server.app:get_app()'`
"""

import os
import sys

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
