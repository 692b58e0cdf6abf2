"""How an installation stands: what its metrics say beside what the processes count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import time

from authserver.flows.maintain import SKEW
from authserver.flows.server import AuthorizationServer
from authserver.oauth.secret_evidence import EXPIRES_SOON
from authserver.oauth.signing_keys import KeyRing
from authserver.store.database import SchemaBehind
from authserver.store.installation import Facts, Installation
from authserver.store.partitions import PARTITIONED_TABLES, Partition, Partitions

KEY_STATES = ("next", "active", "retiring", "gone", "revoked")


@dataclass(frozen=True)
class TableState:
    """One partitioned table: seconds ahead of now that partitions cover, those to be dropped, and the bytes astray."""

    ahead: int
    expired: int
    default_bytes: int


@dataclass(frozen=True)
class KeyState:
    """The signing keys: how many are in each state, and are to sign and cannot be decrypted here.

    Seconds since the active one began, and until the next is due.
    """

    by_state: dict[str, int]
    undecryptable: int
    age: int | None
    due_in: int | None


@dataclass(frozen=True)
class Details:
    """What there is to know where the schema is current. `clock_offset` is the database's clock less this machine's."""

    facts: Facts
    clock_offset: float
    keys: KeyState
    tables: dict[str, TableState]


@dataclass(frozen=True)
class State:
    """Everything, as it was at one time; no details of a schema that is behind."""

    schema_version: int
    details: Details | None


def read_state(server: AuthorizationServer, rotation: int) -> State:
    """Ask the database; keys are due at an age of `rotation` seconds (0: never). Raises Unavailable."""
    version = max((row.version for row in server.schema_migrations.applied()), default=0)
    try:
        return State(version, _details(server, rotation))
    except SchemaBehind:
        return State(version, None)


def _details(server: AuthorizationServer, rotation: int) -> Details:
    database = server.database
    installation, began = Installation(database), time()
    facts = installation.facts(int(began), int(began) + EXPIRES_SOON)
    offset = facts.clock - (began + time()) / 2
    now = int(began)
    tables = {
        name: table_state(Partitions(database, name).list(), now, installation.default_partition_bytes(name))
        for name in PARTITIONED_TABLES
    }
    return Details(facts, offset, key_state(server.key_ring.current(), now, rotation), tables)


def table_state(partitions: Sequence[Partition], now: int, default_bytes: int) -> TableState:
    """How far the partitions reach from now on without a gap."""
    reach = now
    for partition in sorted(partitions, key=lambda each: each.lower):
        if partition.lower <= reach < partition.upper:
            reach = partition.upper
    return TableState(reach - now, sum(each.upper + SKEW <= now for each in partitions), default_bytes)


def key_state(ring: KeyRing, now: int, rotation: int) -> KeyState:
    """How the keys stand."""
    states = [ring.state(key, now) for key in ring.keys]
    active = next((key for key, state in zip(ring.keys, states, strict=True) if state == "active"), None)
    usable = [key for key in ring.keys if key.revoked_at is None]
    return KeyState(
        {state: states.count(state) for state in KEY_STATES},
        len(ring.undecryptable(now)),
        now - active.signs_from if active else None,
        usable[-1].signs_from + rotation - now if usable and rotation else None,
    )
