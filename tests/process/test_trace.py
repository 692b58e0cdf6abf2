"""A trace goes through both servers: from the caller's traceparent to the audit event of the introspection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
import requests

from authserver.dev.stack import RESOURCE, Stack

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), environment={"AUTHSERVER_AUDIT_INTROSPECTIONS": "1"}) as stack:
        yield stack


@pytest.fixture(scope="module")
def call(stack: Stack) -> Callable[..., requests.Response]:
    """Call the resource server's protected route with a new token, as service A."""
    create = ("client", "create", "--audience", RESOURCE, "--scope", "read", "a")
    a = json.loads(stack.run(*create))
    b = json.loads(stack.run("client", "create", "--resource", RESOURCE, "b"))
    url = stack.start_resource_server(b["client_id"], b["client_secret"])

    def call(**headers: str) -> requests.Response:
        form = {"grant_type": "client_credentials", "resource": RESOURCE}
        answer = requests.post(
            f"{stack.issuer}/oauth/token", form, auth=(a["client_id"], a["client_secret"]), timeout=30
        )
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        answer = requests.get(f"{url}/protected", headers=bearer | headers, timeout=30)
        assert answer.status_code == 200
        return answer

    return call


def lines(stack: Stack, log: str, logger: str, **wanted: str) -> list[dict[str, object]]:
    text = (stack.directory / log).read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [
        line
        for line in found
        if line.get("logger", logger) == logger and all(line.get(name) == value for name, value in wanted.items())
    ]


def test_one_trace_id_is_in_the_lines_of_both_servers(stack, call, wait_until):
    call(traceparent=f"00-{TRACE}-{SPAN}-01")
    (audited,) = lines(stack, "authserver.log", "authserver.audit", event="token.introspected", trace_id=TRACE)
    assert audited["client_id"] == "b"
    asked = {"path": "/oauth/introspect", "trace_id": TRACE}
    wait_until(lambda: lines(stack, "authserver.log", "gunicorn.access", **asked), "the authorization server's line")
    (access,) = lines(stack, "authserver.log", "gunicorn.access", **asked)
    assert access["request_id"] == audited["request_id"]
    served = {"path": "/protected", "trace_id": TRACE}
    wait_until(lambda: lines(stack, "resource_server.log", "", **served), "the resource server's line")


@pytest.mark.parametrize("bad", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE[1:]}-{SPAN}-01"])
def test_a_bad_one_is_ignored_and_there_is_a_new_one(stack, call, wait_until, bad):
    before = lines(stack, "authserver.log", "authserver.audit", event="token.introspected")
    call(**({"traceparent": bad} if bad else {}))
    *_, event = lines(stack, "authserver.log", "authserver.audit", event="token.introspected")
    assert event not in before
    assert re.fullmatch("[0-9a-f]{32}", event["trace_id"])
    assert event["trace_id"] not in bad or not bad
    served = {"path": "/protected", "trace_id": event["trace_id"]}
    wait_until(lambda: lines(stack, "resource_server.log", "", **served), "the same in the resource server's line")
