"""Instances are replaced one by one as Kubernetes does it, under load: no request fails.

A client stays on its connection as long as the server keeps it, also when the instance has left the Service: only new
connections go elsewhere. When the server says `Connection: close` the client opens a new one.
"""

from __future__ import annotations

import random
import signal
import threading

import pytest


class Service:
    """What a Service is to its clients: new connections go to an instance that is ready."""

    def __init__(self) -> None:
        self._ready: list[str] = []
        self._lock = threading.Lock()

    def add(self, url: str) -> None:
        with self._lock:
            self._ready.append(url)

    def remove(self, url: str) -> None:
        with self._lock:
            self._ready.remove(url)

    def choose(self) -> str:
        with self._lock:
            return random.choice(self._ready)  # noqa: S311 - which replica is no secret


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def ask(load, service):
    """Get, introspect and revoke a token, on one connection for as long as it lasts."""
    here = threading.local()

    def make(party):
        def act(session):
            url = getattr(here, "url", None) or service.choose()
            at = type(party)(url, party.client_id, party.secret)
            issued = at.token(session)
            assert issued.status_code == 200, issued.text
            load.count(url)
            # A connection lasts for some requests; one in ten is given up for a new one.
            closed = issued.headers.get("Connection") == "close"
            here.url = url
            if closed or random.random() < 0.1:  # noqa: S311 - as above
                session.close()
                here.url = None

        return act

    return make


def test_a_rolling_update_fails_no_request(start_gunicorn, serving_url, service, ask, load, wait_until):
    instances = [start_gunicorn(serving_url, WORKERS="2", THREADS="4") for _ in range(2)]
    for instance in instances:
        service.add(instance.url)
    load.start(ask(instances[0].register()), threads=6)
    for old in list(instances):
        wait_until(lambda: load.failures or load.counts.get(old.url, 0) > 50, "answers of the old one")
        # maxSurge 1, maxUnavailable 0: the new one is ready first.
        new = start_gunicorn(serving_url, WORKERS="2", THREADS="4")
        service.add(new.url)
        # preStop: it leaves the endpoints and serves on; then comes SIGTERM.
        service.remove(old.url)
        wait_until(lambda: load.failures or load.counts.get(new.url, 0) > 50, "answers of the new one")
        old.process.send_signal(signal.SIGTERM)
        wait_until(lambda: load.failures or old.process.poll() is not None, "the end of the old one")
        assert load.failures or old.process.returncode == 0
        answered = load.counts[new.url]
        wait_until(lambda: load.failures or load.counts[new.url] > answered + 50, "answers after it")
    load.end()
