"""authserver maintain"""

from __future__ import annotations

import argparse
import os
import sys

from authserver.cli.common import CommandError, Subparsers, open_server
from authserver.cli.output import add_json, emit
from authserver.config import read_one
from authserver.flows.maintain import HOUR, maintain
from authserver.flows.rotate import maintain_keys
from authserver.flows.throttle import MINUTE
from authserver.oauth.jose import CannotDecrypt
from authserver.store.partitions import Busy, partitioned_tables

DAY = 24 * HOUR


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "maintain", help="make partitions ahead of need, drop expired ones, rotate signing keys; run it every hour"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    width = read_one("PARTITION_HOURS", os.environ) * HOUR
    key_age = read_one("KEY_ROTATION_DAYS", os.environ) * DAY
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        # Each step as it is done: for people that is the output, for programs it comes at the end.
        if not options.json:
            print(line, flush=True)
        elif sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)

    with open_server(patient=True) as server:
        try:
            maintain(partitioned_tables(server.database), server.now(), width, tell)
        except Busy as error:
            raise CommandError(f"maintain: {error}") from error
        server.revocations.note_mark(server.now())
        server.authentication_failures.forget(server.now() // MINUTE - 1)
        server.issued_tokens.forget(server.now() // MINUTE - 1)
        try:
            maintain_keys(server, key_age, tell)
        except CannotDecrypt:
            raise CommandError(
                "AUTHSERVER_KEY_ENCRYPTION_KEY lacks the key that a signing key is encrypted with"
            ) from None
    if options.json or not told:
        emit(options, {"steps": told}, "nothing to do")
