"""node-oidc-provider with rows in PostgreSQL: one process, and two."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import psycopg

from authserver.dev.stack import Stack, free_port
from bench.peers.common import Peer, cache, database, install, installed, is_installed, rows
from bench.rows import Contender, Row

_HERE = Path(__file__).with_name("oidc_provider_js")
_FILES = ("package.json", "package-lock.json", "server.mjs", "adapter.mjs")
_CLIENT = "bench"
_DIFFERENT = 500


def start(stack: Stack, exits: ExitStack) -> tuple[list[Row], dict[str, str]]:
    """Install it if need be, start it twice; give its rows and its versions. Raises CannotInstall."""
    home = _install()
    parameters = database(stack, "oidc_provider")
    with psycopg.connect(stack.postgres.url("oidc_provider"), autocommit=True) as connection:
        connection.execute((_HERE / "schema.sql").read_bytes())
    found: list[Row] = []
    for processes in (1, 2):
        url, secret = f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(32)
        environment = {
            "NODE_ENV": "production",
            "PORT": url.rpartition(":")[2],
            "PROCESSES": str(processes),
            "CLIENT_ID": _CLIENT,
            "CLIENT_SECRET": secret,
            "PGHOST": parameters["host"],
            "PGUSER": parameters["user"],
            "PGDATABASE": parameters["dbname"],
        }
        peer = Peer(["node", "server.mjs"], environment, stack.directory / f"oidc-provider-{processes}.log", home)
        peer.wait_until_it_answers(f"{url}/.well-known/openid-configuration", exits)
        name = f"oidc-provider, {processes} process{'es' * (processes > 1)}"
        contender = Contender(f"peer: {name}", peer.process.pid, "oidc_provider")
        proof = {"client_id": _CLIENT, "client_secret": secret}
        found += rows(
            f"oidc-provider-{processes}",
            contender,
            proof,
            token_url=f"{url}/token",
            introspect_url=f"{url}/token/introspection",
            different=_DIFFERENT,
        )
    command = ["node", "--version"]
    node = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - it was found
    pins = json.loads((_HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return found, {"node": node, **pins}


def _install() -> Path:
    pins = [_HERE / name for name in _FILES]
    home = cache("oidc-provider", *pins)
    if not is_installed(home):
        for pin in pins:
            shutil.copy(pin, home)
        install("node-oidc-provider", ["node", "--version"], home)
        install("node-oidc-provider", ["npm", "ci", "--no-audit", "--no-fund"], home)
        installed(home, *pins)
    return home
