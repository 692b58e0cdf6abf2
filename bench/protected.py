"""The rows of the example resource server in its modes."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from urllib.parse import quote

import requests

from authserver.dev.stack import RESOURCE, Stack
from bench.catalog import NAMES
from bench.direct import Issuing
from bench.loads import get
from bench.rows import Contender, Row

_CALLERS = 100  # tokens that are presented in turn


def rows(stack: Stack, issuing: Issuing) -> list[Row]:
    """Start a resource server for each mode. What it caches is cached before the first round: all rounds are alike."""
    options = ("--no-grant", "--resource", RESOURCE, "--permission", "revocations:read")
    service_b = json.loads(stack.run("client", "create", "service-b", *options))
    stack.run("client", "create", "bench-caller", "--scope", "read", "--audience", RESOURCE)
    feed = {"OAUTH2_REVOCATIONS_URL": f"{stack.issuer}/oauth/revocations"}
    local = {"OAUTH2_VALIDATION": "jwt", "OAUTH2_ISSUER": stack.issuer}
    modes: tuple[tuple[str, Callable[..., list[str]], dict[str, str]], ...] = (
        ("introspect", issuing.opaque, {}),
        ("cached", issuing.opaque, feed),
        ("jwt", issuing.jwt, feed | local),
    )
    authserver = Contender("authserver", stack.servers[0].process.pid, "postgres")
    found: list[Row] = []
    for key, issue, environment in modes:
        url = stack.start_resource_server(service_b["client_id"], service_b["client_secret"], environment=environment)
        contender = Contender(f"resource server, {key}", stack.servers[-1].process.pid, "postgres")
        if not found:
            found.append(_row("protected-public", contender, url, [get(f"{url}/public")]))
        tokens = issue("bench-caller", RESOURCE, _CALLERS)
        sent = [get(f"{url}/protected", authorization=f"Bearer {token}") for token in tokens]
        found.append(_row(f"protected-{key}", contender, url, sent))
    feed_row = Row(
        "feed", NAMES["feed"], authserver, stack.issuer, lambda _: [_poll(stack.issuer, service_b)], _is_json
    )
    return [*found, feed_row]


def _poll(issuer: str, client: dict[str, str]) -> bytes:
    """A follower's poll that finds nothing: its cursor is that of this moment."""
    proof = (client["client_id"], client["client_secret"])
    url = f"{issuer}/oauth/revocations"
    cursor = requests.get(url, auth=proof, timeout=10).json()["cursor"]
    basic = b64encode(":".join(proof).encode()).decode()
    return get(f"{url}?cursor={quote(cursor)}", authorization=f"Basic {basic}")


def _row(key: str, contender: Contender, url: str, sent: Sequence[bytes]) -> Row:
    return Row(key, NAMES[key], contender, url, lambda _number: sent, _is_json)


def _is_json(body: bytes) -> bool:
    return isinstance(json.loads(body), dict)
