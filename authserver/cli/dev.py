"""authserver dev"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from authserver.cli.common import CommandError, Subparsers
from authserver.dev.stopping import Stopped, interruptible, stop_signals

if TYPE_CHECKING:
    from authserver.dev.stack import Stack

_HIGHEST_PORT = 65535
# What the commands need to work on the same installation as its servers do.
_FOR_COMMANDS = ("AUTHSERVER_DATABASE_URL", "AUTHSERVER_ISSUER", "AUTHSERVER_KEY_ENCRYPTION_KEY")


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "dev", help="run everything on this machine: embedded PostgreSQL, both servers, two demo clients"
    )
    parser.add_argument("--port", type=int, default=8000, help="of the authorization server (default: %(default)s)")
    parser.add_argument("--resource-port", type=int, default=8001, help="of the resource server (default: %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    try:
        # Only here: a production installation does not have the `dev` extra.
        from authserver.dev.stack import (  # noqa: PLC0415 - see above
            RESOURCE,
            SCOPE,
            DidNotStart,
            ignored_variables,
            in_use,
            temporary_stack,
        )
    except ModuleNotFoundError as error:
        raise CommandError(f"dev needs the extra dev: pip install 'authserver[dev]' ({error})") from None
    _require_ports(options, in_use)
    try:
        with stop_signals(), temporary_stack("authserver-dev-", port=options.port) as stack:
            scope = ["--scope", f"{SCOPE} write"]
            service_a = json.loads(stack.run("client", "create", "service-a", *scope, "--audience", RESOURCE))
            service_b = json.loads(stack.run("client", "create", "service-b", "--no-grant", "--resource", RESOURCE))
            url = stack.start_resource_server(
                service_b["client_id"], service_b["client_secret"], port=options.resource_port
            )
            _tell(stack, url, service_a, ignored_variables())
            with interruptible():
                threading.Event().wait()
    except Stopped as stopped:
        sys.exit(stopped.status)
    except DidNotStart as error:
        raise CommandError(f"dev: a server did not start:\n{error}") from None


def _require_ports(options: argparse.Namespace, in_use: Callable[[int], bool]) -> None:
    for option, port in (("--port", options.port), ("--resource-port", options.resource_port)):
        if not 1 <= port <= _HIGHEST_PORT:
            raise CommandError(f"dev: {option} must be from 1 to {_HIGHEST_PORT}")
        if in_use(port):
            raise CommandError(f"dev: port {port} is in use: choose another one with {option}")
    if options.port == options.resource_port:
        raise CommandError("dev: --port and --resource-port must differ")


def _tell(stack: Stack, resource_server: str, service_a: dict[str, str], ignored: Sequence[str]) -> None:
    settings = "\n".join(f"  export {name}={shlex.quote(stack.environment[name])}" for name in _FOR_COMMANDS)
    logs = "\n                      ".join(map(str, stack.logs))
    for_another = f"\nIgnored, as they are for another installation: {', '.join(ignored)}\n" if ignored else ""
    credential = f"{service_a['client_id']}:{service_a['client_secret']}"
    print(
        f"""
authorization server  {stack.issuer}
resource server       {resource_server}
initial access token  {stack.initial_access_token}
data of PostgreSQL    {stack.postgres.data}
logs                  {logs}
{for_another}
Try it:
  curl -i {resource_server}/protected
  TOKEN=$(curl -s -u '{credential}' -d grant_type=client_credentials -d scope=read {stack.issuer}/oauth/token \\
          | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
  curl -i -H "Authorization: Bearer $TOKEN" {resource_server}/protected
  curl -i -u '{credential}' -d token=$TOKEN {stack.issuer}/oauth/revoke
  curl -i -H "Authorization: Bearer $TOKEN" {resource_server}/protected

For 'authserver client create' and the other commands, in another terminal:
{settings}

Ctrl-C stops everything and removes the data.""",
        flush=True,
    )
