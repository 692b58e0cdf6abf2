"""authserver dev"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from pathlib import Path

from authserver.cli.common import CommandError, Subparsers


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
        from authserver.dev.stack import RESOURCE, SCOPE, DidNotStart, Stack  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise CommandError(f"dev needs the extra: pip install 'authserver[dev]' ({error})") from None
    with tempfile.TemporaryDirectory(prefix="authserver-dev-") as directory:
        try:
            with Stack(Path(directory), port=options.port) as stack:
                scope = ["--scope", f"{SCOPE} write"]
                service_a = json.loads(stack.run("client", "create", "service-a", *scope, "--audience", RESOURCE))
                service_b = json.loads(stack.run("client", "create", "service-b", "--no-grant", "--resource", RESOURCE))
                url = stack.start_resource_server(
                    service_b["client_id"], service_b["client_secret"], port=options.resource_port
                )
                _tell(stack.issuer, url, service_a, stack.initial_access_token)
                threading.Event().wait()
        except DidNotStart as error:
            raise CommandError(f"dev: a server did not start:\n{error}") from None


def _tell(issuer: str, resource_server: str, service_a: dict[str, str], initial_access_token: str) -> None:
    credential = f"{service_a['client_id']}:{service_a['client_secret']}"
    print(
        f"""
authorization server  {issuer}
resource server       {resource_server}
initial access token  {initial_access_token}

Try it:
  curl -i {resource_server}/protected
  TOKEN=$(curl -s -u '{credential}' -d grant_type=client_credentials -d scope=read {issuer}/oauth/token \\
          | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
  curl -i -H "Authorization: Bearer $TOKEN" {resource_server}/protected
  curl -i -u '{credential}' -d token=$TOKEN {issuer}/oauth/revoke
  curl -i -H "Authorization: Bearer $TOKEN" {resource_server}/protected

Ctrl-C stops everything and removes the data.""",
        flush=True,
    )
