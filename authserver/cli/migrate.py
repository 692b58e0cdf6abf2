"""authserver migrate"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from authserver.cli.common import CommandError, Subparsers, open_database
from authserver.migrate import Migration, MigrationError, make_plan, migrate, read_migrations
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    with open_database(patient=True) as database:
        ledger = SchemaMigrations(database)
        try:
            migrations = read_migrations()
            if options.status:
                _show_status(ledger, migrations)
            elif options.plan:
                _show_plan(ledger, migrations)
            else:
                migrate(ledger, migrations, print)
        except (MigrationError, MigrationFailed) as error:
            raise CommandError(f"migrate: {error}") from error


def _show_status(ledger: SchemaMigrations, migrations: Sequence[Migration]) -> None:
    """Print the state, whatever it is. Raises MigrationError if no run could start from it."""
    applied = ledger.applied()
    lines = {
        row.version: f"applied  {row.version:04d}_{row.name}.sql"
        + (" by hand, checksum not yet recorded" if row.checksum is None else "")
        for row in applied
    }
    for migration in migrations:
        lines.setdefault(migration.version, f"pending  {migration.file_name}")
    for _, line in sorted(lines.items()):
        print(line)
    sys.stdout.flush()
    make_plan(migrations, applied)


def _show_plan(ledger: SchemaMigrations, migrations: Sequence[Migration]) -> None:
    plan = make_plan(migrations, ledger.applied())
    for migration in plan.adopt:
        print(f"would adopt {migration.file_name}, applied by hand")
    for migration in plan.apply:
        print(f"would apply {migration.file_name}")
    if not plan.adopt and not plan.apply:
        print("nothing to do")
