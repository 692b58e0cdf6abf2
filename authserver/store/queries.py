"""Load named queries from the `.sql` file beside a store module.

A query begins with a line `-- name: the_name`; the comment lines that follow say why it is as it is and are
kept in the statement, where they also show up in `pg_stat_activity`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


def load(file_name: str) -> Mapping[str, LiteralString]:
    """Read `authserver/store/<file_name>`; give its statements by name.

    Raises ValueError for text before the first name, and for a name used twice.
    """
    text = (files(__package__) / file_name).read_text(encoding="utf-8")
    head, *parts = _NAME.split(text)
    if any(line and not line.startswith("--") for line in head.splitlines()):
        raise ValueError(f"{file_name}: a statement stands before the first '-- name:' line")
    names = parts[::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file_name}: a name is used twice")
    return MappingProxyType(dict(zip(names, (part.strip() for part in parts[1::2]), strict=True)))
