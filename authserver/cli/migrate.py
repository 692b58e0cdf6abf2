"""authserver migrate"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from authserver.cli.common import CommandError, Subparsers, open_database
from authserver.cli.output import add_json, emit
from authserver.migrate import Migration, MigrationError, Plan, make_plan, migrate, read_migrations
from authserver.store.schema_migrations import MigrationFailed, SchemaMigrations


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("migrate", help="apply the migrations in sql/")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--status",
        action="store_true",
        help="say what is applied and what is pending; change nothing; exit status 1 if that does not fit together",
    )
    only.add_argument("--plan", action="store_true", help="say what would be done; change nothing")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    with open_database(patient=True) as database:
        ledger = SchemaMigrations(database)
        try:
            migrations = read_migrations()
            if options.status:
                _show_status(options, ledger, migrations)
            elif options.plan:
                plan = make_plan(migrations, ledger.applied())
                _tell_plan(options, plan, "would adopt", "would apply")
            elif options.json:
                _tell_plan(options, migrate(ledger, migrations, _progress), "", "")
            else:
                migrate(ledger, migrations, partial(print, flush=True))
        except (MigrationError, MigrationFailed) as error:
            raise CommandError(f"migrate: {error}") from error


def _show_status(options: argparse.Namespace, ledger: SchemaMigrations, migrations: Sequence[Migration]) -> None:
    """Print the state, whatever it is. Raises MigrationError if no run could start from it."""
    applied = ledger.applied()
    files = {
        row.version: {
            "file": f"{row.version:04d}_{row.name}.sql",
            "state": "applied",
            "checksum_recorded": row.checksum is not None,
        }
        for row in applied
    }
    for migration in migrations:
        files.setdefault(migration.version, {"file": migration.file_name, "state": "pending"})
    rows = [row for _, row in sorted(files.items())]
    emit(options, rows, lambda: "\n".join(map(_line, rows)))
    sys.stdout.flush()
    make_plan(migrations, applied)


def _line(row: dict[str, Any]) -> str:
    by_hand = "" if row.get("checksum_recorded", True) else " by hand, checksum not yet recorded"
    return f"{row['state']}  {row['file']}{by_hand}"


def _tell_plan(options: argparse.Namespace, plan: Plan, adopt: str, apply: str) -> None:
    document = {
        "adopt": [migration.file_name for migration in plan.adopt],
        "apply": [migration.file_name for migration in plan.apply],
    }
    lines = [f"{adopt} {name}, applied by hand" for name in document["adopt"]]
    lines += [f"{apply} {name}" for name in document["apply"]]
    emit(options, document, "\n".join(lines) or "nothing to do")


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
