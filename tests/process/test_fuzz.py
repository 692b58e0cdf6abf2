"""Malformed and mutated requests on plain sockets: nothing that can be sent makes the server fail, hang or tell
secrets.

Every request follows from the seed and its number alone. `scripts/fuzz.sh 100000` makes more than the test suite does.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import re
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "3000"))
SEED = int(os.environ.get("FUZZ_SEED", "7662"))
PATIENCE = 20.0  # seconds; more than any request may take
CLIENTS = 8
PIECE = 12  # characters of a secret that would already help
INITIAL_ACCESS_TOKEN = "initial-access-token-of-the-process-tests-0123456789"
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
FORM = "application/x-www-form-urlencoded"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NASTY = (
    b"", b" ", b"\0", b"\xff\xfe", b"\xc3\xa4", b"\xed\xa0\x80", b"%", b"%0", b"%zz", b"%00", b"%ff", b"%u1234",
    b"&", b"=", b"+", b";", b",", b'"', b"'--", b"{}", b"../", b"\r", b"\n", b"\r\n", b"\t", b"-1", b"1e999",
    b"9" * 40, b"A" * 300, b"A" * 9000, b"a=b&" * 70, "\u202e\U0001f600".encode(), b"${jndi:ldap://x}", b"\x1b[31m",
    b"$(id)", b"<script>",
)  # fmt: skip
METHODS = (
    b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"QUERY", b"get",
    b"P\0ST", b"PRI", b"M" * 50, b"",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/9", b"http/1.1", b"HTTP/1.1 ", b"",
    b"HTTP/-1.1", b"ICY",
)  # fmt: skip
TARGETS = (
    b"*", b"/", b"//", b"http://x/oauth/token", b"http://[x/", b"x:80", b"/%00", b"/%ff", b"/oauth/../oauth/token",
    b"/oauth/token#f", b"/oauth/token%2f", b"/clients/register/%00", b"/clients/register/%ff%fe",
    b"/clients/register/a%2fb", b"/" + b"a" * 5000, b"/oauth/token?\xff", b"/\xc3\xa4", b"?",
    b"/oauth/revocations?cursor=%ff", b"/oauth/revocations?limit=99999999999999999999",
)  # fmt: skip
LENGTHS = (
    b"0", b"1", b"-1", b"+5", b"0x10", b"5 5", b"5,5", b"999999999999999999999", b"70000", b"", b"abc", b"1.5",
    "\u0665".encode(),
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"identity", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked, identity",
    b"xchunked", b"\x0bchunked", b"chunked;q=1", b"", b"chunked\0",
)  # fmt: skip
SIZES = (
    b"zz", b"-1", b"+5", b"0x5", b"", b" 5", b"5 ", b"5;a=b", b"5;" + b"e" * 5000, b"f" * 15, b"f" * 17,
    b"7fffffffffffffff", b"1", b"00000000000000005", b"5\0", b"\xff",
)  # fmt: skip
HEADERS = (
    b"Host: a\r\nHost: b", b"Expect: 100-continue", b"Expect: 200-maybe", b"Connection: close",
    b"Connection: keep-alive, upgrade", b"Upgrade: h2c", b"X: a\r\n b", b"No-Colon", b": empty", b"Sp ace: x",
    b"X\0: y", b"X: \0", b"X: " + b"y" * 9000, b"X:" * 3000, b"\r\n".join(b"X-%d: y" % n for n in range(80)),
    b"Content-Encoding: gzip", b"Trailer: Content-Length", b"Cookie: a=b",
    b"Accept: application/token-introspection+jwt", b"Accept: */*;q=x", b"Accept: ,;=", b"Accept: " + b"a/b," * 900,
    b"If-None-Match: \"", b"If-None-Match: *", b"If-None-Match: W/", b"X-Request-ID: " + b"\xff",
    b"X-Request-ID: " + b"a" * 65, b"X-Forwarded-Proto: https", b"X-Forwarded-For: \xff", b"Forwarded: for=\"",
    b"Range: bytes=0-", b"Date: yesterday", b"Content-Type: text/plain", b"Content-Type: \xff",
    b"Content-Type: application/x-www-form-urlencoded; charset=utf-16",
    b"Content-Type: multipart/form-data; boundary=", b"Transfer-Encoding",
)  # fmt: skip
DOCUMENTS = (
    b"{", b"[]", b"null", b'"x"', b"\xff", b"\xef\xbb\xbf{}", b"[" * 30000, b'{"a":' * 5000,
    b'{"scope": "\\ud800"}', b'{"scope": NaN}', b'{"client_name": "\\u0000"}', b'{"scope": 1e999}',
    b'{"client_id_issued_at": 1' + b"0" * 5000 + b"}", b'{"a": 1, "a": 2}', b'{"audiences": [["x"]]}',
    b'{"jwks": {"keys": [{}]}}', b'{"grant_types": "client_credentials"}', '{"scope": "read"}'.encode("utf-16"),
    b'{"permissions": ["introspect:any"]}', b'{"resource_identifiers": ["x:' + b"y" * 600 + b'"]}',
    b'{"access_token_format": {}}', b'{"token_endpoint_auth_method": []}',
)  # fmt: skip


@dataclass
class Fuzzer:
    """Requests by number. `secrets` are all that may not come to light, in the forms in which they are sent."""

    client_id: str
    secret: str = field(repr=False)
    registration: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def secrets(self) -> list[str]:
        return [
            self.secret,
            self.registration,
            self.token,
            INITIAL_ACCESS_TOKEN,
            self._basic(self.client_id, self.secret)[6:],
        ]

    def request(self, number: int) -> bytes:
        chance = random.Random(f"{SEED}:{number}")  # noqa: S311 - repeatable, not secret
        data = self._whole(chance)
        for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 5))):
            data = self._mutate(chance, data)
        return data

    def _whole(self, chance: random.Random) -> bytes:
        method, target, headers, body = chance.choice(
            (self._form, self._form, self._feed, self._registration, self._plain)
        )(chance)
        if chance.random() < 0.08:
            method = chance.choice(METHODS)
        if chance.random() < 0.08:
            target = chance.choice(TARGETS)
        version = chance.choice(VERSIONS) if chance.random() < 0.05 else b"HTTP/1.1"
        headers += chance.sample(HEADERS, chance.choice((0, 0, 0, 0, 0, 1, 3)))
        if body and chance.random() < 0.3:
            coding = chance.choice(CODINGS) if chance.random() < 0.4 else b"chunked"
            headers.append(b"Transfer-Encoding: " + coding)
            body = self._chunked(chance, body)
        if body and (chance.random() < 0.1 or not any(h.startswith(b"Transfer-Encoding: ") for h in headers)):
            headers.append(b"Content-Length: %d" % len(body))
        if chance.random() < 0.08:
            headers.append(b"Content-Length: " + chance.choice(LENGTHS))
        chance.shuffle(headers)
        return (
            b" ".join((method, target, version))
            + b"\r\nHost: x\r\n"
            + b"".join(h + b"\r\n" for h in headers)
            + b"\r\n"
            + body
        )

    def _form(self, chance: random.Random) -> tuple[bytes, bytes, list[bytes], bytes]:
        parameters: list[tuple[str | bytes, str | bytes]] = [
            ("grant_type", "client_credentials"), ("token", self.token), ("scope", "read"), ("resource", "https://b.example"),
            ("token_type_hint", "refresh_token"), ("cursor", "0"), ("limit", "5"),
            ("client_assertion", "e30.e30.e30"), ("client_assertion_type", ASSERTION),
        ]  # fmt: skip
        parameters = chance.sample(parameters[: chance.choice((7, 7, 7, 9))], chance.randint(1, 7))
        headers = [f"Content-Type: {FORM}".encode()]
        if chance.random() < 0.5:
            headers.append(b"Authorization: " + self._authorization(chance))
        else:
            parameters += [("client_id", self.client_id), ("client_secret", self.secret)]
        if chance.random() < 0.3:
            name = chance.choice(parameters)[0]
            parameters.append((name if chance.random() < 0.5 else chance.choice(NASTY), chance.choice(NASTY)))
        body = (
            urlencode(parameters).encode()
            if chance.random() < 0.7
            else b"&".join(raw(n) + b"=" + raw(v) for n, v in parameters)
        )
        path = chance.choice(("token", "introspect", "revoke", "revocations"))
        return b"POST", f"/oauth/{path}".encode(), headers, body

    def _feed(self, chance: random.Random) -> tuple[bytes, bytes, list[bytes], bytes]:
        query = urlencode({"cursor": chance.choice((b"0", *NASTY)), "limit": chance.choice((b"1", *NASTY))})
        return (
            b"GET",
            f"/oauth/revocations?{query}".encode()[:4000],
            [b"Authorization: " + self._authorization(chance)],
            b"",
        )

    def _registration(self, chance: random.Random) -> tuple[bytes, bytes, list[bytes], bytes]:
        document: dict[str, Any] = {
            "client_id": self.client_id,
            "scope": "read",
            "client_name": "x",
            "audiences": ["https://b.example"],
        }
        if chance.random() < 0.6:
            document[chance.choice([*document, "grant_types", "jwks", "x"])] = chance.choice(
                (None, True, 1, -1.5, "", "\0", "\ud800", "\u202e", [], [None], {}, {"a": []}, "x" * 300, ["x"] * 50)
            )
        body = chance.choice(DOCUMENTS) if chance.random() < 0.3 else json.dumps(document).encode()
        own = chance.random() < 0.6
        method = chance.choice((b"GET", b"PUT", b"PUT")) if own else b"POST"
        path = f"/clients/register/{self.client_id}" if own else "/clients/register"
        token = (self.registration if own else INITIAL_ACCESS_TOKEN).encode()
        scheme = chance.choice((b"Bearer ", b"Bearer ", b"Bearer ", b"bearer  ", b"Bearer", b"Basic ", b"Bearer\t"))
        bearer = scheme + (token if chance.random() < 0.8 else chance.choice(NASTY[:22]) + token[:20])
        kind = b"application/json" if chance.random() < 0.9 else chance.choice(NASTY[:20])
        return (
            method,
            path.encode(),
            [b"Authorization: " + bearer, b"Content-Type: " + kind],
            body if method != b"GET" else b"",
        )

    def _plain(self, chance: random.Random) -> tuple[bytes, bytes, list[bytes], bytes]:
        well_known = ("oauth-authorization-server", "openid-configuration", "jwks.json")
        paths = ("/health", "/ready", "/openapi.json", "/nothing", *(f"/.well-known/{name}" for name in well_known))
        return chance.choice(METHODS[:6]), chance.choice(paths).encode(), [], b""

    def _authorization(self, chance: random.Random) -> bytes:
        identifier, secret = self.client_id, self.secret
        odd = chance.choice(NASTY)[:3000]
        return chance.choice(
            (
                self._basic(identifier, secret).encode(),
                self._basic(identifier, secret).encode(),
                b"Basic " + base64.b64encode(identifier.encode() + b":" + odd),
                b"Basic " + base64.b64encode(odd + b":" + secret.encode()),
                b"Basic " + base64.b64encode(odd),
                b"Basic " + odd,
                b"Basic",
                b"basic  " + self._basic(identifier, secret)[6:].encode() + b"=",
                b"Digest " + odd,
                odd,
            )
        )  # fmt: skip

    @staticmethod
    def _basic(client_id: str, secret: str) -> str:
        return "Basic " + base64.b64encode(f"{quote(client_id)}:{quote(secret)}".encode()).decode()

    @staticmethod
    def _chunked(chance: random.Random, body: bytes) -> bytes:
        parts, at = [], 0
        while at < len(body):
            length = chance.randint(1, max(1, len(body) // 2))
            part = body[at : at + length]
            size = chance.choice(SIZES) if chance.random() < 0.1 else b"%x" % len(part)
            parts.append(
                size
                + (b"\r\n" if chance.random() < 0.97 else b"\n")
                + part
                + (b"\r\n" if chance.random() < 0.97 else b"")
            )
            at += length
        end = chance.choice(
            (b"0\r\n\r\n",) * 8
            + (b"0\r\n", b"", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nbad\r\n\r\n")
        )
        return b"".join(parts) + end

    def _mutate(self, chance: random.Random, data: bytes) -> bytes:
        at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 8, 64))
        before, part, after = data[:at], data[at : at + length], data[at + length :]
        newline = chance.choice((b"\n", b"\r", b"\r\r\n"))
        return chance.choice(
            (
                before + bytes([chance.randrange(256)]) + part[1:] + after,
                before + chance.choice(NASTY) + part + after,
                before + after,
                before + part + part + after,
                before,
                data + self._whole(chance),
                data.replace(b"\r\n", newline, chance.choice((1, -1))),
                before + part.swapcase() + after,
            )
        )


def raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def exchange(url: str, number: int, data: bytes) -> bytes:
    """Send all, say that this was all, and read until the server closes.

    Mostly from an address of its own: from a single one, most would be throttled and never get far.
    """
    received = b""
    host, port = url.removeprefix("http://").split(":")
    source = "127.0.0.1" if number % 20 == 0 else f"127.1.{number // 250 % 250}.{number % 250 + 1}"
    with socket.create_connection((host, int(port)), PATIENCE, (source, 0)) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                received += part
        except TimeoutError:
            raise AssertionError("no answer, and the connection still open") from None
        except OSError:
            pass  # refused and closed before all was read: what has come counts
    return received


def fault(data: bytes, received: bytes) -> str | None:
    """What is wrong with the answers."""
    statuses = STATUS.findall(received)
    if received and not STATUS.match(received):
        return "not an answer"
    # RFC 9112 §6.1: 501 is for a transfer coding that the server does not have.
    bad = [
        status
        for status in statuses
        if status >= b"500" and not (status == b"501" and b"transfer-encoding" in data.lower())
    ]
    return f"status {bad}" if bad else None


@pytest.fixture(scope="module")
def server(start_gunicorn, serving_url):
    """As in production, by the role that may do no more than requests need."""
    return start_gunicorn(serving_url, THREADS="4", LOG_LEVEL="debug", REQUEST_TIMEOUT="5")


@pytest.fixture(scope="module")
def bystander(server):
    """A client in whose name nothing is sent."""
    return server.register()


@pytest.fixture(scope="module")
def fuzzed(server, bystander) -> tuple[Fuzzer, Counter[str], list[str], set[int]]:
    """Send everything; gives the fuzzer, how often which status came, the faults, and the workers before."""
    workers = server.workers()
    made = new_client(server)
    fuzzer = Fuzzer(made["client_id"], made["client_secret"], made["registration_access_token"], made["token"])
    counts: Counter[str] = Counter()
    faults: list[str] = []

    def one(number: int) -> None:
        data = fuzzer.request(number)
        try:
            received = exchange(server.url, number, data)
            found = fault(data, received)
        except AssertionError as error:
            found = str(error)
            received = b""
        counts.update(status.decode() for status in STATUS.findall(received)) if received else counts.update(["none"])
        if found:
            faults.append(f"FUZZ_SEED={SEED}, request {number}: {found}: {data[:500]!r} -> {received[:300]!r}")

    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(one, range(REQUESTS)))
    return fuzzer, counts, faults, workers


def new_client(server: Any) -> dict[str, Any]:
    """A client that was registered and has a token, all by well-formed requests."""
    made: dict[str, Any] = requests.post(
        f"{server.url}/clients/register",
        headers={"Authorization": f"Bearer {INITIAL_ACCESS_TOKEN}"},
        json={"scope": "read", "audiences": ["https://b.example"]},
        timeout=PATIENCE,
    ).json()
    form = {"grant_type": "client_credentials", "client_id": made["client_id"], "client_secret": made["client_secret"]}
    made["token"] = requests.post(f"{server.url}/oauth/token", form, timeout=PATIENCE).json()["access_token"]
    return made


def test_no_request_makes_the_server_fail_or_hang(fuzzed):
    _, counts, faults, _ = fuzzed
    logging.getLogger(__name__).info("%s", sorted(counts.items()))
    assert faults == [], f"{len(faults)} faults"
    # That it got far: past the parser, past authentication, and to refusals of every kind.
    assert {"200", "201", "400", "401", "404", "405"} <= counts.keys()


def test_afterwards_the_same_workers_answer_well_formed_requests(fuzzed, server, bystander):
    assert server.workers() == fuzzed[3]
    for _ in range(20):
        token = bystander.token().json()["access_token"]
        assert bystander.introspect(token).json()["active"] is True
        assert bystander.revoke(token).status_code == 200
        assert bystander.introspect(token).json() == {"active": False}


def test_afterwards_the_log_has_no_traceback_and_no_secret(fuzzed, server):
    secrets = fuzzed[0].secrets
    pieces = {secret[at : at + PIECE] for secret in secrets for at in range(6, len(secret) - PIECE + 1)}
    for line in server.logged().splitlines():
        record = json.loads(line)
        assert "exception" not in record
        assert record.get("level") != "critical", line
        assert not [piece for piece in pieces if piece in line], line
