"""What several commands need."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from authserver.config import ConfigError, read_one, unreadable
from authserver.fetch.documents import Fetcher
from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.observe import audit
from authserver.store.database import Database

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - argparse has no public name for it

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class CommandError(Exception):
    """The command cannot do what was asked; each argument is a line that says why."""


@contextmanager
def open_database(*, patient: bool = False) -> Iterator[Database]:
    """The database that the environment names. Raises ConfigError."""
    try:
        pooled = bool(read_one("DATABASE_POOLER", os.environ))
        database = Database(read_one("DATABASE_URL", os.environ), patient=patient, pooled=pooled)
    except ValueError as error:
        raise ConfigError(f"AUTHSERVER_DATABASE_URL is {error}") from None
    try:
        yield database
    finally:
        database.close()


@contextmanager
def open_server(*, patient: bool = False) -> Iterator[AuthorizationServer]:
    """An authorization server for managing rows: it issues nothing, and so needs no issuer. Raises ConfigError."""
    policy = Policy(
        issuer="",
        key_encryption=read_one("KEY_ENCRYPTION_KEY", os.environ),
        signing_algorithm=read_one("SIGNING_ALGORITHM", os.environ),
    )
    networks, http, tls = (
        read_one(f"JWKS_{name}", os.environ) for name in ("ALLOWED_NETWORKS", "ALLOW_HTTP", "CA_BUNDLE")
    )
    audit.write_to(read_one("AUDIT_FILE", os.environ))
    audit.begin_command(_operator())
    logging.getLogger("authserver.keys").disabled = True  # what it would say of keys, commands say themselves
    with open_database(patient=patient) as database:
        yield make_server(policy, database, fetcher=Fetcher(networks, http == "yes", tls))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user has a number only
        return f"uid {os.getuid()}"


def read_json(path: str) -> dict[str, Any]:
    """The JSON object in a file. Raises CommandError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {unreadable(error)}") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} cannot be read as JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise CommandError(f"{path} holds no JSON object")
    return document


def duration(text: str) -> int:
    """Seconds from `90s`, `15m`, `12h`, `30d`. Raises argparse.ArgumentTypeError."""
    unit = _UNITS.get(text[-1:])
    if unit is None or not text[:-1].isdecimal() or int(text[:-1]) < 1 or len(text) > 8:  # noqa: PLR2004 - centuries
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration such as 90s, 15m, 12h or 30d")
    return int(text[:-1]) * unit


def when(seconds: int | None) -> str:
    """A time for people, in UTC."""
    return "never" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def timestamp(seconds: int | None) -> str | None:
    """A time for programs (RFC 3339), in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def for_people(time_for_programs: str | None) -> str:
    """What `timestamp` gave, as `when` has it."""
    return "never" if time_for_programs is None else time_for_programs.replace("T", " ")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (headings, *rows))
    return "\n".join(line.rstrip() for line in lines)
