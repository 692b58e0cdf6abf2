"""What watching costs a request in process: microseconds of this thread's processor time, the least of many runs.

.venv/bin/python scripts/bench_observation.py
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from uuid import uuid4

DIRECTORY = tempfile.mkdtemp(prefix="bench-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)  # noqa: S108 - the system's
os.environ["PROMETHEUS_MULTIPROC_DIR"] = DIRECTORY

import falcon  # noqa: E402 - the variable must be set before
from falcon.testing import create_environ  # noqa: E402

from authserver.observe import audit  # noqa: E402
from authserver.observe.audit import Audit, token_id  # noqa: E402
from authserver.observe.metrics import Metrics  # noqa: E402
from authserver.web.client_address import ClientAddress  # noqa: E402
from authserver.web.observation import Observation  # noqa: E402

RUNS, REQUESTS = 30, 5000
ISSUED = {
    "client_id": "service-a",
    "auth_method": "client_secret_basic",
    "token_id": token_id(bytes(32)),
    "jti": None,
    "format": "opaque",
    "scope": "read",
    "audience": ("https://b.example",),
    "expires_at": 1800000000,
}


def least(act: Callable[[], object], finish: Callable[[], object] = int) -> float:
    """Microseconds for one call."""
    best = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(REQUESTS):
            act()
        finish()
        best = min(best, (time.process_time() - began) / REQUESTS)
    return best * 1e6


def main() -> None:
    metrics = Metrics()
    environ = create_environ(path="/oauth/token", method="POST", headers={})
    environ["authserver.request_id"] = uuid4().hex  # which every request has in any case
    request, response = falcon.Request(environ), falcon.Response()
    request.uri_template = "/oauth/token"

    def watch(observation: Observation, told: Audit, *, in_database: bool) -> Callable[[], None]:
        def one() -> None:
            environ.pop("authserver.trace_id", None)
            observation.process_request(request, response)
            if in_database:
                metrics.round_trip(0.001)
            told.tell("token.issued", **ISSUED)
            observation.process_response(request, response, None, True)

        return one

    address = ClientAddress("")
    logging.getLogger(audit.LOGGER).setLevel(logging.CRITICAL)
    silent = Audit()
    bare = least(watch(Observation(silent, address), silent, in_database=False))
    counting = Audit(metrics.event)
    counted = least(watch(Observation(counting, address, metrics), counting, in_database=True), metrics.flush)
    audit.write_to(f"{DIRECTORY}/audit")
    told = Audit(metrics.event)
    logged = least(watch(Observation(told, address, metrics), told, in_database=True), metrics.flush)
    print(f"trace id, origin and events that nobody reads  {bare:5.1f} µs")
    print(f"metrics of a token request, flush included      {counted - bare:5.1f} µs")
    print(f"its audit line in a file, added to that         {logged - counted:5.1f} µs")


try:
    main()
finally:
    shutil.rmtree(DIRECTORY)
