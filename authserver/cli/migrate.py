"""authserver migrate"""

from __future__ import annotations

import argparse

from authserver.cli.common import CommandError, Subparsers, open_database
from authserver.migrate import MigrationError, make_plan, migrate, read_migrations
from authserver.store.schema_migrations import MigrationFailed, SchemaMigrations


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("migrate", help="apply the migrations in sql/")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--status", action="store_true", help="say what is applied and what is pending; change nothing")
    only.add_argument("--plan", action="store_true", help="say what would be done; change nothing")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    with open_database(patient=True) as database:
        ledger = SchemaMigrations(database)
        try:
            migrations = read_migrations()
            if options.status or options.plan:
                _show(ledger, options)
            else:
                migrate(ledger, migrations, print)
        except (MigrationError, MigrationFailed) as error:
            raise CommandError(f"migrate: {error}") from error


def _show(ledger: SchemaMigrations, options: argparse.Namespace) -> None:
    plan = make_plan(read_migrations(), ledger.applied())
    adopted = {migration.version for migration in plan.adopt}
    if options.status:
        for row in plan.applied:
            note = " by hand, checksum not yet recorded" if row.version in adopted else ""
            print(f"applied  {row.version:04d}_{row.name}.sql{note}")
        for migration in plan.apply:
            print(f"pending  {migration.file_name}")
        return
    for migration in plan.adopt:
        print(f"would adopt {migration.file_name}, applied by hand")
    for migration in plan.apply:
        print(f"would apply {migration.file_name}")
    if not plan.adopt and not plan.apply:
        print("nothing to do")
