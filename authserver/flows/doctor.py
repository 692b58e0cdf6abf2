"""Examine an installation: one check for each thing that can be wrong with its database, and what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from authserver.flows.maintain import HOUR, SKEW
from authserver.flows.server import AuthorizationServer
from authserver.migrate import MigrationError, make_plan, read_migrations
from authserver.oauth.secret_evidence import DAY, EXPIRES_SOON
from authserver.oauth.signing_keys import NoSigningKey, is_rotation_due
from authserver.oauth.token_budget import MINUTE
from authserver.store.database import SchemaBehind, Unavailable
from authserver.store.installation import Installation
from authserver.store.partitions import Partition, partitioned_tables

OK, WARNING, FAILED = "ok", "warning", "failed"

SKEW_ALLOWED = 2  # seconds between our clock and the database's
AHEAD_NEEDED, AHEAD_WANTED = 24 * HOUR, 48 * HOUR
# Maintenance runs every hour; what it has left undone for two is not late but forgotten.
OVERDUE = 2 * HOUR


@dataclass(frozen=True)
class Finding:
    """What a check found; `advice` is what to do if it is not ok."""

    state: str
    says: str
    advice: str = ""


Check = Callable[[], Finding]


def examine(check: Check) -> Finding:
    """The finding of a check, which is one also if the check itself breaks."""
    try:
        return check()
    except SchemaBehind:
        return Finding(FAILED, "the schema is behind this release", "see the check 'schema'")
    except Unavailable as error:
        return Finding(FAILED, f"the database cannot be asked: {error}", "see the check 'database'")
    except Exception as error:  # noqa: BLE001 - the other checks go on; its text may quote a parameter
        return Finding(FAILED, f"the check itself failed: {type(error).__name__}", "report this")


def database_checks(server: AuthorizationServer, key_age: int) -> Mapping[str, Check]:
    """The checks that ask the database, by name. `key_age` is after how many seconds signing keys rotate; 0: never."""
    installation = Installation(server.database)
    return {
        "database": lambda: _database(installation),
        "schema": lambda: _schema(server),
        "clock": lambda: _clock(server, installation),
        "permissions": lambda: _permissions(installation),
        "partitions": lambda: _partitions(server),
        "signing keys": lambda: _signing_keys(server, key_age),
        "secrets": lambda: _secrets(server),
        "throttling": lambda: _throttling(server, installation),
    }


def _database(installation: Installation) -> Finding:
    begin = time.monotonic()
    try:
        installation.clock()
    except Unavailable as error:
        return Finding(FAILED, f"does not answer: {error}", "start it, or mend AUTHSERVER_DATABASE_URL or the network")
    return Finding(OK, f"answers in {(time.monotonic() - begin) * 1000:.1f} ms, connecting included")


def _schema(server: AuthorizationServer) -> Finding:
    try:
        plan = make_plan(read_migrations(), server.schema_migrations.applied())
    except MigrationError as error:
        return Finding(FAILED, str(error), "run the release that the database was migrated for: see docs/operations.md")
    if plan.apply:
        names = ", ".join(migration.file_name for migration in plan.apply)
        return Finding(FAILED, f"is behind this release: {names}", "run 'authserver migrate', then sql/roles.sql")
    return Finding(OK, f"is at {plan.applied[-1].version:04d}, as this release needs")


def _clock(server: AuthorizationServer, installation: Installation) -> Finding:
    before = server.clock()
    theirs = installation.clock()
    after = server.clock()
    # It was read somewhere in between.
    ahead = max(before - theirs, theirs - after, 0.0)
    if ahead > SKEW_ALLOWED:
        return Finding(WARNING, f"differs from the database's by {ahead:.0f} s", "run NTP on both machines")
    return Finding(OK, f"agrees with the database's within {SKEW_ALLOWED} s")


def _permissions(installation: Installation) -> Finding:
    role, lacking = installation.role(), installation.lacking()
    if lacking:
        return Finding(
            FAILED, f"role {role.name} lacks {', '.join(lacking)}", "run sql/roles.sql again, as authserver_owner"
        )
    if role.is_superuser:
        return Finding(FAILED, f"role {role.name} is a superuser", "serve as authserver_app: see sql/roles.sql")
    if role.makes_tables or role.owns_tables:
        return Finding(
            WARNING, f"role {role.name} can change the schema", "fine for maintenance; serve as authserver_app"
        )
    return Finding(OK, f"role {role.name} can do what requests need, and cannot change the schema")


def _partitions(server: AuthorizationServer) -> Finding:
    now = server.now()
    tables = {partitions.table: partitions.list() for partitions in partitioned_tables(server.database)}
    until = min(_covered_until(existing, now) for existing in tables.values())
    late = [p.name for existing in tables.values() for p in existing if p.upper + SKEW + OVERDUE <= now]
    run = "run 'authserver maintain' every hour, as the owner of the tables"
    says = f"there for the next {max(until - now, 0) // HOUR} h"
    if until < now + AHEAD_NEEDED:
        return Finding(FAILED, f"{says}: new tokens go to the default partition", run)
    if late:
        return Finding(WARNING, f"{says}, but {len(late)} that have expired were not dropped: {late[0]}", run)
    return Finding(WARNING, says, run) if until < now + AHEAD_WANTED else Finding(OK, says)


def _covered_until(existing: Sequence[Partition], now: int) -> int:
    """Until when there is a partition for each moment from now on."""
    until = now
    for partition in sorted(existing, key=lambda each: each.lower):
        if partition.lower <= until:
            until = max(until, partition.upper)
    return until


def _signing_keys(server: AuthorizationServer, key_age: int) -> Finding:
    ring, now = server.key_ring.load(), server.now()
    if lacking := ring.undecryptable(now):
        return Finding(
            FAILED,
            f"{', '.join(key.kid for key in lacking)} cannot be decrypted here: such a server issues no JWT, and does"
            " not become ready",
            "give AUTHSERVER_KEY_ENCRYPTION_KEY the key that it was encrypted with; if that is lost, or no JWT is"
            " wanted any more, 'authserver keys revoke': see docs/operations.md",
        )
    if not server.policy.signs:
        return Finding(OK, "none: this server issues no JWTs")
    run = "run 'authserver maintain' with AUTHSERVER_KEY_ENCRYPTION_KEY"
    try:
        active = ring.signing_key(now)
    except NoSigningKey:
        return Finding(FAILED, "none signs: no JWT can be issued", run)
    says = f"{active.kid} signs, since {(now - active.signs_from) // DAY} days"
    if is_rotation_due(ring, now - OVERDUE, key_age, server.policy.signing_algorithm):
        return Finding(WARNING, f"{says}; the next one is overdue", run)
    return Finding(OK, says)


def _secrets(server: AuthorizationServer) -> Finding:
    found = server.clients.expiring_secrets(server.now(), EXPIRES_SOON)
    if not found:
        return Finding(OK, f"none expires within {EXPIRES_SOON // DAY} days")
    names = ", ".join(f"{each.label} of {each.client_id}" for each in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""  # noqa: PLR2004 - as many as are named
    return Finding(
        WARNING,
        f"{len(found)} expire within {EXPIRES_SOON // DAY} days: {names}{more}",
        "add others: 'authserver client secret add'",
    )


def _throttling(server: AuthorizationServer, installation: Installation) -> Finding:
    refused = installation.throttled(server.now() // MINUTE, server.policy.failures_per_minute)
    if refused:
        return Finding(
            WARNING,
            f"{refused} failed to authenticate too often just now",
            "the log says why; if all have one address, name the proxy in AUTHSERVER_FORWARDED_ALLOW_IPS",
        )
    return Finding(OK, "nobody has failed too often lately")
