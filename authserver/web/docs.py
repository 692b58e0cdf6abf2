"""GET /docs: the API description as a page for people, made here: no scripts, nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import falcon

from authserver.web.openapi import MAX_AGE

DOCUMENTATION = "/docs"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { border-top: 2px solid #ddd; padding-top: 1rem; } h3 { margin-top: 2rem; } nav a { margin-right: 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } th { background: #f6f6f6; }
th, td { border: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
code, pre { font: .9em ui-monospace, monospace; background: #f6f6f6; } pre { padding: .6rem; overflow-x: auto; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# The one style sheet above, and nothing else: a page that could run nothing even if something got into it.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DocumentationEndpoint:
    """The page, which depends on the settings only."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._page = render(document).encode()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Cache-Control", f"public, max-age={MAX_AGE}")
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.data = self._page


def render(document: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document. Whatever is text in it is text on the page."""
    info, tags = document["info"], document["tags"]
    operations = [
        (path, method, {**item, **operation})
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, Mapping)
    ]
    links = "".join(f'<a href="#{escape(tag["name"])}">{escape(tag["name"])}</a>' for tag in tags)
    sections = "".join(
        f'<h2 id="{escape(tag["name"])}">{escape(tag["description"])}</h2>'
        + "".join(_operation(document, *each) for each in operations if tag["name"] in each[2]["tags"])
        for tag in tags
    )
    schemas = "".join(
        f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>{_schema(schema)}'
        for name, schema in document["components"]["schemas"].items()
    )
    paragraphs = "".join(f"<p>{escape(each)}</p>" for each in info["description"].split("\n\n"))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['summary'])} at <code>{escape(document['servers'][0]['url'])}</code></p>{paragraphs}"
        f'<nav>{links}<a href="#schemas">schemas</a></nav>{sections}<h2 id="schemas">Schemas</h2>{schemas}'
        "</body></html>"
    )


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (escape(each["name"]), escape(each["in"]), _type(each["schema"]), "required" if each.get("required") else "")
        for each in operation.get("parameters", ())
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    schemes = [name for requirement in operation["security"] for name in requirement or ("credentials in the form",)]
    return (
        f'<h3 id="{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></h3>'
        f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>"
        + (f"<p>Authentication: {escape(', or '.join(schemes))}</p>" if schemes else "")
        + (_table(("parameter", "in", "type", ""), parameters) if parameters else "")
        + "".join(f"<p>Body: {escape(name)}, {_type(content['schema'])}</p>" for name, content in bodies.items())
        + _table(
            ("status", "meaning", "body"),
            (_response(document, status, each) for status, each in operation["responses"].items()),
        )
    )


def _response(document: Mapping[str, Any], status: str, response: Mapping[str, Any]) -> tuple[str, str, str]:
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    bodies = (f"{escape(name)}: {_type(content['schema'])}" for name, content in response.get("content", {}).items())
    return status, escape(response["description"]), "<br>".join(bodies)


def _schema(schema: Mapping[str, Any]) -> str:
    text = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    if "properties" not in schema:
        return text + f"<pre>{escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre>"
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(name)}</code>",
            _type(value),
            "required" if name in required else "",
            escape(value.get("description", "")),
        )
        for name, value in schema["properties"].items()
    ]
    return text + _table(("member", "type", "", ""), rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    if "oneOf" in schema:
        return " or ".join(map(_type, schema["oneOf"]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "any")))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"
