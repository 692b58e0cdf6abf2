"""What the tests of the front door share: a database that counts, requests that are tedious to write, and the API
description, which every answer that a test gets is held against.
"""

from __future__ import annotations

import itertools
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote_plus

import pytest
import webtest
from jsonschema import Draft202012Validator

from authserver.app import create_app
from authserver.fetch.documents import Fetcher
from authserver.flows.remote_keys import RemoteKeys
from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.store.database import Database
from authserver.web.openapi import read_description

# The one that the policy of these tests was made with.
INITIAL_ACCESS_TOKEN = "initial-access-token-of-the-tests-0123456789"


# What an answer may have without its being worth a word in the description.
ORDINARY_HEADERS = {
    "content-length",
    "content-security-policy",
    "content-type",
    "pragma",
    "referrer-policy",
    "x-content-type-options",
}
METHODS = ("get", "post", "put", "delete", "patch", "head", "options", "trace")


class Description:
    """authserver/web/openapi.json, and whether an answer is as it says; `given` is what was seen so far."""

    def __init__(self) -> None:
        document = read_description()
        self._components = _closed(document["components"])
        self._patterns = [
            (path, re.compile(re.sub(r"\\\{\w+\\\}", "[^/]*", re.escape(path)))) for path in document["paths"]
        ]
        self._operations = {
            (method, path): operation
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in METHODS
        }
        self.given: set[tuple[str, str, str, str]] = set()

    def described(self) -> set[tuple[str, str, str, str]]:
        """Each method, path, status and media type."""
        return {
            (method, path, status, media_type)
            for (method, path), operation in self._operations.items()
            for status, response in operation["responses"].items()
            for media_type in self._resolve(response).get("content", {"": None})
        }

    def check(self, method: str, path: str, answer: webtest.TestResponse) -> None:
        """Fail unless the answer is described; the message says what to add."""
        method, status = method.lower(), str(answer.status_code)
        template = next((known for known, pattern in self._patterns if pattern.fullmatch(path)), None)
        operation = self._operations.get((method, template or ""))
        absent = status == "404" and answer.json["error"] == "not_found"
        if operation is None or absent:
            assert status in {"400", "404", "405"} or (method == "options" and not answer.body), (
                f"add {method.upper()} {path} to authserver/web/openapi.json: it answers {status}"
            )
            if answer.body:
                self._check_body({"schema": {"$ref": "#/components/schemas/Error"}}, answer.body, f"{method} {path}")
            return
        place = f"responses of {method.upper()} {template} in authserver/web/openapi.json"
        assert status in operation["responses"], f"add {status} to the {place}: {answer.body!r}"
        response, place = self._resolve(operation["responses"][status]), f"{status} in the {place}"
        media_type = str(answer.headers.get("Content-Type", "")) if answer.body else ""
        assert media_type in response.get("content", {"": None}), f"add the content {media_type!r} to {place}"
        if media_type:
            self._check_body(response["content"][media_type], answer.body, f"the schema of {place}")
        self._check_headers(response.get("headers", {}), dict(answer.headers), f"the headers of {place}")
        self.given.add((method, template or "", status, media_type))

    def _check_body(self, content: dict[str, Any], body: bytes, place: str) -> None:
        text = body.decode()
        value = json.loads(text) if text.startswith("{") else text
        errors = [error.message for error in self._validator(json.dumps(content["schema"])).iter_errors(value)]
        assert errors == [], f"change {place}, or the answer: {value}"

    def _check_headers(self, described: dict[str, Any], answered: dict[str, str], place: str) -> None:
        described = {name.lower(): header for name, header in described.items()}
        answered = {name.lower(): value for name, value in answered.items()}
        unknown = answered.keys() - described.keys() - ORDINARY_HEADERS
        assert not unknown, f"add {unknown} to {place}"
        for name, reference in described.items():
            header = self._resolve(reference)
            assert name in answered or not header.get("required"), f"not in the answer: {name}, of {place}"
            if name in answered:
                errors = list(self._validator(json.dumps(header["schema"])).iter_errors(answered[name]))
                assert errors == [], f"change {name} in {place}, or the answer: {answered[name]!r}"

    def _resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in value:
            return value
        _, _, kind, name = value["$ref"].split("/")
        found: dict[str, Any] = self._components[kind][name]
        return found

    @cache  # noqa: B019 - there is one description for the whole run, and one more for a test
    def _validator(self, schema: str) -> Draft202012Validator:
        return Draft202012Validator(_closed(json.loads(schema)) | {"components": self._components})


def _closed(value: Any) -> Any:
    """A schema that lets no member pass which it does not name: clients must live with new ones, documents must not."""
    if isinstance(value, list):
        return [_closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    closed = {name: _closed(each) for name, each in value.items()}
    return {"additionalProperties": False, **closed} if "properties" in value else closed


class DescribedApp(webtest.TestApp):
    """The front door, whose answers are all held against the description."""

    def __init__(self, server: AuthorizationServer, description: Description) -> None:
        super().__init__(create_app(server))
        self._description = description

    def do_request(self, req: Any, status: Any = None, expect_errors: Any = None) -> webtest.TestResponse:
        answer = super().do_request(req, status=status, expect_errors=expect_errors)
        self._description.check(req.method, req.path, answer)
        return answer


@pytest.fixture(scope="session")
def description() -> Description:
    """The API description, shared by the whole run."""
    return Description()


@pytest.fixture
def new_description() -> Description:
    """One that has seen nothing yet."""
    return Description()


@pytest.fixture
def fetcher() -> Fetcher:
    """What gets keys from elsewhere; a test module may override this fixture."""
    return Fetcher()


@pytest.fixture
def make_process(
    policy: Policy, clock: Callable[[], float], fetcher: Fetcher
) -> Callable[[Database], AuthorizationServer]:
    """Make what one serving process has; a test module may override this fixture."""
    return lambda database: make_server(
        policy, database, clock=clock, fetcher=fetcher, make_remote_keys=lambda: RemoteKeys(clock)
    )


@pytest.fixture
def server(make_process: Callable[[Database], AuthorizationServer], database: Database) -> AuthorizationServer:
    """The operator's side."""
    return make_process(database)


@pytest.fixture
def app(
    make_process: Callable[[Database], AuthorizationServer], serving_database: Database, description: Description
) -> DescribedApp:
    """The front door of a process that has no rights but those of sql/roles.sql; `server` is the operator's."""
    return DescribedApp(make_process(serving_database), description)


@pytest.fixture
def other_app(
    make_process: Callable[[Database], AuthorizationServer], serving_database: Database, description: Description
) -> DescribedApp:
    """The front door of another process on the same database: its cache knows nothing of the first one's."""
    return DescribedApp(make_process(serving_database), description)


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
def serving_database(database_url: str, serving_url: str) -> Iterator[CountingDatabase]:
    """The same empty database as `database`, by the role that serves requests; it counts."""
    database = CountingDatabase(serving_url)
    yield database
    database.close()


@pytest.fixture
def asked(serving_database: CountingDatabase) -> Callable[[Callable[[], Any]], int]:
    """How often an act asks the database."""

    def count(act: Callable[[], Any]) -> int:
        before = serving_database.asked
        act()
        return serving_database.asked - before

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
def from_everywhere(description: Description) -> Callable[[AuthorizationServer], DescribedApp]:
    """A front door of which each request comes from another address, so that no number of failures is throttled."""
    numbers = itertools.count(1)

    class FromEverywhere(DescribedApp):
        def do_request(self, req: Any, status: Any = None, expect_errors: Any = None) -> webtest.TestResponse:
            req.environ["REMOTE_ADDR"] = str(ip_address(next(numbers)))
            return super().do_request(req, status=status, expect_errors=expect_errors)

    return lambda server: FromEverywhere(server, description)


@pytest.fixture
def app_without_database(policy: Policy, description: Description, tmp_path: Any) -> Iterator[DescribedApp]:
    """The front door of a server whose database is not there."""
    database = Database(f"postgresql:///nothing?host={tmp_path}")
    yield DescribedApp(make_server(policy, database), description)
    database.close()
