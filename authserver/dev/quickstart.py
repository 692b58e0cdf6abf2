"""The main job, step by step with the real requests and answers: `scripts/quickstart.sh`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import requests

from authserver.dev.kept import PREFIX, keep, stop_kept
from authserver.dev.stack import RESOURCE, DidNotStart, Stack
from authserver.dev.stopping import Stopped, interruptible, stop_signals

_TIMEOUT = 10  # seconds
_SHOWN = ("WWW-Authenticate",)


class UnexpectedAnswer(Exception):
    """A step did not end as it should have."""


def main(arguments: list[str] | None = None) -> int:
    """Run the steps; give 0 if each ended as it should."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart.sh", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave everything running and say how to go on")
    choice.add_argument("--stop", action="store_true", help="stop and remove everything that --keep has left")
    options = parser.parse_args(arguments)
    try:
        with stop_signals():
            if options.stop:
                print(f"Stopped and removed: {stop_kept()}")
            else:
                _run(keeping=options.keep)
    except Stopped as stopped:
        return stopped.status
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would write what is left once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (DidNotStart, UnexpectedAnswer, requests.RequestException) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


def _run(*, keeping: bool) -> None:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    stack, kept = None, False
    try:
        stack = Stack(directory)
        say("Starting PostgreSQL, the migrations and the authorization server")
        stack.start()
        print(f"    authorization server at {stack.issuer}")
        resource_server, token_request = _steps(stack)
        if keeping:
            with interruptible():
                keep(stack)
                _tell_how_to_go_on(stack, resource_server, token_request)
                kept = True
    finally:
        if not kept:
            if stack is not None:
                stack.stop()
            shutil.rmtree(directory, ignore_errors=True)
    if not kept:
        print("\nDone. Everything was stopped and removed.", flush=True)


def _steps(stack: Stack) -> tuple[str, dict[str, str]]:
    register = f"{stack.issuer}/clients/register"
    authorization = {"Authorization": f"Bearer {stack.initial_access_token}"}

    say("Register service-b, the resource server, and start it")
    document = {"client_name": "service-b", "grant_types": [], "resource_identifiers": [RESOURCE]}
    service_b = show("POST", register, 201, headers=authorization, json=document)
    resource_server = stack.start_resource_server(service_b["client_id"], service_b["client_secret"])
    print(f"    resource server at {resource_server}")

    say("Register service-a, the client")
    document = {"client_name": "service-a", "scope": "read write", "audiences": [RESOURCE]}
    service_a = show("POST", register, 201, headers=authorization, json=document)
    credential = {"client_id": service_a["client_id"], "client_secret": service_a["client_secret"]}
    token_request = {"grant_type": "client_credentials", **credential}

    say("Without a token: 401")
    protected = f"{resource_server}/protected"
    show("GET", protected, 401)

    say("Service A gets a token")
    issued = show("POST", f"{stack.issuer}/oauth/token", 200, data=token_request | {"scope": "read"})
    bearer = {"Authorization": f"Bearer {issued['access_token']}"}

    say("With the token: 200")
    show("GET", protected, 200, headers=bearer)

    say("With a token of another scope: 403")
    other = show("POST", f"{stack.issuer}/oauth/token", 200, data=token_request | {"scope": "write"})
    show("GET", protected, 403, headers={"Authorization": f"Bearer {other['access_token']}"})

    say("Service A revokes its token")
    show("POST", f"{stack.issuer}/oauth/revoke", 200, data={"token": issued["access_token"], **credential})

    say("With the revoked token: 401, at once")
    show("GET", protected, 401, headers=bearer)
    return resource_server, token_request


def say(what: str) -> None:
    """A heading."""
    print(f"\n==> {what}", flush=True)


def show(method: str, url: str, expected: int, **arguments: Any) -> Any:
    """Make a request and print it with its answer; give the answer's JSON. Raises UnexpectedAnswer."""
    print(f"    {method} {url}")
    for name, value in arguments.get("headers", {}).items():
        print(f"      {name}: {value}")
    for name, value in {**arguments.get("data", {}), **arguments.get("json", {})}.items():
        print(f"      {name} = {value if isinstance(value, str) else json.dumps(value)}")
    with interruptible():
        answer = requests.request(method, url, timeout=_TIMEOUT, **arguments)
    print(f"    {answer.status_code} {answer.reason}")
    for name in _SHOWN:
        if name in answer.headers:
            print(f"      {name}: {answer.headers[name]}")
    print(f"      {answer.text}", flush=True)
    if answer.status_code != expected:
        raise UnexpectedAnswer(f"expected {expected}, got {answer.status_code}")
    return answer.json()


def _tell_how_to_go_on(stack: Stack, resource_server: str, token_request: dict[str, str]) -> None:
    form = " ".join(f"-d {name}={value}" for name, value in (token_request | {"scope": "read"}).items())
    say("It goes on running. Try:")
    print(f"    curl -s {stack.issuer}/.well-known/oauth-authorization-server")
    print(f"    curl -s {form} {stack.issuer}/oauth/token")
    print(f"    curl -i -H 'Authorization: Bearer TOKEN' {resource_server}/protected")
    print(f"    psql '{stack.postgres.url()}'    # as root: any user; otherwise as you")
    print("To stop and remove it:")
    print("    scripts/quickstart.sh --stop", flush=True)


if __name__ == "__main__":
    sys.exit(main())
