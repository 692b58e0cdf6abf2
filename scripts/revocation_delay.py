"""Measure how long a revoked token is still accepted somewhere: `scripts/revocation_delay.sh`.

Two authorization servers on one PostgreSQL, two resource servers of two workers each that cache or validate locally and
follow the revocation feed. Tokens are used at every worker, revoked at random times, and then tried at every worker
until it refuses. The time runs from the answer of /oauth/revoke to the first refusal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import requests

from authserver.dev.stack import RESOURCE, Server, Stack, free_port

PAUSE = 0.05  # seconds between two tries of one token at one worker
GIVE_UP = 20.0  # seconds after which a token that is still accepted counts as never refused


class Failed(Exception):
    """Something was answered that must not be."""


class Installation:
    """The servers: the URLs of two `issuers`, and two `hosts` that are resource servers."""

    def __init__(self, stack: Stack, validation: str) -> None:
        self.stack = stack
        second = f"http://127.0.0.1:{free_port()}"
        self._start(["authserver", "serve"], stack.serving | {"AUTHSERVER_BIND": second[7:]}, second)
        self.issuers = [stack.issuer, second]
        options = ("--no-grant", "--resource", RESOURCE, "--permission", "revocations:read")
        follower = json.loads(stack.run("client", "create", "service-b", *options))
        self.hosts = [self._start_resource_server(issuer, follower, validation) for issuer in self.issuers]

    def _start_resource_server(self, issuer: str, client: dict[str, str], validation: str) -> Server:
        url = f"http://127.0.0.1:{free_port()}"
        environment = {
            "RESOURCE_SERVER_BIND": url[7:],
            "WEB_CONCURRENCY": "2",
            "OAUTH2_INTROSPECT_URL": f"{issuer}/oauth/introspect",
            "OAUTH2_REVOCATIONS_URL": f"{issuer}/oauth/revocations",
            "OAUTH2_ISSUER": self.stack.issuer,
            "OAUTH2_JWKS_URL": f"{issuer}/.well-known/jwks.json",
            "OAUTH2_CLIENT_ID": client["client_id"],
            "OAUTH2_CLIENT_SECRET": client["client_secret"],
            "OAUTH2_RESOURCE": RESOURCE,
            "OAUTH2_VALIDATION": validation,
            "OAUTH2_CACHE_TTL": "30",
        }
        return self._start(["resource_server"], environment, url)

    def _start(self, command: list[str], environment: dict[str, str], url: str) -> Server:
        number = len(self.stack.servers)
        server = Server(command, environment, self.stack.directory / f"{command[0]}-{number}.log", url)
        self.stack.servers.append(server)
        server.wait_until_ready()
        return server

    def connections(self) -> list[Connection]:
        """One keep-alive connection to each worker process of each resource server."""
        return [session for host in self.hosts for session in connect_to_every_worker(host)]


class Connection(requests.Session):
    """A session that keeps one connection to one worker of one server."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.trust_env = False
        self.url = url

    def status(self, token: str) -> int:
        """What the worker says to a token."""
        answer = self.get(f"{self.url}/protected", headers={"Authorization": f"Bearer {token}"}, timeout=10)
        return answer.status_code

    def local_port(self) -> int:
        """The port by which the server knows this connection."""
        with self.get(f"{self.url}/public", stream=True, timeout=10) as answer:
            port: int = answer.raw.connection.sock.getsockname()[1]
            answer.content  # noqa: B018 - read, so that the connection is kept
            return port


def connect_to_every_worker(host: Server) -> list[Connection]:
    """Connect until each worker process has one connection of ours."""
    found: dict[int, Connection] = {}
    workers = psutil.Process(host.process.pid).children()
    while len(found) < len(workers):
        connection = Connection(host.url)
        port = connection.local_port()
        for worker in workers:
            if any(each.raddr and each.raddr.port == port for each in worker.net_connections("tcp")):
                found.setdefault(worker.pid, connection)
    return list(found.values())


class Revoker(threading.Thread):
    """Takes tokens one by one through their life, and notes how long each worker still accepted it."""

    def __init__(self, installation: Installation, client: dict[str, str], tokens: int, seed: int) -> None:
        super().__init__()
        self._installation, self._client, self._tokens = installation, client, tokens
        self._chance = random.Random(seed)  # noqa: S311 - when to revoke is no secret
        self.delays: list[float] = []
        self.accepted: list[float] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            workers = self._installation.connections()
            with requests.Session() as session:
                session.trust_env = False
                for _ in range(self._tokens):
                    self._live_and_die(session, workers)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for this thread
            self.failure = error

    def _live_and_die(self, session: requests.Session, workers: Sequence[Connection]) -> None:
        ask = {"grant_type": "client_credentials", "scope": "read", **self._client}
        issuer, revoker = (self._chance.choice(self._installation.issuers) for _ in range(2))
        token = session.post(f"{issuer}/oauth/token", ask, timeout=10).json()["access_token"]
        for worker in itertools.chain(workers, workers):  # the second time from what it remembers
            if (status := worker.status(token)) != requests.codes.ok:
                raise Failed(f"a living token was answered {status}")
        time.sleep(self._chance.uniform(0, 1))
        form = {"token": token, **self._client}
        session.post(f"{revoker}/oauth/revoke", form, timeout=10).raise_for_status()
        revoked_at = time.monotonic()
        waiting = list(workers)
        while waiting:
            for worker in list(waiting):
                asked_at = time.monotonic()
                status = worker.status(token)
                if status == requests.codes.unauthorized:
                    waiting.remove(worker)
                    # It refused no later than now, and no earlier than when it was asked.
                    self.delays.append(time.monotonic() - revoked_at)
                elif status != requests.codes.ok or asked_at - revoked_at > GIVE_UP:
                    raise Failed(f"{asked_at - revoked_at:.1f} s after its revocation a token was answered {status}")
                else:
                    self.accepted.append(asked_at - revoked_at)
            time.sleep(PAUSE)


def measure(stack: Stack, validation: str, revocations: int, threads: int) -> tuple[list[float], float]:
    """The delays of all revocations at all workers, and how long after one a request began that was still accepted.

    In seconds. The latter is free of how long the machine then takes to answer. Raises Failed.
    """
    installation = Installation(stack, validation)
    token_format = "jwt" if validation == "jwt" else "opaque"
    options = ("--scope", "read", "--audience", RESOURCE, "--access-token-format", token_format)
    client = json.loads(stack.run("client", "create", f"service-a-{secrets.token_hex(4)}", *options))
    revokers = [Revoker(installation, client, -(-revocations // threads), seed) for seed in range(threads)]
    for revoker in revokers:
        revoker.start()
    for revoker in revokers:
        revoker.join()
        if revoker.failure:
            raise revoker.failure
    accepted = max((each for revoker in revokers for each in revoker.accepted), default=0.0)
    return sorted(delay for revoker in revokers for delay in revoker.delays), accepted


def main() -> int:
    """Start everything, measure, print, stop everything."""
    parser = argparse.ArgumentParser(prog="scripts/revocation_delay.sh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--revocations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=16, help="tokens that live at the same time")
    parser.add_argument("--validation", choices=("introspect", "jwt"), default="introspect")
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="authserver-delay-") as directory, Stack(Path(directory)) as stack:
        delays, accepted = measure(stack, options.validation, options.revocations, options.threads)
    figures = {
        "delays": len(delays),
        "p50": round(statistics.median(delays), 3),
        "p99": round(delays[int(len(delays) * 0.99)], 3),
        "max": round(delays[-1], 3),
        "last_accepted": round(accepted, 3),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(
            f"{options.validation}: " + ", ".join(f"{name} {value}" for name, value in figures.items()) + " (seconds)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
