"""authserver config"""

from __future__ import annotations

import argparse
import os
import sys

from authserver.cli.common import Subparsers, open_database, table
from authserver.config import describe, read_config, unknown_variables
from authserver.store.conninfo import without_secrets


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "config",
        help="show every setting with its value (secrets masked) and its meaning; exit status 1 if one is wrong",
    )
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> None:
    rows = describe(os.environ, {"DATABASE_URL": without_secrets})
    print(table(("SETTING", "VALUE", "MEANING"), rows), flush=True)
    for line in unknown_variables(os.environ):
        print(f"authserver: warning: {line}", file=sys.stderr)
    read_config(os.environ)
    with open_database():  # it connects to nothing, and reads the connection string
        pass
