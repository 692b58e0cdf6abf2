"""`authserver client update` and what goes with it: only what is given changes, at the next request."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import webtest

Run = Callable[..., subprocess.CompletedProcess[str]]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def show(run: Run) -> Callable[[str], dict[str, Any]]:
    return lambda client_id: json.loads(run("client", "show", client_id).stdout)


def token(app: webtest.TestApp, made: dict[str, str], **parameters: str) -> Any:
    form = {"grant_type": "client_credentials", **made, **parameters}
    return app.post("/oauth/token", form, expect_errors=True).json


def test_only_what_is_given_changes(run: Run, show: Callable[[str], dict[str, Any]], app: webtest.TestApp) -> None:
    resource = "https://b.example"
    made = json.loads(
        run(
            "client", "create", "a", "--name", "A", "--scope", "read", "--scope", "write", "--audience", resource
        ).stdout
    )
    assert token(app, made)["scope"] == "read write"  # it also notes the use of the secret
    before = show("a")
    assert before["scope"] == before["default_scope"] == "read write"

    run("client", "update", "a", "--permission", "introspect:any", "--token-lifetime", "5m")
    assert show("a") == before | {"permissions": ["introspect:any"], "access_token_lifetime": 300}
    assert token(app, made)["expires_in"] == 300

    run("client", "update", "a", "--permission", "", "--token-lifetime", "default", "--name", "")
    assert show("a") == before | {"client_name": None}

    # The default was all of the scope, and so it stays.
    run("client", "update", "a", "--scope", "read admin")
    assert token(app, made)["scope"] == "read admin"
    run("client", "update", "a", "--default-scope", "admin")
    assert token(app, made)["scope"] == "admin"
    assert "beyond scope" in run("client", "update", "a", "--scope", "read", status=1).stderr

    run("client", "update", "a", "--no-grant")
    assert token(app, made)["error"] == "unauthorized_client"
    run("client", "update", "a", "--grant", "--audience", "")
    assert show("a")["audiences"] == []
    assert token(app, made, resource=resource)["error"] == "invalid_target"


def test_an_update_that_says_nothing_is_wrong_usage(run: Run) -> None:
    run("client", "create", "a")
    for nothing in ((), ("--share-resource",)):
        done = run("client", "update", "a", *nothing, status=2)
        assert done.stderr.endswith(
            "authserver client update: error: nothing to change: give an option that says what\n"
        )
        assert "client.updated" not in done.stderr


def test_a_resource_that_is_shared_already_needs_no_second_permission(run: Run) -> None:
    mine, other = "https://mine.example", "https://other.example"
    run("client", "create", "a", "--resource", mine)
    run("client", "create", "b", "--resource", mine, "--share-resource")
    run("client", "create", "c", "--resource", other)
    run("client", "update", "b", "--name", "B")
    assert "--share-resource" in run("client", "update", "b", "--resource", other, status=1).stderr
    run("client", "update", "b", "--resource", other, "--share-resource")


def test_the_last_secret_is_removed_only_on_purpose(
    run: Run, show: Callable[[str], dict[str, Any]], app: webtest.TestApp
) -> None:
    made = json.loads(run("client", "create", "a", "--scope", "read").stdout)
    refused = run("client", "secret", "remove", "a", "--label", "first", status=1).stderr
    assert "'first' is the last secret of 'a'" in refused
    assert "--yes" in refused
    assert token(app, made)["scope"] == "read"
    assert "no secret labelled 'x'" in run("client", "secret", "remove", "a", "--label", "x", status=1).stderr
    run("client", "secret", "remove", "a", "--label", "first", "--yes")
    assert show("a")["secrets"] == []


def test_show_gives_times_for_programs_and_list_gives_audiences(
    run: Run, show: Callable[[str], dict[str, Any]]
) -> None:
    run("client", "create", "a", "--audience", "https://b.example")
    run("client", "secret", "add", "a", "--label", "next", "--expires", "1h")
    shown = show("a")
    first, following = shown["secrets"]
    assert first["expires_at"] is None
    for time in (shown["created_at"], first["created_at"], following["expires_at"]):
        assert TIME.fullmatch(time)
    assert "https://b.example" in run("client", "list").stdout
