"""The example client, as a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run(other_upstream, answers):
    """Run it with the settings given; the token endpoint is there."""
    other_upstream.behaviour = answers.with_(200, {"access_token": "t1", "token_type": "Bearer", "expires_in": 60})

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "resource_server.example_client", *arguments],
            env=os.environ | {"OAUTH2_TOKEN_URL": other_upstream.url} | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )

    return run


def test_it_calls_with_the_token_of_its_workload(run, upstream, other_upstream, answers, tmp_path):
    (tmp_path / "token").write_text("a.b.c")
    upstream.behaviour = answers.with_(200, {"message": "hello"})
    done = run(upstream.url, OAUTH2_CLIENT_ASSERTION_FILE=str(tmp_path / "token"))
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "200", "")
    assert upstream.calls[0].authorization == "Bearer t1"
    assert other_upstream.calls[0].form["client_assertion"] == ["a.b.c"]


def test_it_calls_with_a_secret(run, upstream, answers):
    upstream.behaviour = answers.with_(403, {})
    done = run(upstream.url, OAUTH2_CLIENT_ID="a", OAUTH2_CLIENT_SECRET="s")
    assert (done.returncode, done.stdout.split()[0]) == (1, "403")


@pytest.mark.parametrize(
    ("arguments", "environment", "status"),
    [
        ((), {}, 2),
        (("http://127.0.0.1:1/",), {}, 1),
        (("http://127.0.0.1:1/",), {"OAUTH2_TOKEN_URL": ""}, 1),
        (("http://127.0.0.1:1/",), {"OAUTH2_CLIENT_ID": "a", "OAUTH2_CLIENT_SECRET": "s3cret"}, 1),
    ],
)
def test_it_says_in_one_line_what_is_wrong(run, arguments, environment, status):
    done = run(*arguments, **environment)
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr
