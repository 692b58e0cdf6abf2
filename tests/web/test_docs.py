"""The page for people at /docs, and what answers tell a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import webtest

from authserver.app import create_app
from authserver.web.docs import render
from authserver.web.openapi import read_description

VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page taken apart; every element that was opened must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def documented(server, description, app):
    """The front door with the page."""
    app.app = create_app(server, api_docs=True)
    return app


def test_there_is_no_page_unless_the_operator_wants_one(app):
    app.get("/docs", status=404)
    assert "/docs" not in app.get("/openapi.json").json["paths"]


def test_the_page_tells_all_of_the_description(documented):
    page = Page(documented.get("/docs").text)
    document = documented.get("/openapi.json").json
    identifiers = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= identifiers
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            assert f"{method.upper()} {path}" in page.text
            assert item[method]["operationId"] in identifiers
            assert item[method]["summary"] in page.text
    for _, attributes in page.elements:
        if "href" in attributes:
            assert attributes["href"].removeprefix("#") in identifiers


def test_the_page_runs_and_loads_nothing_and_its_policy_would_not_let_it(documented):
    answer = documented.get("/docs")
    page = Page(answer.text)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "form"}
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "src"
    ]
    (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def test_what_is_text_in_the_description_is_text_on_the_page():
    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: each if name in ("$ref", "tags", "name") else poisoned(each) for name, each in value.items()}
        if isinstance(value, list):
            return [poisoned(each) for each in value]
        return value + "<script>\"'&" if isinstance(value, str) else value

    document = read_description()
    tags = document["tags"]
    page = Page(render({**poisoned(document), "tags": tags}))
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<script>\"'&" in page.text


@pytest.mark.parametrize("path", ["/health", "/oauth/token", "/nothing", "/.well-known/jwks.json", "/openapi.json"])
def test_every_answer_tells_a_browser_to_make_nothing_of_it(app, path):
    answer: webtest.TestResponse = app.get(path, expect_errors=True)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
