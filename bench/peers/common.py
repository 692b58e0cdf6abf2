"""What peers need: a place to be installed in, a database, and to be started and stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql
import requests
from psycopg.conninfo import conninfo_to_dict

from authserver.dev.stack import Stack
from bench.catalog import NAMES
from bench.loads import post
from bench.rows import Contender, Row

_PATIENCE = 60.0  # seconds for a server to answer
_INSTALLING = 600  # seconds


class CannotInstall(Exception):
    """The peer is not to be had here; the message is one line that says why."""


def cache(name: str, *pins: Path) -> Path:
    """Where a peer is installed. One that was installed by other pins is removed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "authserver-bench" / name
    wanted = "\n".join(pin.read_text(encoding="utf-8") for pin in pins)
    stamp = home / "pins"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    return home


def installed(home: Path, *pins: Path) -> None:
    """Note that all is there."""
    (home / "pins").write_text("\n".join(pin.read_text(encoding="utf-8") for pin in pins), encoding="utf-8")


def is_installed(home: Path) -> bool:
    """Whether it was noted."""
    return (home / "pins").exists()


def install(what: str, command: Sequence[str], cwd: Path) -> None:
    """Run one step. Raises CannotInstall."""
    if not shutil.which(command[0]):
        raise CannotInstall(f"{what}: there is no {Path(command[0]).name} here")
    try:
        done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=_INSTALLING)  # noqa: S603 - npm and pip with what is pinned here
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{what}: {command[0]} did not finish") from None
    if done.returncode:
        raise CannotInstall(f"{what}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def database(stack: Stack, name: str) -> dict[str, str]:
    """Make an empty database on the same PostgreSQL; give its connection parameters."""
    with psycopg.connect(stack.postgres.url(), autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return {key: str(value) for key, value in conninfo_to_dict(stack.postgres.url(name)).items()}


class Peer:
    """A running server of another kind."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, cwd: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self.process: subprocess.Popen[Any] = subprocess.Popen(  # noqa: S603 - what was installed
                command,
                cwd=cwd,
                env={"PATH": os.environ["PATH"], "HOME": str(cwd), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_it_answers(self, url: str, exits: ExitStack) -> None:
        """Return when it answers anything. Stopped with `exits`. Raises CannotInstall."""
        exits.callback(self._stop)
        end = time.monotonic() + _PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            try:
                requests.get(url, timeout=1)
                return
            except requests.RequestException:
                time.sleep(0.05)
        raise CannotInstall(f"{url} does not answer: {self._log.read_text(encoding='utf-8', errors='replace')[-800:]}")

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def rows(
    key: str,
    contender: Contender,
    proof: dict[str, str],
    *,
    token_url: str,
    introspect_url: str,
    different: int,
    slow: bool = False,
) -> list[Row]:
    """A peer's rows: a token, and introspection of that many different ones in turn."""
    ask = {"grant_type": "client_credentials", "scope": "read", **proof}
    tokens: list[str] = []

    def introspect(_number: int) -> list[bytes]:
        if not tokens:
            with requests.Session() as session:
                made = (session.post(token_url, ask, timeout=_PATIENCE).json() for _ in range(different))
                tokens.extend(each["access_token"] for each in made)
        return [post(introspect_url, {"token": token, **proof}) for token in tokens]

    def row(act: str, url: str, make: Callable[[int], list[bytes]], right: Callable[[bytes], bool]) -> Row:
        return Row(f"{key}-{act}", NAMES[f"{key}-{act}"], contender, url, make, right, slow=slow)

    return [
        row("token", token_url, lambda _: [post(token_url, ask)], _has_token),
        row("introspect", introspect_url, introspect, _is_active),
    ]


def _has_token(body: bytes) -> bool:
    return "access_token" in json.loads(body)


def _is_active(body: bytes) -> bool:
    return json.loads(body)["active"] is True
