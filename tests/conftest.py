"""A real PostgreSQL for the whole run, and an authorization server on it for each test."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import secrets
import ssl
import subprocess
import sys
import threading
import time
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from authserver.app import create_app
from authserver.dev.postgres import EmbeddedPostgres
from authserver.flows.maintain import HOUR, maintain
from authserver.flows.register import NewClient, create_client
from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.migrate import migrate, read_migrations
from authserver.oauth.credentials import hash_credential
from authserver.oauth.registration import ClientMetadata
from authserver.store.database import Database
from authserver.store.partitions import PARTITIONED_TABLES, partitioned_tables
from authserver.store.schema_migrations import SchemaMigrations

with warnings.catch_warnings():
    # webtest imports the standard library's cgi, which warns on 3.11 and 3.12.
    warnings.simplefilter("ignore", DeprecationWarning)
    import webtest

ISSUER = "https://as.example"
RESOURCE = "https://b.example"
INITIAL_ACCESS_TOKEN = "initial-access-token-of-the-tests-0123456789"
_numbers = itertools.count()


# Whoever operates and whoever serves, as in an installation (sql/roles.sql); and an owner that is neither of them.
OWNER, APP, OTHER_OWNER = "authserver_owner", "authserver_app", "authserver_test_owner"


def make_roles(administrator: str, password: str) -> None:
    """Make the roles on a server that has them not."""
    with psycopg.connect(administrator, autocommit=True) as connection:
        # Another run may be making them on the same server at this instant.
        connection.execute("SELECT pg_advisory_lock(1)")
        there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        for role in (OWNER, APP, OTHER_OWNER):
            connection.execute(f"{'ALTER' if role in there else 'CREATE'} ROLE {role} LOGIN PASSWORD '{password}'")  # type: ignore[arg-type] # a constant


@pytest.fixture(scope="session", autouse=True)
def outside() -> Iterator[dict[str, str]]:
    """The environment as it was, for what asks a package index.

    All else trusts none of the machine's certificate authorities: nothing here is theirs, and each server that a test
    makes and each process that it starts would take 50 ms to read them.
    """
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield before


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Give the superuser's connection string of a database by name, on an embedded server or on TEST_POSTGRES_URL.

    For what takes one, such as making databases; all else is done by `as_role`.
    """
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield lambda name: make_conninfo(given, dbname=name)
        return
    # Not durable: a test that kills the server starts one of its own.
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "log_connections": "on"}
    directory = tmp_path_factory.mktemp("postgres") / "data"
    with EmbeddedPostgres(directory, settings) as server:
        yield server.url
    # By this name the project's own code connects, in whatever process.
    connection = re.compile(r"authorized: user=postgres .*application_name=authserver$", re.MULTILINE)
    superusers = connection.findall((directory / "log").read_text())
    assert superusers == [], "it has connected as a superuser"


@pytest.fixture(scope="session")
def as_role(postgres: Callable[[str], str]) -> Callable[[str, str], str]:
    """The connection string of the same database for a role: `as_role(url, "authserver_app")`."""
    # Alike for all runs that share a server.
    password = hashlib.sha256(postgres("postgres").encode()).hexdigest()
    make_roles(postgres("postgres"), password)
    return lambda url, role: make_conninfo(url, user=role, password=password)


@pytest.fixture(scope="session")
def as_administrator(postgres: Callable[[str], str]) -> Callable[[str], str]:
    """The connection string of the same database for the superuser."""
    return lambda url: postgres(str(conninfo_to_dict(url)["dbname"]))


@pytest.fixture(scope="session")
def make_database(postgres: Callable[[str], str], as_role: Callable[[str, str], str]) -> Callable[..., str]:
    """Make an empty database; give its owner's connection string."""

    def make(owner: str = OWNER) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(postgres("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" OWNER {owner}')
        return as_role(postgres(name), owner)

    return make


@pytest.fixture(scope="session")
def migrated_database(make_database: Callable[..., str]) -> str:
    """The owner's connection string of one database with the schema, shared by the tests that empty it first."""
    url = make_database()
    database = Database(url, patient=True)
    migrate(SchemaMigrations(database), read_migrations(), lambda _line: None)

    maintain(partitioned_tables(database), int(time.time()), 6 * HOUR, lambda _line: None)
    database.close()
    return url


@pytest.fixture(scope="session")
def cleaner(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection for the whole run: a new one plans what it deletes from all those partitions anew."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_url(migrated_database: str, cleaner: psycopg.Connection[Any]) -> str:
    """The connection string of a database with the schema and no rows, for the role that an operator's commands use."""
    # Deleting a client leaves a revocation behind.
    tables = (
        "clients",
        "trusted_issuers",
        "initial_access_tokens",
        "signing_keys",
        "authentication_failures",
        "issued_tokens",
        *PARTITIONED_TABLES,
    )
    cleaner.execute("; ".join(f'DELETE FROM "{table}"' for table in tables))  # type: ignore[arg-type] # constants
    return migrated_database


@pytest.fixture(scope="session")
def serving_url(migrated_database: str, as_role: Callable[[str, str], str]) -> str:
    """The connection string of that database for the role that serves requests, which may do nothing else."""
    return as_role(migrated_database, APP)


@dataclass
class Clock:
    """A clock that moves when a test says so."""

    now: float

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """The tests' clock: it starts at the real time, for which there are partitions."""

    return Clock(float(int(time.time())))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database with the schema, as an operator uses it."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def serving_database(database_url: str, serving_url: str) -> Iterator[Database]:
    """The same empty database, as a server uses it."""
    database = Database(serving_url)
    yield database
    database.close()


@pytest.fixture
def policy() -> Policy:
    """The operator's decisions; a test module may override this fixture."""
    return Policy(
        issuer=ISSUER,
        initial_access_token_hash=hash_credential(INITIAL_ACCESS_TOKEN),
        failures_per_minute=1000,  # tests of other things fail to authenticate more often than one may
    )


@pytest.fixture
def server(policy: Policy, database: Database, clock: Clock) -> AuthorizationServer:
    """The operator's side."""
    return make_server(policy, database, clock=clock)


@pytest.fixture
def app(policy: Policy, serving_database: Database, clock: Clock) -> webtest.TestApp:
    """The front door of a process that has no rights but those of sql/roles.sql."""
    return webtest.TestApp(create_app(make_server(policy, serving_database, clock=clock)))


@pytest.fixture
def other_app(policy: Policy, serving_database: Database, clock: Clock) -> webtest.TestApp:
    """The front door of another process on the same database: its cache knows nothing of the first one's."""
    return webtest.TestApp(create_app(make_server(policy, serving_database, clock=clock)))


@dataclass
class Party:
    """A client with its secret, and the requests it makes."""

    client_id: str
    secret: str = field(repr=False)

    @property
    def basic(self) -> tuple[str, tuple[str, str]]:
        return ("Basic", (self.client_id, self.secret))

    @property
    def form(self) -> dict[str, str]:
        return {"client_id": self.client_id, "client_secret": self.secret}

    def token(self, app: webtest.TestApp, **parameters: Any) -> str:
        """Get an access token."""
        form = {"grant_type": "client_credentials", **self.form, **parameters}
        return str(app.post("/oauth/token", form).json["access_token"])

    def introspect(self, app: webtest.TestApp, token: str, **parameters: Any) -> dict[str, Any]:
        """Introspect a token."""
        answer: dict[str, Any] = app.post("/oauth/introspect", {"token": token, **self.form, **parameters}).json
        return answer

    def revoke(self, app: webtest.TestApp, token: str, **parameters: Any) -> webtest.TestResponse:
        """Revoke a token."""
        return app.post("/oauth/revoke", {"token": token, **self.form, **parameters})


@pytest.fixture
def make_client(server: AuthorizationServer) -> Callable[..., Party]:
    """Make a client as an operator does: `make_client("a", scopes=["read"], audiences=[...])`."""

    def make(client_id: str = "", *, share_resources: bool = False, **metadata: Any) -> Party:
        client_id = client_id or f"client-{secrets.token_hex(4)}"
        if "scopes" in metadata:
            metadata.setdefault("default_scopes", metadata["scopes"])
        made: NewClient = create_client(server, client_id, ClientMetadata(**metadata), share_resources=share_resources)
        assert made.secret is not None
        return Party(client_id, made.secret)

    return make


@pytest.fixture
def service_a(make_client: Callable[..., Party]) -> Party:
    """Service A: it gets tokens for service B, by default with the scope read."""
    return make_client("service-a", scopes=["read", "write"], default_scopes=["read"], audiences=[RESOURCE])


@pytest.fixture
def service_b(make_client: Callable[..., Party]) -> Party:
    """Service B: it introspects the tokens that are for it."""
    return make_client("service-b", grant_types=[], resource_identifiers=[RESOURCE])


class Signer:
    """A key pair, and the JWTs that it signs: also those that nobody should."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "k1") -> None:
        self.algorithm = algorithm
        generate = {"ES": lambda: ECKey.generate_key("P-256"), "Ed": lambda: OKPKey.generate_key("Ed25519")}
        self.key = generate.get(algorithm[:2], lambda: RSAKey.generate_key(2048))()
        self.kid = kid

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public key."""
        return {**self.key.as_dict(private=False), **({"kid": self.kid} if self.kid else {}), **members}

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk()]}

    def sign(self, claims: object, *, payload: bytes | None = None, **header: Any) -> str:
        """A JWS of the claims, or of the bytes as they stand. A header member of None is left out."""
        header = {"alg": self.algorithm, "kid": self.kid, **header}
        head = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
        signed = f"{segment(head)}.{segment(json.dumps(claims).encode() if payload is None else payload)}"
        signature = JWSRegistry.algorithms[self.algorithm].sign(signed.encode(), self.key)
        return f"{signed}.{segment(signature)}"


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def make_signer() -> Callable[..., Signer]:
    """Make a key pair: `make_signer("RS256", kid="k2")`."""
    return Signer


class Site(ThreadingHTTPServer):
    """A web server of somebody else on a real socket: `site.pages["/path"] = document, bytes, or what answers`."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.pages: dict[str, Any] = {}
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.port: int = self.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hosts.append(self.headers["Host"])
        page = self.server.pages.get(self.path)
        if callable(page):
            page(self)
            return
        body = page if isinstance(page, bytes) else json.dumps(page).encode()
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Start a web server: `make_site(tls_context)`."""
    sites: list[Site] = []

    def make(tls: ssl.SSLContext | None = None) -> Site:
        sites.append(Site(tls))
        return sites[-1]

    yield make
    for site in sites:
        site.end()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A web server without TLS."""
    return make_site()


@pytest.fixture(scope="session")
def give_roles() -> Callable[[EmbeddedPostgres], Callable[[str], str]]:
    """Make the roles on a server of a test's own, whose database is then the owner's; gives its URL by role."""

    def give(server: EmbeddedPostgres) -> Callable[[str], str]:
        make_roles(server.url(), secrets.token_hex(16))
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE postgres OWNER TO {OWNER}")
        return lambda role: server.url(user=role)

    return give


@pytest.fixture(scope="session")
def run_forked(
    tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run a program in a process of its own that need not import everything (see warm.py).

    `run_forked("authserver", arguments, environment, typed)`; or "gunicorn".
    """
    files = [tmp_path_factory.mktemp("command") / name for name in ("in", "out", "err")]
    command = [sys.executable, str(Path(__file__).with_name("warm.py").resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=repository) as warm:
        assert warm.stdin
        assert warm.stdout

        def run(
            program: str, arguments: Sequence[str], environment: dict[str, str], typed: str = ""
        ) -> subprocess.CompletedProcess[str]:
            for file, text in zip(files, (typed, "", ""), strict=True):
                file.write_text(text, encoding="utf-8")
            line = {"program": program, "arguments": arguments, "environment": environment}
            print(json.dumps(line | {"files": [str(file) for file in files]}), file=warm.stdin, flush=True)
            status = int(warm.stdout.readline())
            _, out, err = (file.read_text(encoding="utf-8") for file in files)
            return subprocess.CompletedProcess([program, *arguments], status, out, err)

        yield run
        warm.stdin.close()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
