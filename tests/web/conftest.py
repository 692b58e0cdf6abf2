"""What the tests of the front door share: a database that counts, and requests that are tedious to write."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote_plus

import pytest
import webtest

from authserver.app import create_app
from authserver.flows.server import Policy, make_server
from authserver.store.database import Database

# The one that the policy of these tests was made with.
INITIAL_ACCESS_TOKEN = "initial-access-token-of-the-tests-0123456789"


class CountingDatabase(Database):
    """The real thing; it also counts how often it is asked."""

    asked = 0

    def fetch_one(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().fetch_one(*arguments)

    def fetch_all(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().fetch_all(*arguments)

    def transaction(self) -> Any:
        self.asked += 1
        return super().transaction()


@pytest.fixture
def database(database_url: str) -> Iterator[CountingDatabase]:
    """An empty database with the schema, which counts."""
    database = CountingDatabase(database_url)
    yield database
    database.close()


@pytest.fixture
def asked(database: CountingDatabase) -> Callable[[Callable[[], Any]], int]:
    """How often an act asks the database."""

    def count(act: Callable[[], Any]) -> int:
        before = database.asked
        act()
        return database.asked - before

    return count


@pytest.fixture
def stored_tokens(database: Database) -> Callable[[], int]:
    """How many access tokens have been issued."""
    return lambda: int(database.fetch_all("SELECT count(*) FROM access_tokens")[0][0])


@pytest.fixture
def basic() -> Callable[[str, str], dict[str, str]]:
    """The header that an id and a secret make (RFC 6749 §2.3.1)."""

    def header(client_id: str, secret: str) -> dict[str, str]:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}

    return header


@pytest.fixture
def seen() -> Callable[[webtest.TestResponse], tuple[Any, ...]]:
    """All that a client gets to see of an answer, but for the id of the request."""

    def everything(answer: webtest.TestResponse) -> tuple[Any, ...]:
        return answer.status, answer.body, [pair for pair in answer.headerlist if pair[0].lower() != "x-request-id"]

    return everything


@pytest.fixture
def register(app: webtest.TestApp) -> Callable[..., dict[str, Any]]:
    """Register a client: `register(scope="read")` gives the client information response."""

    def post(**document: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {INITIAL_ACCESS_TOKEN}"}
        information: dict[str, Any] = app.post_json("/clients/register", document, headers=headers, status=201).json
        return information

    return post


@pytest.fixture
def from_everywhere() -> Callable[[Any], webtest.TestApp]:
    """A front door of which each request comes from another address, so that no number of failures is throttled."""
    numbers = itertools.count(1)

    def wrap(app: Any) -> webtest.TestApp:
        def elsewhere(environ: dict[str, Any], start_response: Any) -> Any:
            return app(environ | {"REMOTE_ADDR": str(ip_address(next(numbers)))}, start_response)

        return webtest.TestApp(elsewhere)

    return wrap


@pytest.fixture
def app_without_database(policy: Policy, tmp_path: Any) -> Iterator[webtest.TestApp]:
    """The front door of a server whose database is not there."""
    database = Database(f"postgresql:///nothing?host={tmp_path}")
    yield webtest.TestApp(create_app(make_server(policy, database)))
    database.close()
