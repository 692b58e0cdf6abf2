"""A whole installation on this machine: PostgreSQL, the schema, the authorization server and the resource server."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import requests

from authserver.dev.postgres import EmbeddedPostgres, private_log

_PATIENCE = 30.0  # seconds for a server to answer
RESOURCE = "http://service-b.test"
SCOPE = "read"


class DidNotStart(Exception):
    """A server ended or did not answer in time; the message ends with its log."""


def free_port() -> int:
    """A TCP port that was free on the loopback interface a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server process that logs into a file."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path, url: str) -> None:
        self.url, self._log = url, log
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("AUTHSERVER_", "OAUTH2_", "RESOURCE_SERVER_"))
        }
        with private_log(log) as output:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                [sys.executable, "-m", *command],
                env=clean | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when /ready answers 200. Raises DidNotStart."""
        deadline = time.monotonic() + _PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/ready", timeout=1).status_code == requests.codes.ok:
                    return
            time.sleep(0.05)
        raise DidNotStart(self._log.read_text(encoding="utf-8", errors="replace")[-3000:])

    def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        self.process.terminate()
        self.process.wait()


class Stack:
    """The installation, in one directory. A context manager: leaving it stops everything."""

    def __init__(self, directory: Path, *, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        """Choose where; start nothing yet. `environment` adds to the authorization server's settings."""
        self.directory = directory
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.issuer = f"http://127.0.0.1:{port or free_port()}"
        self.initial_access_token = secrets.token_urlsafe(32)
        self.servers: list[Server] = []
        self.environment = {
            "AUTHSERVER_DATABASE_URL": self.postgres.url(),
            "AUTHSERVER_ISSUER": self.issuer,
            "AUTHSERVER_BIND": self.issuer.removeprefix("http://"),
            "AUTHSERVER_INITIAL_ACCESS_TOKEN": self.initial_access_token,
            "AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32),
            **(environment or {}),
        }

    def start(self) -> None:
        """Start PostgreSQL, bring the schema up to date, and start the authorization server."""
        self.postgres.start()
        for command in ("migrate", "maintain"):
            self.run(command)
        self._serve(["authserver", "serve"], self.environment, self.issuer)

    def run(self, *arguments: str) -> str:
        """Run an `authserver` command; give what it printed. Raises subprocess.CalledProcessError."""
        command = [sys.executable, "-m", "authserver", *arguments]
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ours

    def start_resource_server(self, client_id: str, client_secret: str, *, port: int = 0) -> str:
        """Start the example resource server as this client; give its URL."""
        url = f"http://127.0.0.1:{port or free_port()}"
        environment = {
            "RESOURCE_SERVER_BIND": url.removeprefix("http://"),
            "OAUTH2_INTROSPECT_URL": f"{self.issuer}/oauth/introspect",
            "OAUTH2_AUTHORIZATION_SERVER": self.issuer,
            "OAUTH2_CLIENT_ID": client_id,
            "OAUTH2_CLIENT_SECRET": client_secret,
            "OAUTH2_RESOURCE": RESOURCE,
            "REQUIRED_SCOPE": SCOPE,
        }
        return self._serve(["resource_server"], environment, url)

    def _serve(self, command: list[str], environment: Mapping[str, str], url: str) -> str:
        server = Server(command, environment, self.directory / f"{command[0]}.log", url)
        self.servers.append(server)
        server.wait_until_ready()
        return url

    def stop(self) -> None:
        """Stop everything, the last started first."""
        for server in reversed(self.servers):
            server.stop()
        self.postgres.stop()

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()
