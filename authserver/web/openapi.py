"""GET /openapi.json: the description of this HTTP interface (OpenAPI 3.1), kept by hand in the file of that name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import falcon

from authserver import __version__

DESCRIPTION = "/openapi.json"
MAX_AGE = 300  # seconds


def read_description() -> dict[str, Any]:
    """The whole document as it is kept: every path that a server may serve, below no server in particular."""
    document: dict[str, Any] = json.loads((files("authserver.web") / "openapi.json").read_text(encoding="utf-8"))
    return document


def describe(issuer: str, below_issuer: Iterable[str], at_root: Mapping[str, str]) -> dict[str, Any]:
    """The document of one server: the paths that it serves below its issuer and, by their kept names, at its root.

    A path that is not served here (no keys, no page for people) is left out; tests hold the rest complete.
    """
    document = read_description()
    described = document["paths"]
    host = issuer.removesuffix(urlsplit(issuer).path)
    elsewhere = {} if host == issuer else {"servers": [{"url": host}]}
    document["info"]["version"] = __version__
    document["servers"] = [{"url": issuer}]
    document["paths"] = {path: described[path] for path in below_issuer if path in described} | {
        served: described[path] | elsewhere for path, served in at_root.items() if path in described
    }
    return document


class DescriptionEndpoint:
    """The document, which depends on the settings only."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = json.dumps(document).encode()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.set_header("Cache-Control", f"public, max-age={MAX_AGE}")
        resp.data = self._document
