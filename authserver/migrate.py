"""Apply the migrations in `sql/`: plan, lock, apply, record, in order and once.

Each file is a complete script that psql alone could run: it begins a transaction, changes the schema, inserts its
own row into `schema_migrations` and commits. The runner sends the file as it stands, behind a limit on the waiting for
locks, and then notes its checksum, so that a file which was changed after it was applied is refused from then on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable

from authserver.store.schema_migrations import Applied, SchemaMigrations

MIGRATIONS: Traversable = files("authserver") / "migrations"
_FILE_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
# First line of a file that PostgreSQL cannot run inside a transaction. Such a file holds one statement, and then
# the insert of its row.
_NO_TRANSACTION = "-- no-transaction"
_RECORD = "INSERT INTO schema_migrations"
# What the serving role may do; beside the migrations, because each may need a line in it.
_ROLES = "roles.sql"


class MigrationError(Exception):
    """The files and the ledger do not fit together; the message says which and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file of `sql/`."""

    version: int
    name: str
    script: str

    @property
    def file_name(self) -> str:
        return f"{self.version:04d}_{self.name}.sql"

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the file."""
        return hashlib.sha256(self.script.encode()).digest()

    @property
    def is_transaction(self) -> bool:
        """Whether the file brings its own BEGIN and COMMIT."""
        return not self.script.startswith(_NO_TRANSACTION)

    def statements(self) -> list[str]:
        """The texts to send one by one of a file that is no transaction: a statement and its record."""
        statement, record, values = self.script.partition(_RECORD)
        return [statement, record + values]


@dataclass(frozen=True)
class Plan:
    """What a run would do: record the checksums of files applied by hand, then apply the pending ones."""

    adopt: Sequence[Migration]
    apply: Sequence[Migration]
    applied: Sequence[Applied]


def read_migrations(directory: Traversable = MIGRATIONS) -> list[Migration]:
    """Read the files of a directory in order. Raises MigrationError for a gap or a version given twice."""
    found = [
        Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name)
        if (match := _FILE_NAME.match(entry.name))
    ]
    for expected, migration in enumerate(found, start=1):
        if migration.version != expected:
            raise MigrationError(
                f"{migration.file_name}: expected version {expected:04d}; sql/ is numbered without gaps or repeats"
            )
    return found


def make_plan(migrations: Sequence[Migration], applied: Sequence[Applied]) -> Plan:
    """Hold the files against the ledger.

    Raises MigrationError if an applied file was changed, renamed or skipped, or if the ledger has a version that
    the files have not (an older release run against a newer schema).
    """
    known = {migration.version: migration for migration in migrations}
    adopt = []
    for expected, row in enumerate(applied, start=1):
        migration = known.get(row.version)
        if migration is None:
            raise MigrationError(
                f"the database has {row.version:04d}_{row.name}, which this release does not know: use a newer one"
            )
        if row.version != expected:
            raise MigrationError(
                f"migration {expected:04d} was skipped: {row.version:04d} is applied; apply it by hand"
            )
        if migration.name != row.name:
            raise MigrationError(f"{migration.file_name} is recorded as {row.version:04d}_{row.name}")
        if row.checksum is None:
            adopt.append(migration)
        elif row.checksum != migration.checksum:
            raise MigrationError(f"{migration.file_name} was changed after it was applied; put it back, add a new file")
    return Plan(adopt, migrations[len(applied) :], applied)


def migrate(ledger: SchemaMigrations, migrations: Sequence[Migration], tell: Callable[[str], None]) -> Plan:
    """Bring the schema up to date and tell each step; give what was done.

    As the owner of sql/roles.sql it also gives the serving role its rights, which it lacks on what a migration brought.
    A failed file leaves nothing behind, those before it stay.

    Raises MigrationError, MigrationFailed, Unavailable.
    """
    with ledger.lock(lambda: tell("waiting for another run to finish")):
        plan = make_plan(migrations, ledger.applied())
        for migration in plan.adopt:
            ledger.adopt(migration.version, migration.checksum)
            tell(f"adopted {migration.file_name}, applied by hand")
        for migration in plan.apply:
            if migration.is_transaction:
                ledger.run_patiently(migration.script, partial(_tell_waiting, tell, migration.file_name))
            else:
                ledger.run(migration.statements())
            ledger.adopt(migration.version, migration.checksum)
            tell(f"applied {migration.file_name}")
        if ledger.has_serving_role():
            roles = (MIGRATIONS / _ROLES).read_text(encoding="utf-8")
            ledger.run_patiently(roles, partial(_tell_waiting, tell, _ROLES))
            tell(f"authserver_app has the rights of {_ROLES}")
    if not plan.adopt and not plan.apply:
        tell("nothing to do")
    return plan


def _tell_waiting(tell: Callable[[str], None], file_name: str) -> None:
    tell(f"{file_name} needs locks that others have; trying again")


def is_current(ledger: SchemaMigrations, migrations: Sequence[Migration]) -> bool:
    """Whether the schema has all that this release needs. A newer schema will do: migrations expand first."""
    applied = {row.version for row in ledger.applied()}
    return all(migration.version in applied for migration in migrations)
