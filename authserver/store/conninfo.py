"""Show a connection string without what is secret in it."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

MASK = "********"
# What may be shown, and how it looks. libpq reads a URL in which a password was not percent-encoded in its own way,
# and then a piece of the password is in the place of a host, a port or a database: such a string is not shown at all.
_SHOWN = {
    "host": re.compile(r"[\w.:,/-]*", re.ASCII),
    "hostaddr": re.compile(r"[0-9a-fA-F.:,]*"),
    "port": re.compile(r"[0-9,]*"),
    "dbname": re.compile(r"[\w.-]*", re.ASCII),
    "user": re.compile(r"[\w.-]*", re.ASCII),
    "sslmode": re.compile(r"[a-z-]*"),
    "target_session_attrs": re.compile(r"[a-z-]*"),
}


def without_secrets(conninfo: str) -> str:
    """The parameters as `name=value`: those that name a server, a user and a database; the values of others masked.

    All is masked if there is any doubt.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        return MASK
    if not all(shape.fullmatch(str(given.get(name, ""))) for name, shape in _SHOWN.items()):
        return MASK
    return " ".join(f"{name}={value if name in _SHOWN else MASK}" for name, value in given.items())
