"""A stand-in authorization server on a real socket, scripted by the test, and the guard in front."""

import base64
import hashlib
import json
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc.jwk import JWKRegistry
from joserfc.jws import JWSRegistry

from resource_server.app import create_app
from resource_server.config import Config

with warnings.catch_warnings():
    # webob imports cgi, which Python 3.11 deprecates; imported here first, it is quiet everywhere
    warnings.simplefilter("ignore", DeprecationWarning)
    import webtest

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Call:
    path: str
    form: dict[str, list[str]]
    authorization: str
    client: tuple[str, int]
    query: str = ""


@dataclass
class Upstream:
    """Answers for known `tokens` and `documents` (by path); `behaviours` are used up first, `behaviour` stays."""

    url: str = ""
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    documents: dict[str, Behaviour] = field(default_factory=dict)
    behaviour: Behaviour | None = None
    behaviours: list[Behaviour] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def knows(self, token: str, **facts: Any) -> str:
        self.tokens[token] = {"active": True, "scope": "read", "client_id": "c", "sub": "s"} | facts
        return token

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0)).decode()
        form = parse_qs(body)
        authorization = handler.headers.get("Authorization", "")
        path, _, query = handler.path.partition("?")
        self.calls.append(Call(path, form, authorization, handler.client_address, query))
        behaviour = self.behaviours.pop(0) if self.behaviours else self.behaviour
        if behaviour or path in self.documents:
            (behaviour or self.documents[path])(handler)
        else:
            reply(handler, 200, self.tokens.get(form.get("token", [""])[0], {"active": False}))


JWKS = "/.well-known/jwks.json"
KINDS = {"ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "EdDSA": ("OKP", "Ed25519"), "RS256": ("RSA", 2048)}


def base64url(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs access tokens (RFC 9068) and publishes its keys on the stand-in server."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream, self.url, self.keys = upstream, upstream.url, {}
        self.max_age = 300
        self.published: list[dict[str, Any]] = []
        upstream.documents[JWKS] = lambda handler: reply(
            handler, 200, {"keys": self.published}, Cache_Control=f"public, max-age={self.max_age}"
        )

    def add(self, kid: str, alg: str = "ES256") -> Any:
        key = self.keys[kid] = JWKRegistry.generate_key(*KINDS[alg])
        self.published.append({**key.as_dict(private=False), "kid": kid, "alg": alg, "use": "sig"})
        return key

    def remove(self, kid: str) -> None:
        self.published = [jwk for jwk in self.published if jwk["kid"] != kid]

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.url, "sub": "s", "client_id": "c", "aud": "https://me", "scope": "read"}
        claims |= {"iat": now, "exp": now + 600, "jti": secrets.token_hex(8)} | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def token(self, kid: str, alg: str = "ES256", header: dict[str, Any] | None = None, **changes: Any) -> str:
        return self.sign({"alg": alg, "typ": "at+jwt", "kid": kid} | (header or {}), self.claims(**changes), kid, alg)

    def sign(self, header: Any, claims: Any, kid: str, alg: str) -> str:
        text = f"{base64url(header)}.{base64url(claims)}"
        return f"{text}.{base64url(JWSRegistry.algorithms[alg].sign(text.encode(), self.keys[kid]))}"

    @property
    def fetches(self) -> int:
        return sum(call.path == JWKS for call in self.upstream.calls)


FEED = "/oauth/revocations"


@dataclass
class FeedScript:
    """The revocation feed of the stand-in server. Its cursors count the events."""

    epoch: str = "1"
    events: list[dict[str, Any]] = field(default_factory=list)
    behaviour: Behaviour | None = None
    page: int = 1000
    cursors: list[str | None] = field(default_factory=list)

    def revoke(self, token: str) -> None:
        token_hash = base64url(hashlib.sha256(token.encode()).digest()[:16])
        self.events.append({"type": "token", "hash": token_hash, "exp": 4_000_000_000})

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        if self.behaviour:
            self.behaviour(handler)
        else:
            query = parse_qs(handler.path.partition("?")[2])
            reply(handler, *self.answer(query.get("cursor", [None])[0]))

    def answer(self, cursor: str | None) -> tuple[int, dict[str, Any]]:
        self.cursors.append(cursor)
        if cursor not in {None, "0"} and str(cursor).partition(".")[0] != self.epoch:
            return 410, {"error": "gone"}
        start = len(self.events) if cursor is None else int(cursor.rpartition(".")[2])
        end = min(len(self.events), start + self.page)
        place = {"epoch": self.epoch, "cursor": f"{self.epoch}.{end}", "more": end < len(self.events)}
        return 200, place | {"poll_after": 0.2, "events": self.events[start:end]}


def reply(handler: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        """A client that hangs up is part of the tests."""


def serve(upstream: Upstream) -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            upstream.handle(self)

        def do_GET(self) -> None:
            upstream.handle(self)

        def log_message(self, *_args: Any) -> None:
            """Quiet."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        upstream.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield upstream
        finally:
            upstream.released.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    yield from serve(Upstream())


@pytest.fixture
def issuer(upstream: Upstream) -> Issuer:
    """An issuer with one key, `k1`."""
    issuer = Issuer(upstream)
    issuer.add("k1")
    return issuer


@pytest.fixture
def feed(upstream: Upstream) -> FeedScript:
    """A revocation feed on the stand-in server."""
    script = FeedScript()
    upstream.documents[FEED] = script.handle
    return script


@pytest.fixture
def b64() -> Callable[[Any], str]:
    return base64url


@pytest.fixture
def other_upstream() -> Iterator[Upstream]:
    yield from serve(Upstream())


@pytest.fixture
def answers() -> Any:
    """Makers of behaviours."""

    class Answers:
        @staticmethod
        def with_(status: int, body: Any = b"{}", **headers: str) -> Behaviour:
            return lambda handler: reply(handler, status, body, **headers)

        @staticmethod
        def hang(upstream: Upstream) -> Behaviour:
            return lambda _handler: upstream.released.wait(20) and None

        @staticmethod
        def dribble(upstream: Upstream, head: bytes, each: bytes) -> Behaviour:
            def behave(handler: BaseHTTPRequestHandler) -> None:
                handler.wfile.write(head)
                with suppress(OSError):
                    while not upstream.released.wait(0.05):
                        handler.wfile.write(each)

            return behave

        @staticmethod
        def hang_up() -> Behaviour:
            def behave(handler: BaseHTTPRequestHandler) -> None:
                handler.connection.shutdown(socket.SHUT_RDWR)
                handler.close_connection = True

            return behave

    return Answers


@pytest.fixture
def refused_url() -> Iterator[str]:
    """A port that is taken but not listened on: connecting is refused, and nobody else gets it meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def make_config(upstream: Upstream) -> Callable[..., Config]:
    def make(**changes: Any) -> Config:
        settings = {
            "introspect_url": f"{upstream.url}/oauth/introspect",
            "client_id": "resource server",
            "client_secret": "p:w+ü",
            "connect_timeout": 2,
            "read_timeout": 5,
            "deadline": 5,
        }
        return Config(**(settings | changes))

    return make


@pytest.fixture
def make_client(make_config: Callable[..., Config]) -> Callable[..., webtest.TestApp]:
    def make(**changes: Any) -> webtest.TestApp:
        return webtest.TestApp(create_app(make_config(**changes)))

    return make


@pytest.fixture
def jwt_client(make_client: Callable[..., webtest.TestApp], upstream: Upstream) -> webtest.TestApp:
    """The example service as it checks JWTs by itself."""
    return make_client(validation="jwt", issuer=upstream.url, resource="https://me")


@pytest.fixture
def client(make_client: Callable[..., webtest.TestApp]) -> webtest.TestApp:
    return make_client()


@pytest.fixture
def bearer() -> Callable[[str], dict[str, str]]:
    return lambda token: {"Authorization": f"Bearer {token}"}


@pytest.fixture
def basic_pair() -> Callable[[str], str]:
    return lambda authorization: base64.b64decode(authorization.removeprefix("Basic ")).decode()
