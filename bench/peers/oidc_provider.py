"""node-oidc-provider with rows in PostgreSQL: one process, and two."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import psycopg
import requests

from authserver.dev.stack import Stack, free_port
from bench.loads import post
from bench.peers.common import Peer, cache, database, install, installed, is_installed
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
    rows = []
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
        rows += _rows(f"oidc-provider-{processes}", name, contender, url, proof)
    command = ["node", "--version"]
    node = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - it was found
    pins = json.loads((_HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return rows, {"node": node, **pins}


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


def _rows(key: str, name: str, contender: Contender, url: str, proof: dict[str, str]) -> list[Row]:
    ask = {"grant_type": "client_credentials", "scope": "read", **proof}
    tokens: list[str] = []

    def introspect(_number: int) -> list[bytes]:
        if not tokens:
            with requests.Session() as session:
                made = (session.post(f"{url}/token", ask, timeout=10).json() for _ in range(_DIFFERENT))
                tokens.extend(each["access_token"] for each in made)
        return [post(f"{url}/token/introspection", {"token": token, **proof}) for token in tokens]

    return [
        Row(f"{key}-token", f"{name}: token", contender, url, lambda _: [post(f"{url}/token", ask)], _has_token),
        Row(f"{key}-introspect", f"{name}: introspect active", contender, url, introspect, _is_active),
    ]


def _has_token(body: bytes) -> bool:
    return "access_token" in json.loads(body)


def _is_active(body: bytes) -> bool:
    return json.loads(body)["active"] is True
