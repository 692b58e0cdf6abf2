"""authserver maintain"""

from __future__ import annotations

import argparse
import os
import time

from authserver.cli.common import CommandError, Subparsers, open_database
from authserver.config import read_one
from authserver.flows.maintain import HOUR, maintain
from authserver.store.partitions import Busy, partitioned_tables


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "maintain", help="make token partitions ahead of need and drop expired ones; run it every hour"
    )
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> None:
    width = read_one("PARTITION_HOURS", os.environ) * HOUR
    with open_database(patient=True) as database:
        try:
            maintain(partitioned_tables(database), int(time.time()), width, print)
        except Busy as error:
            raise CommandError(f"maintain: {error}") from error
