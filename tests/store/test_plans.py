"""What a request asks of a full database: one partition, one index probe, and nothing that grows is read through.

The statements are those that requests through the front door really run, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import webtest
from psycopg import sql

from authserver.app import create_app
from authserver.flows.maintain import HOUR, maintain
from authserver.flows.register import create_client
from authserver.flows.rotate import maintain_keys
from authserver.flows.server import Policy, make_server
from authserver.migrate import migrate, read_migrations
from authserver.oauth.client_assertion import JWT_BEARER
from authserver.oauth.key_encryption import read_key_encryption
from authserver.oauth.public_keys import RegisteredKeys
from authserver.oauth.registration import ClientMetadata
from authserver.oauth.trusted_issuer import TrustedIssuer
from authserver.store.database import Database
from authserver.store.partitions import partitioned_tables
from authserver.store.queries import load
from authserver.store.schema_migrations import SchemaMigrations
from authserver.store.trusted_issuers import Binding

RESOURCE = "https://b.example"
CLUSTER = "https://cluster.example"
SUBJECT = "system:serviceaccount:shop:a"
ROWS = 4000

# How many scans of its partitions or of a table a statement may make; of all others, one.
PROBES = {
    # The caller, and the client that the token was issued to.
    ("access_tokens.find", "clients"): 2,
    ("revocations.find_jwt", "clients"): 2,
    # The secrets beside the client, and the row that an unknown client gets.
    ("clients.load", "client_secrets"): 2,
    # The row that may be locked, and the same to be changed.
    ("clients.note_use", "client_secrets"): 2,
    # The neighbouring windows, too.
    ("assertion_jtis.use", "assertion_jtis"): 3,
    # Each partition that is not over, of which maintenance keeps at most this many, and the default one.
    ("revocations.feed", "revocations"): 14,
}
# These are as large as an operator made them: issuers, keys. Or hold one row for each maintenance run of a day.
SMALL = {"trusted_issuers", "signing_keys", "signing_key_ring", "revocation_feed", "revocation_feed_marks"}
HOT = {
    *("access_tokens.insert", "access_tokens.find", "access_tokens.revoke", "assertion_jtis.use"),
    *("authentication_failures.count", "clients.is_current", "clients.load", "revocations.feed"),
    *("clients.note_use",),
    *("revocations.find_jwt", "revocations.revoke_jwt", "signing_keys.list", "signing_keys.prove"),
    *("signing_keys.version", "trusted_issuers.find"),
}


class Recording(Database):
    """Notes each statement with its last parameters."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statements: dict[str, Any] = {}

    def fetch_one(self, query: Any, parameters: Any = None) -> Any:
        self.statements[query] = parameters
        return super().fetch_one(query, parameters)

    def fetch_all(self, query: Any, parameters: Any = None) -> Any:
        self.statements[query] = parameters
        return super().fetch_all(query, parameters)


@pytest.fixture(scope="module")
def full(make_database: Callable[[], str]) -> str:
    """The connection string of a database with enough rows that reading them through would be the worse plan."""
    url = make_database()
    database = Database(url, patient=True)
    migrate(SchemaMigrations(database), read_migrations(), lambda _line: None)
    maintain(partitioned_tables(database), int(time.time()), 6 * HOUR, lambda _line: None)
    database.close()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "INSERT INTO clients (client_id) SELECT 'filled-' || at FROM generate_series(1, %(rows)s) at",
            "INSERT INTO client_secrets (client, label, secret_hash)"
            " SELECT id, 'first', sha256(int8send(id)) FROM clients",
            "INSERT INTO access_tokens (expires_at, short_hash, client, issued_at, scope, audience)"
            " SELECT %(now)s + at * 20, substring(sha256(int8send(at)) FOR 23), 1, %(now)s, 'read', ''"
            " FROM generate_series(1, %(rows)s) at",
            "INSERT INTO revocations (expires_at, short_hash)"
            " SELECT %(now)s + at * 20, substring(sha256(int8send(at)) FOR 23) FROM generate_series(1, %(rows)s) at",
            "INSERT INTO assertion_jtis (expires_at, jti_hash, used_by)"
            " SELECT (%(now)s + at / 8) / 600 * 600, sha256(int8send(at)), decode(repeat('00', 16), 'hex')"
            " FROM generate_series(1, %(rows)s) at",
            "INSERT INTO authentication_failures (minute, who, failures)"
            " SELECT %(now)s / 60, sha256(int8send(at)), 1 FROM generate_series(1, %(rows)s) at",
            "INSERT INTO trusted_issuers (name, issuer, audience, jwks, algorithms)"
            f" VALUES ('filled', '{CLUSTER}', 'other', '{{\"keys\": []}}', '{{ES256}}')",
            "INSERT INTO client_bindings (trusted_issuer, subject, client)"
            " SELECT i.id, c.client_id, c.id FROM trusted_issuers i, clients c",
        ):
            connection.execute(statement, {"rows": ROWS, "now": int(time.time())})  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE")
    return url


@pytest.fixture(scope="module")
def statements(full: str, make_signer: Callable[..., Any]) -> Iterator[dict[str, tuple[str, Any]]]:
    """By name, the text and the parameters of each statement that requests have run."""
    database = Recording(full)
    policy = Policy("https://as.example", key_encryption=read_key_encryption("A" * 43), failures_per_minute=1000)
    server = make_server(policy, database)
    maintain_keys(server, 0, lambda _line: None)
    clients = [prepare(server, make_signer(), token_format) for token_format in ("opaque", "jwt")]
    # Another process: it has yet to load what it remembers.
    app = webtest.TestApp(create_app(make_server(policy, database)))
    database.statements.clear()
    for proofs in clients:
        for proof in proofs:
            live_and_die(app, proof)
    yield {name: (text, database.statements[text]) for name, text in every().items() if text in database.statements}
    database.close()


def prepare(server: Any, signer: Any, token_format: str) -> list[Callable[[], dict[str, str]]]:
    """Make clients; give what proves each of them at a request: a secret, a key, a workload's token."""
    common = {
        "scopes": ("read",),
        "default_scopes": ("read",),
        "audiences": (RESOURCE,),
        "access_token_format": token_format,
        "permissions": ("revocations:read",),
    }
    made = create_client(server, f"secret-{token_format}", ClientMetadata(**common))
    keyed = ClientMetadata(token_endpoint_auth_method="private_key_jwt", jwks=signer.jwks(), **common)
    create_client(server, f"key-{token_format}", keyed, with_secret=False)
    issuer = TrustedIssuer(
        0, token_format, CLUSTER, f"https://as.example/{token_format}", RegisteredKeys(signer.jwks())
    )
    server.trusted_issuers.add(issuer)
    server.trusted_issuers.bind(Binding(token_format, SUBJECT, f"key-{token_format}"))

    def sign(issuer: str, subject: str, audience: str) -> dict[str, str]:
        claims = {
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "exp": int(time.time()) + 60,
            "jti": str(time.time_ns()),
        }
        return {"client_assertion_type": JWT_BEARER, "client_assertion": signer.sign(claims)}

    name = f"key-{token_format}"
    return [
        lambda: {"client_id": f"secret-{token_format}", "client_secret": str(made.secret)},
        lambda: sign(name, name, "https://as.example"),
        lambda: sign(CLUSTER, SUBJECT, f"https://as.example/{token_format}"),
    ]


def live_and_die(app: webtest.TestApp, proof: Callable[[], dict[str, str]]) -> None:
    """A token is issued, introspected and revoked, followers ask, and somebody tries a wrong secret."""
    token = app.post("/oauth/token", {"grant_type": "client_credentials", **proof()}).json
    app.post("/oauth/introspect", {"token": token["access_token"], **proof()})
    app.post("/oauth/introspect", {"token": "nonsense", **proof()})
    app.post("/oauth/revoke", {"token": token["access_token"], **proof()})
    app.get("/.well-known/jwks.json")
    secret = proof()
    if "client_secret" in secret:
        basic = ("Basic", (secret["client_id"], secret["client_secret"]))
        app.authorization = basic
        cursor = app.get("/oauth/revocations").json["cursor"]
        app.get("/oauth/revocations", {"cursor": cursor})
        app.authorization = None
        app.post("/oauth/token", {**secret, "client_secret": "wrong", "grant_type": "client_credentials"}, status=401)


def every() -> dict[str, str]:
    """All statements of the store by file and name."""
    files = (Path(__file__).parents[2] / "authserver/store").glob("*.sql")
    return {f"{file.stem}.{name}": text for file in files for name, text in load(file.name).items()}


def test_these_are_the_statements_of_requests(statements: dict[str, tuple[str, Any]]) -> None:
    assert set(statements) == HOT


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("name", sorted(HOT))
def test_a_statement_probes_and_does_not_read_through(
    full: str, statements: dict[str, tuple[str, Any]], name: str, mode: str
) -> None:
    text, parameters = statements[name]
    # As the server connects.
    with psycopg.connect(Database(full)._conninfo) as connection:
        assert connection.execute("SHOW plan_cache_mode").fetchone() == ("force_generic_plan",)
        scans = [scan for scan in executed_scans(explain(connection, text, parameters, mode)) if not is_small(scan)]
        connection.rollback()
    by_table: dict[str, int] = {}
    for scan in scans:
        relation = scan["Relation Name"]
        table = re.sub(r"_(default|\d{8}_\d{4})$", "", relation)
        by_table[table] = by_table.get(table, 0) + 1
        assert "Index" in scan["Node Type"] or scan["Node Type"] == "Bitmap Heap Scan", scan
        # The index finds what is looked for: nothing much is read and thrown away.
        assert scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0) < 30, scan
    for table, number in by_table.items():
        assert number <= PROBES.get((name, table), 1), f"{number} scans of {table}"


def explain(connection: psycopg.Connection[Any], text: str, parameters: Any, mode: str) -> dict[str, Any]:
    """Run a statement as a prepared one; give its plan with what was done."""
    names = list(parameters or {})
    for number, each in enumerate(names, start=1):
        text = text.replace(f"%({each})s", f"${number}")
    types = ", ".join(type_name(parameters[each]) for each in names)
    connection.execute(f"SET LOCAL plan_cache_mode = {mode}")  # type: ignore[arg-type]
    connection.execute(f"PREPARE hot {f'({types})' if types else ''} AS {text}")  # type: ignore[arg-type]
    values = sql.SQL(", ").join(sql.Literal(parameters[each]) for each in names)
    call = sql.SQL("({})").format(values) if names else sql.SQL("")
    row = connection.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot {}").format(call)).fetchone()
    connection.execute("DEALLOCATE hot")
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def type_name(value: object) -> str:
    return {bool: "boolean", int: "bigint", bytes: "bytea", str: "text", list: "text[]"}[type(value)]


def executed_scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those scans of tables in a plan that took place: what was pruned at run time is not there, or never executed."""
    if node.get("Actual Loops", 0) and "Relation Name" in node and "Scan" in node["Node Type"]:
        yield node
    for each in node.get("Plans", []):
        yield from executed_scans(each)


def is_small(scan: dict[str, Any]) -> bool:
    return scan["Relation Name"] in SMALL
