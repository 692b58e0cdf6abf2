"""Measure introspection and token issuance, in both formats, against an empty endpoint: `scripts/bench.sh`.

All run under the same gunicorn configuration, in production's way: access log on, to a file; PostgreSQL durable.
Rounds alternate between them, so that what else the machine does falls on each alike; a ratio is formed within a round.
AUTHSERVER_WORKERS and AUTHSERVER_THREADS are taken from the environment.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import falcon
import psycopg
import requests

from authserver.dev.stack import RESOURCE, SCOPE, Server, Stack, free_port

TOKENS = 500
CALLERS = 100
_STATUS_OK = b"HTTP/1.1 200"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Failed(Exception):
    """A measurement is worth nothing: some answers were not 200."""


# The ceiling


class Empty:
    """The least that an endpoint can do."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"{}"


def empty_app() -> falcon.App[falcon.Request, falcon.Response]:
    """An application that does nothing: what it reaches is what gunicorn and Falcon leave over."""
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    app.add_route("/", Empty())
    app.add_route("/ready", Empty())
    return app


# The load


class Load:
    """One kind of request to one URL: GET, with one bearer token after the other, or POST of one form after another."""

    def __init__(self, name: str, url: str, forms: Sequence[dict[str, str]] = (), tokens: Sequence[str] = ()) -> None:
        self.name, self.url = name, url
        self.bodies = [urlencode(form) for form in forms]
        self.tokens = tokens

    def requests(self) -> list[bytes]:
        """The bytes of each request."""
        parts = urlsplit(self.url)
        if not self.bodies:
            fields = [f"Authorization: Bearer {token}\r\n" for token in self.tokens] or [""]
            return [f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{field}\r\n".encode() for field in fields]
        return [
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            for body in self.bodies
        ]

    def lua(self) -> str:
        """The same for wrk."""
        if self.tokens:
            return (
                f"local tokens = {{{', '.join(f'[[{token}]]' for token in self.tokens)}}}\nlocal at = 0\n"
                "request = function()\n  at = at % #tokens + 1\n"
                '  return wrk.format(nil, nil, {Authorization = "Bearer " .. tokens[at]})\nend\n'
            )
        if not self.bodies:
            return ""
        return (
            'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/x-www-form-urlencoded"\n'
            f"local bodies = {{{', '.join(f'[[{body}]]' for body in self.bodies)}}}\nlocal at = 0\n"
            "request = function()\n  at = at % #bodies + 1\n  return wrk.format(nil, nil, nil, bodies[at])\nend\n"
        )


def wrk(load: Load, connections: int, seconds: float) -> float:
    """Requests per second, by wrk."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(load.lua())
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script.name, load.url]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - wrk and numbers
    found = re.search(r"Requests/sec: *([0-9.]+)", printed)
    if found is None or re.search(r"Non-2xx|Socket errors", printed):
        raise Failed(printed)
    return float(found[1])


def python_load(load: Load, connections: int, seconds: float) -> float:
    """Requests per second, by a process of Python: slower than wrk, and so it takes more from the server."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_generate, (load, connections, seconds))


def _generate(load: Load, connections: int, seconds: float) -> float:
    parts = urlsplit(load.url)
    made = load.requests()
    done = 0
    with selectors.DefaultSelector() as selector:
        for number in range(connections):
            sock = socket.create_connection((parts.hostname, parts.port or 80))
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(made[number % len(made)])
        start = time.monotonic()
        while (now := time.monotonic()) < start + seconds:
            for key, _ in selector.select(1):
                sock = key.fileobj  # type: ignore[assignment] # what was registered
                _read_answer(sock)
                done += 1
                sock.sendall(made[done % len(made)])
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr] # likewise
    return done / (now - start)


def _read_answer(sock: socket.socket) -> None:
    received = sock.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not received.startswith(_STATUS_OK) or length is None:
        raise Failed(received.decode(errors="replace"))
    missing = int(length[1]) - len(body)
    while missing > 0:
        missing -= len(sock.recv(65536))


# The run


def main() -> int:
    """Start everything, measure, print, stop everything."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--protected", action="store_true", help="measure the resource server, against its /public")
    parser.add_argument("--python-load", action="store_true", help="do without wrk")
    options = parser.parse_args()
    measure = python_load if options.python_load or not shutil.which("wrk") else wrk
    with tempfile.TemporaryDirectory(prefix="authserver-bench-") as directory:
        shared = {name: os.environ[name] for name in ("AUTHSERVER_WORKERS", "AUTHSERVER_THREADS") if name in os.environ}
        with Stack(Path(directory), environment=shared) as stack:
            loads = prepare_protected(stack) if options.protected else [start_ceiling(stack), *prepare(stack)]
            describe(stack, measure, options)
            try:
                report(loads, run(loads, lambda load, s: measure(load, options.connections, s), options))
            except Failed as failed:
                print(f"FAILED: not all answers were 200\n{failed}", file=sys.stderr)
                return 1
    return 0


def start_ceiling(stack: Stack) -> Load:
    """Start the empty application under the same configuration."""
    url = f"http://127.0.0.1:{free_port()}"
    command = ["gunicorn", "-c", "python:authserver.gunicorn_conf", "--chdir", str(Path(__file__).parent)]
    settings = stack.serving | {"AUTHSERVER_BIND": url.removeprefix("http://")}
    server = Server([*command, "bench:empty_app()"], settings, stack.directory / "empty.log", url)
    stack.servers.append(server)
    server.wait_until_ready()
    return Load("empty endpoint", f"{url}/")


def prepare(stack: Stack) -> list[Load]:
    """Register a client for each format and get the tokens to introspect."""
    loads = []
    for token_format in ("opaque", "jwt"):
        document = {"scope": "read write", "default_scope": "read", "audiences": [RESOURCE]}
        answer = requests.post(
            f"{stack.issuer}/clients/register",
            headers={"Authorization": f"Bearer {stack.initial_access_token}"},
            json=document | {"access_token_format": token_format},
            timeout=10,
        )
        answer.raise_for_status()
        credential = {name: answer.json()[name] for name in ("client_id", "client_secret")}
        ask = {"grant_type": "client_credentials", "scope": "read", **credential}
        forms = [{"token": token, **credential} for token in get_tokens(stack, ask, TOKENS)]
        loads += [
            Load(f"introspect, {token_format}", f"{stack.issuer}/oauth/introspect", forms),
            Load(f"token, {token_format}", f"{stack.issuer}/oauth/token", [ask]),
        ]
    return loads


def prepare_protected(stack: Stack) -> list[Load]:
    """The example resource server in its modes, with the tokens of 100 callers."""
    options = ("--no-grant", "--resource", RESOURCE, "--permission", "revocations:read")
    service_b = json.loads(stack.run("client", "create", "service-b", *options))
    feed = {"OAUTH2_REVOCATIONS_URL": f"{stack.issuer}/oauth/revocations"}
    modes = {
        "introspect each time": ("opaque", {}),
        "cached, with feed": ("opaque", feed),
        "JWT, with feed": ("jwt", feed | {"OAUTH2_VALIDATION": "jwt", "OAUTH2_ISSUER": stack.issuer}),
    }
    loads: list[Load] = []
    for name, (token_format, settings) in modes.items():
        url = stack.start_resource_server(service_b["client_id"], service_b["client_secret"], environment=settings)
        client = json.loads(
            stack.run(
                *("client", "create", name.replace(" ", "-"), "--scope", SCOPE, "--audience", RESOURCE),
                *("--token-format", token_format),
            )
        )
        tokens = get_tokens(stack, {"grant_type": "client_credentials", **client}, CALLERS)
        if not loads:
            loads.append(Load("/public", f"{url}/public"))
        loads.append(Load(name, f"{url}/protected", tokens=tokens))
    return loads


def get_tokens(stack: Stack, ask: dict[str, str], number: int) -> list[str]:
    """So many access tokens."""
    with requests.Session() as session:
        return [
            str(session.post(f"{stack.issuer}/oauth/token", ask, timeout=10).json()["access_token"])
            for _ in range(number)
        ]


def run(
    loads: Sequence[Load], measure: Callable[[Load, float], float], options: argparse.Namespace
) -> list[list[float]]:
    """Requests per second by round and load. The first round warms up and does not count."""
    for load in loads:
        measure(load, 1)
    return [[measure(load, options.seconds) for load in loads] for _ in range(options.rounds)]


def describe(stack: Stack, measure: Callable[..., float], options: argparse.Namespace) -> None:
    """What was measured on what."""
    with psycopg.connect(stack.postgres.url()) as connection:
        server = connection.info.server_version // 10000
    cpus = len(os.sched_getaffinity(0))
    workers, threads = (os.environ.get(f"AUTHSERVER_{name}", "default") for name in ("WORKERS", "THREADS"))
    print(
        f"{cpus} CPUs, {platform.system()} {platform.machine()}; Python {platform.python_version()}, "
        f"gunicorn {version('gunicorn')}, falcon {version('falcon')}, psycopg {version('psycopg')}, "
        f"PostgreSQL {server}\n"
        f"workers {workers}, threads {threads}; access log to a file; load: {measure.__name__}, "
        f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s\n",
        flush=True,
    )


def report(loads: Sequence[Load], rounds: Sequence[Sequence[float]]) -> None:
    """A row for each load: medians, and from the least to the most."""
    print(f"{'':20}{'requests/s':>12}{'min-max':>16}{'of ceiling':>12}{'min-max':>14}")
    for at, load in enumerate(loads):
        rates = [each[at] for each in rounds]
        ratios = [each[at] / each[0] for each in rounds]
        print(
            f"{load.name:20}{statistics.median(rates):12.0f}{f'{min(rates):.0f}-{max(rates):.0f}':>16}"
            f"{statistics.median(ratios):12.2f}{f'{min(ratios):.2f}-{max(ratios):.2f}':>14}"
        )


if __name__ == "__main__":
    sys.exit(main())
