"""A database of its own on the stack's PostgreSQL, with a server on it, for measuring with much in it."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import psycopg
import psycopg.sql
import requests

from authserver.dev.stack import RESOURCE, Server, Stack, free_port
from bench.direct import Issuing, SecretParty
from bench.loads import get, post
from bench.rows import Contender, Row

_KNOWN = 10_000  # tokens that are introspected in turn: of all that live, so that the pages read are many


class Installation:
    """See the module. What was started is stopped with `exits`."""

    def __init__(self, stack: Stack, name: str, exits: ExitStack) -> None:
        self.name = name
        database = re.sub(r"\W+", "_", name).lower()
        with psycopg.connect(stack.postgres.url(), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        self.url, self.issuer = stack.postgres.url(database), f"http://127.0.0.1:{free_port()}"
        self._environment = stack.environment | {
            "AUTHSERVER_DATABASE_URL": self.url,
            "AUTHSERVER_ISSUER": self.issuer,
            "AUTHSERVER_BIND": self.issuer.removeprefix("http://"),
        }
        for command in ("migrate", "maintain"):
            self.run(command)
        options = (
            "--scope",
            "read",
            "--audience",
            RESOURCE,
            "--resource",
            RESOURCE,
            "--permission",
            "revocations:read",
        )
        made = json.loads(self.run("client", "create", "caller", *options))
        self.client_id = str(made["client_id"])
        self._party, self._secret = SecretParty(self.client_id, made["client_secret"]), str(made["client_secret"])
        server = Server(["authserver", "serve"], self._environment, stack.directory / f"{database}.log", self.issuer)
        exits.callback(server.stop)
        server.wait_until_ready()
        self._contender = Contender(name, server.process.pid, database)
        self.issuing = Issuing(self._environment)
        exits.callback(self.issuing.close)

    def run(self, *arguments: str) -> str:
        """Run an `authserver` command on this database; give what it printed."""
        command = [sys.executable, "-m", "authserver", *arguments]
        environment = {**os.environ, **self._environment}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603 - this interpreter
        return done.stdout

    def rows(self) -> list[Row]:
        """What is measured with much in the database. Tokens are known ones among those that were filled in."""
        lifetimes = [random.Random(1).randrange(900, 86_000) for _ in range(_KNOWN)]  # noqa: S311 - no secret
        opaque = self.issuing.opaque(self.client_id, RESOURCE, _KNOWN, lifetimes=lifetimes)
        jwts = self.issuing.jwt(self.client_id, RESOURCE, 500)
        ask = {"grant_type": "client_credentials", "scope": "read"}
        feed = get(
            f"{self.issuer}/oauth/revocations?cursor={quote(self._feed()['cursor'])}", authorization=self._basic()
        )
        return [
            self._row("introspect", "/oauth/introspect", [{"token": token} for token in opaque], _is_active),
            self._row("introspect, JWT", "/oauth/introspect", [{"token": token} for token in jwts], _is_active),
            self.token_row(ask),
            Row(
                "feed",
                f"feed, {self.name}",
                self._contender,
                self.issuer,
                lambda _: [feed],
                lambda body: b"cursor" in body,
            ),
        ]

    def token_row(self, ask: dict[str, str]) -> Row:
        """Tokens are issued."""
        return self._row("token", "/oauth/token", [ask], lambda body: "access_token" in json.loads(body))

    def _row(self, key: str, path: str, forms: Sequence[dict[str, str]], right: Callable[[bytes], bool]) -> Row:
        requests = [post(f"{self.issuer}{path}", form | self._party.proof()) for form in forms]
        return Row(key, f"{key}, {self.name}", self._contender, self.issuer, lambda _: requests, right)

    def first_sync(self) -> dict[str, float]:
        """Follow the feed as one who has just started: without a cursor, and from the beginning, page by page."""
        without = min(self._timed()[1] for _ in range(5))
        cursor, more, events, times = "0", True, 0, []
        while more:
            page, seconds = self._timed(cursor)
            cursor, more = page["cursor"], page["more"]
            events += len(page["events"])
            times.append(seconds)
        return {
            "without": without * 1000,
            "events": events,
            "pages": len(times),
            "seconds": sum(times),
            "slowest": max(times) * 1000,
        }

    def _timed(self, cursor: str = "") -> tuple[dict[str, Any], float]:
        start = time.monotonic()
        return self._feed(cursor), time.monotonic() - start

    def _feed(self, cursor: str = "") -> dict[str, Any]:
        parameters = {"cursor": cursor, "limit": "10000"} if cursor else {}
        headers = {"Authorization": self._basic()}
        answer = requests.get(f"{self.issuer}/oauth/revocations", parameters, headers=headers, timeout=30)
        answer.raise_for_status()
        page: dict[str, Any] = answer.json()
        return page

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.client_id}:{self._secret}".encode()).decode()


def _is_active(body: bytes) -> bool:
    return json.loads(body)["active"] is True
