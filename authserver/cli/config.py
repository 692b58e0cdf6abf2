"""authserver config"""

from __future__ import annotations

import argparse
import os

from authserver.cli.common import Subparsers, table
from authserver.config import describe


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("config", help="show every setting with its value (secrets masked) and its meaning")
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> None:
    print(table(("SETTING", "VALUE", "MEANING"), describe(os.environ)))
