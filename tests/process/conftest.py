"""Real gunicorn processes, and what the tests need to use and to watch them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import logging
import os
import secrets
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import gunicorn.config
import gunicorn.sock
import psutil
import psycopg
import pytest
import requests
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from authserver.dev.postgres import EmbeddedPostgres
from authserver.dev.stack import Server, free_port
from authserver.migrate import migrate, read_migrations
from authserver.store.database import Database
from authserver.store.schema_migrations import SchemaMigrations
from authserver.worker import Worker

INITIAL_ACCESS_TOKEN = "initial-access-token-of-the-process-tests-0123456789"
PATIENCE = 30.0  # seconds; a limit, never a pace
# What `authserver serve` becomes, without half a second of imports before it does. The command itself starts the
# servers of every Stack and those of test_bad_configuration.py.
SERVE = ("gunicorn", "-c", str(files("authserver") / "gunicorn_conf.py"))


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a condition: `wait_until(lambda: ..., "what is awaited")`."""
    return _wait_until


def _wait_until(condition: Callable[[], object], what: str, limit: float = PATIENCE) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit} s in vain: {what}"
        time.sleep(0.01)


@pytest.fixture
def paused() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Let a process stand still: `with paused(pid): ...`.

    SIGSTOP is sent before it is obeyed: a thread that runs on another processor may go on for a moment, and accept a
    connection that it then does not answer.
    """

    @contextlib.contextmanager
    def paused(process: int) -> Iterator[None]:
        def stands() -> bool:
            stats = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/stat")]
            return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)

        os.kill(process, signal.SIGSTOP)
        try:
            _wait_until(stands, "the process to stand still")
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    return paused


def new_session() -> requests.Session:
    """A keep-alive session that no proxy variable of the machine diverts."""
    session = requests.Session()
    session.trust_env = False
    return session


@dataclass
class Party:
    """A registered client at one server."""

    url: str
    client_id: str
    secret: str = field(repr=False)

    def post(self, path: str, session: requests.Session | None = None, **form: str) -> requests.Response:
        """POST a form as this client, `session` or a connection of its own."""
        with contextlib.ExitStack() as stack:
            session = session or stack.enter_context(new_session())
            form = {"client_id": self.client_id, "client_secret": self.secret, **form}
            return session.post(f"{self.url}/oauth/{path}", form, timeout=PATIENCE)

    def token(self, session: requests.Session | None = None) -> requests.Response:
        return self.post("token", session, grant_type="client_credentials")

    def introspect(self, token: str, session: requests.Session | None = None) -> requests.Response:
        return self.post("introspect", session, token=token)

    def revoke(self, token: str, session: requests.Session | None = None) -> requests.Response:
        return self.post("revoke", session, token=token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()

    def raw(self, path: str, form: str, head: str = "", length: int | None = None) -> bytes:
        """The bytes of a request, to be sent in whatever way."""
        announced = f"Content-Length: {len(form) if length is None else length}\r\n" if length != -1 else ""
        return (
            f"POST /oauth/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {self.basic}\r\n{announced}{head}"
            f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
        ).encode()


class Gunicorn(Server):
    """A server process of ours with its log."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, url: str) -> None:
        super().__init__(command, environment, log, url)
        self.log = log

    def register(self, **document: Any) -> Party:
        """Register a client over HTTP; one that proves itself by a key has an empty secret."""
        answer = requests.post(
            f"{self.url}/clients/register",
            headers={"Authorization": f"Bearer {INITIAL_ACCESS_TOKEN}"},
            json={"scope": "read", **document},
            timeout=PATIENCE,
        )
        assert answer.status_code == 201, answer.text
        return Party(self.url, answer.json()["client_id"], answer.json().get("client_secret", ""))

    def workers(self) -> set[int]:
        """The process ids of the workers."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def successor(self) -> psutil.Process | None:
        """The master that USR2 has started, once it has a worker."""
        return next((child for child in psutil.Process(self.process.pid).children() if child.children()), None)

    def end(self) -> None:
        """Wait until it has stopped, as it was told to."""
        self.process.wait(PATIENCE)

    def connect(self) -> socket.socket:
        """A plain connection to it."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def start_gunicorn(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: str
) -> Iterator[Callable[..., Gunicorn]]:
    """Start servers that end with the module: `start_gunicorn(serving_url, THREADS="4")`."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        # Another module's: a server that cannot decrypt the signing key never gets ready.
        connection.execute("DELETE FROM signing_keys")
    servers: list[Gunicorn] = []
    directory = tmp_path_factory.mktemp("gunicorn")

    def start(
        database_url: str,
        *,
        arguments: tuple[str, ...] = SERVE,
        ready: bool = True,
        **settings: str,
    ) -> Gunicorn:
        # Unless there is nothing to connect to.
        assert conninfo_to_dict(database_url).get("user") in ("authserver_app", None), "servers may only serve"
        url = f"http://127.0.0.1:{free_port()}"
        environment = {
            "AUTHSERVER_DATABASE_URL": database_url,
            "AUTHSERVER_ISSUER": "https://as.example",
            "AUTHSERVER_BIND": url.removeprefix("http://"),
            "AUTHSERVER_INITIAL_ACCESS_TOKEN": INITIAL_ACCESS_TOKEN,
            "AUTHSERVER_WORKERS": "1",
            "PYTHONSAFEPATH": "1",
            **{f"AUTHSERVER_{name}": value for name, value in settings.items()},
        }
        server = Gunicorn([*arguments], environment, directory / f"{len(servers)}.log", url)
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.process.terminate()
    for server in servers:
        server.end()


@pytest.fixture
def make_worker() -> Iterator[Callable[..., Worker]]:
    """Workers in this process, with no threads: the main thread watches. `make_worker(reuse_port=True)`."""

    def see_clients_off(worker: Worker) -> None:
        while worker.nr_conns:
            worker.wait_for_and_dispatch_events(1.0)

    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> Worker:
            config = gunicorn.config.Config()
            config.set("bind", f"127.0.0.1:{free_port()}")
            config.settings["threads"].value = 0
            for name, value in settings.items():
                config.set(name, value)
            log = logging.getLogger("test")
            [listener] = gunicorn.sock.create_sockets(config, log)
            stack.callback(listener.close)
            worker = Worker(1, os.getpid(), [listener], None, 30, config, log)
            stack.callback(worker.give_back_place)
            worker.method_queue.init()
            stack.callback(worker.method_queue.close)
            stack.callback(worker.tmp.close)
            worker.poller = stack.enter_context(selectors.DefaultSelector())
            worker.tpool = worker.get_thread_pool()
            worker.poller.register(
                worker.method_queue.fileno(), selectors.EVENT_READ, worker.method_queue.run_callbacks
            )
            worker.set_accept_enabled(True)
            worker.wait_for_and_dispatch_events(1.0)
            stack.callback(see_clients_off, worker)
            return worker

        yield make


class Load:
    """Threads that each repeat an act; an act that raises ends its thread and is a failure of the test."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.failures: list[BaseException] = []
        self.stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def start(self, act: Callable[[requests.Session], None], threads: int) -> None:
        for _ in range(threads):
            thread = threading.Thread(target=self._repeat, args=(act,))
            self._threads.append(thread)
            thread.start()

    def _repeat(self, act: Callable[[requests.Session], None]) -> None:
        with new_session() as session:
            while not self.stopped.is_set():
                try:
                    act(session)
                except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                    self.failures.append(error)
                    return

    def end(self) -> None:
        """Stop, and raise the first failure."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]


@pytest.fixture
def load() -> Iterator[Load]:
    load = Load()
    yield load
    load.stopped.set()
    for thread in load._threads:
        thread.join(PATIENCE)


class WireCounter:
    """A proxy on a Unix socket in front of PostgreSQL that counts round trips.

    A client waits for the server after each Sync and each simple Query message, and after nothing else.
    """

    def __init__(self, conninfo: str) -> None:
        self.round_trips = 0
        self._upstream = conninfo_to_dict(conninfo)
        self._directory = Path(tempfile.mkdtemp(prefix="wire-"))  # short: a socket's path may have 107 bytes
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self.conninfo = make_conninfo(conninfo, host=str(self._directory), port=5432, hostaddr=None)
        self._run(self._accept)

    def _run(self, act: Callable[..., None], *arguments: Any) -> None:
        def quietly() -> None:
            with contextlib.suppress(OSError):
                act(*arguments)

        thread = threading.Thread(target=quietly)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = self._connect()
            self._sockets += [client, server]
            self._run(self._forward, client, server)
            self._run(self._pump, server, client)

    def _connect(self) -> socket.socket:
        host, port = str(self._upstream["host"]), int(self._upstream.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """From client to server, message by message: the first has no type byte."""
        with client.makefile("rb") as stream:
            kind = b""
            while len(length := stream.read(4)) == 4:
                body = stream.read(struct.unpack("!I", length)[0] - 4)
                self.round_trips += kind in (b"S", b"Q")
                server.sendall(kind + length + body)
                kind = stream.read(1)
        server.shutdown(socket.SHUT_WR)

    @staticmethod
    def _pump(server: socket.socket, client: socket.socket) -> None:
        while data := server.recv(65536):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in self._sockets:
            each.close()
        shutil.rmtree(self._directory)


class Witness:
    """Does what clients do, knows what each answer must be, and remembers what was acknowledged."""

    def __init__(self, party: Party, load: Load) -> None:
        self.party, self.load = party, load
        self.live: list[str] = []
        self.revoked: list[str] = []
        self.last_away = 0.0

    def answered(self, response: requests.Response, right: int = 200) -> bool:
        """Whether the answer is the right one; 503 is allowed, anything else is not."""
        self.load.count(str(response.status_code))
        if response.status_code == requests.codes.unavailable:
            assert response.headers["Retry-After"]
            assert response.json()["error"] == "temporarily_unavailable"
            assert "active" not in response.text
            self.last_away = time.monotonic()
            return False
        assert response.status_code == right, response.text
        return True

    def act(self, session: requests.Session) -> None:
        party = self.party
        wrong = party.post("introspect", session, token="x", client_secret="ascs_wrong")
        if wrong.status_code != requests.codes.too_many_requests:  # so many failures are throttled
            self.answered(wrong, 401)
        if not self.answered(issued := party.token(session)):
            return
        token = issued.json()["access_token"]
        self.expect(token, session, active=True)
        if secrets.randbelow(2):
            self.live.append(token)
        elif self.answered(party.revoke(token, session)):
            self.revoked.append(token)
            self.expect(token, session, active=False)

    def expect(self, token: str, session: requests.Session | None, *, active: bool) -> None:
        if self.answered(answer := self.party.introspect(token, session)):
            assert answer.json()["active"] is active

    def check_everything(self) -> None:
        """Nothing that was acknowledged is lost. A sample of the live ones will do: there may be thousands."""
        with new_session() as session:
            for token in self.revoked:
                assert self.party.introspect(token, session).json() == {"active": False}
            for token in self.live[-200:]:
                assert self.party.introspect(token, session).json()["active"] is True


@pytest.fixture
def make_witness(load: Load) -> Callable[[Party], Witness]:
    """Make one of a client: `make_witness(server.register())`."""
    return lambda party: Witness(party, load)


@pytest.fixture(scope="module")
def make_postgres(
    tmp_path_factory: pytest.TempPathFactory, give_roles: Callable[[EmbeddedPostgres], Callable[[str], str]]
) -> Iterator[Callable[..., tuple[EmbeddedPostgres, Callable[[str], str]]]]:
    """Start a durable server that a test may harm: `make_postgres(max_connections="20")`; its URLs by role.

    It has the schema; tokens go to the default partition. `prepare` gets it before it starts.
    """
    servers: list[EmbeddedPostgres] = []

    def make(
        prepare: Callable[[EmbeddedPostgres], None] = lambda _server: None, **settings: str
    ) -> tuple[EmbeddedPostgres, Callable[[str], str]]:
        server = EmbeddedPostgres(tmp_path_factory.mktemp("own"), settings)
        servers.append(server)
        prepare(server)
        server.start()
        url = give_roles(server)
        database = Database(url("authserver_owner"), patient=True)
        migrate(SchemaMigrations(database), read_migrations(), lambda _line: None)
        database.close()
        return server, url

    yield make
    for server in servers:
        server.stop()


class Spare(EmbeddedPostgres):
    """A server that gets its data from another one."""

    def take_base_backup(self, primary: EmbeddedPostgres) -> None:
        """Copy the data of a server that runs."""
        binaries = self._programs.find()
        if not (binaries / "pg_basebackup").exists():
            pytest.skip("the user that PostgreSQL runs as cannot enter where pg_basebackup is")
        source = ["-h", str(primary.home), "-U", "postgres", "-c", "fast"]
        self._run([str(binaries / "pg_basebackup"), *source, "-D", str(self.data)])

    def start_with(self, signal_file: str, **settings: str) -> None:
        """Start on that copy, as what the file says, until it can be asked."""
        self._run(["touch", str(self.data / signal_file)])
        self._settings = settings
        self.start()

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, check=True, **self._programs.arguments(subprocess.DEVNULL))


@pytest.fixture
def spare(tmp_path: Path) -> Iterator[Spare]:
    """A server without data, which does not run yet."""
    server = Spare(tmp_path / "spare")
    yield server
    server.stop()


@pytest.fixture
def wire(database_url: str, serving_url: str) -> Iterator[WireCounter]:
    """A proxy in front of an empty database, for the role that serves."""
    counter = WireCounter(serving_url)
    yield counter
    counter.close()


@pytest.fixture
def backends() -> Callable[[str], set[int]]:
    """The backend processes that serve the authorization server in a database."""

    def find(url: str) -> set[int]:
        with psycopg.connect(url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'authserver' AND datname = current_database()"
            ).fetchall()
        return {pid for (pid,) in rows}

    return find


@pytest.fixture
def unknown_token() -> Callable[[], str]:
    """A token of the right shape that nobody issued, good for an hour."""
    numbers = itertools.count()
    return lambda: f"asat_{int(time.time()) + 3600 + next(numbers):08x}{secrets.token_urlsafe(32)}"
