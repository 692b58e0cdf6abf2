"""authserver config"""

from __future__ import annotations

import argparse
import os
import sys
from operator import itemgetter

from authserver.cli.common import Subparsers, open_database
from authserver.cli.output import add_json, emit_rows
from authserver.config import describe, read_config, unknown_variables
from authserver.store.conninfo import without_secrets


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "config",
        help="show every setting with its value (secrets masked) and its meaning; exit status 1 if one is wrong",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    described = describe(os.environ, {"DATABASE_URL": without_secrets})
    emit_rows(
        options,
        [{"setting": setting, "value": value, "meaning": meaning} for setting, value, meaning in described],
        {
            "SETTING": itemgetter("setting"),
            "VALUE": lambda row: "(not set)" if row["value"] is None else row["value"],
            "MEANING": itemgetter("meaning"),
        },
    )
    sys.stdout.flush()
    for line in unknown_variables(os.environ):
        print(f"authserver: warning: {line}", file=sys.stderr)
    read_config(os.environ)
    with open_database():  # it connects to nothing, and reads the connection string
        pass
