"""gunicorn --preload: the application is made, and may even have been used, before the fork."""

from __future__ import annotations

import psycopg

PRELOADED = """
import os
from authserver.app import create_app, make_configured_server
from authserver.config import read_config
from authserver.flows.ready import Readiness

server = make_configured_server(read_config(os.environ))
assert Readiness(server).missing() is None  # opens a connection before the fork
app = create_app(server)
"""


def test_preloaded_workers_use_no_connection_of_their_parent(
    start_gunicorn, serving_url, tmp_path, backends, paused, wait_until
):
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    arguments = ("gunicorn", "-c", "python:authserver.gunicorn_conf", "--preload")
    before = backends(serving_url)
    server = start_gunicorn(
        serving_url, arguments=(*arguments, "--chdir", str(tmp_path), "preloaded:app"), WORKERS="2", THREADS="1"
    )
    party = server.register()
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    wait_until(lambda: "its schema is current" in server.logged(), "the end of the connection that asked for it")
    for other in (workers := server.workers()):
        # What one cannot take, the other does.
        with paused(other):
            # The first request also notes the use of the secret; the last statement is then another one.
            assert [party.token().status_code for _ in range(2)] == [200, 200]
    # The one that asked for the state of the schema ends after it was logged.
    wait_until(lambda: len(backends(serving_url) - before) == 3, "one of the parent, one of each worker's thread")
    ours = backends(serving_url) - before
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s) AND query LIKE %s"
    with psycopg.connect(serving_url) as connection:
        assert connection.execute(query, (list(ours), "%access_tokens%")).fetchone() == (2,)
    assert server.workers() == workers, server.logged()
