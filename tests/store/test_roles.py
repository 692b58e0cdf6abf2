"""sql/roles.sql: an owner that migrates and maintains, and a role that serves requests and can do nothing else.

That they can do all that is needed is shown by all other tests, which know no other roles.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from authserver.flows.introspect import introspect
from authserver.flows.issue import issue
from authserver.flows.maintain import HOUR, maintain
from authserver.flows.register import create_client
from authserver.flows.revoke import revoke
from authserver.flows.server import Policy, make_server
from authserver.migrate import migrate, read_migrations
from authserver.oauth.client import SecretCredential
from authserver.oauth.forms import Form
from authserver.oauth.registration import ClientMetadata
from authserver.store.database import Database
from authserver.store.partitions import PARTITIONED_TABLES, partitioned_tables
from authserver.store.schema_migrations import SchemaMigrations

NOW = int(time.time())
TABLES = """
    SELECT relname FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
RIGHTS = """
    SELECT c.relname, c.relacl::text, a.attname, a.attacl::text
      FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition
     ORDER BY 1, 3
"""
GRANTED = "authserver_app has the rights of roles.sql"


def apply_migrations(url: str) -> list[str]:
    told: list[str] = []
    database = Database(url, patient=True)
    migrate(SchemaMigrations(database), read_migrations(), told.append)
    database.close()
    return told


@pytest.fixture(scope="module")
def url(make_database, as_role) -> Callable[[str], str]:
    """A migrated database with its roles; its connection string by role."""
    owner = make_database()
    apply_migrations(owner)
    return lambda role: as_role(owner, role)


@pytest.fixture
def serving(url) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url("authserver_app"), autocommit=True) as connection:
        yield connection


def test_all_tests_use_the_role_that_an_installation_would(database_url, serving_url, database, serving_database):
    """That nothing else connects as more than these, what reads the log of PostgreSQL at the end of a run sees to."""
    roles = "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
    for url, role in (
        (database_url, "authserver_owner"),
        (database._conninfo, "authserver_owner"),
        (serving_url, "authserver_app"),
        (serving_database._conninfo, "authserver_app"),
    ):
        with psycopg.connect(url) as connection:
            assert connection.execute(roles).fetchone() == (role, False)


@pytest.mark.parametrize(
    "statement",
    [
        # No DDL, and nothing that would help to get at some.
        "CREATE TABLE mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE SCHEMA mine",
        "ALTER TABLE clients ADD COLUMN mine int",
        "ALTER TABLE clients DISABLE TRIGGER ALL",
        "DROP TABLE access_tokens_default",
        "TRUNCATE access_tokens",
        "CREATE INDEX ON clients (client_name)",
        "CREATE ROLE mine",
        "ALTER ROLE authserver_app CREATEDB",
        "SET ROLE authserver_owner",
        "UPDATE schema_migrations SET checksum = NULL",
        "DELETE FROM schema_migrations",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY clients TO PROGRAM 'cat'",
        # Nothing that is an operator's to give.
        "UPDATE clients SET permissions = '{introspect:any}'",
        "UPDATE clients SET access_token_lifetime = 86400",
        "UPDATE clients SET tokens_per_minute = 0",
        "UPDATE clients SET managed_by = 'mine'",
        "INSERT INTO clients (client_id, permissions) VALUES ('mine', '{introspect:any}')",
        "UPDATE clients SET tokens_valid_from = 0",
        "INSERT INTO initial_access_tokens (label, token_hash) VALUES ('mine', sha256('mine'))",
        "SELECT label FROM initial_access_tokens",
        "UPDATE client_secrets SET secret_hash = sha256('mine')",
        "UPDATE client_secrets SET expires_at = NULL",
        "INSERT INTO trusted_issuers (name, issuer, audience, algorithms) VALUES ('mine', 'x', 'x', '{ES256}')",
        "UPDATE trusted_issuers SET jwks = NULL",
        "INSERT INTO client_bindings SELECT * FROM client_bindings",
        # Nothing forgotten that limits what may be done again.
        "DELETE FROM assertion_jtis",
        "DELETE FROM authentication_failures",
        "DELETE FROM issued_tokens",
        # No token that lives longer or may more than it was issued for, and no revocation that is taken back.
        "UPDATE access_tokens SET scope = 'admin'",
        "UPDATE access_tokens SET expires_at = 0",
        "DELETE FROM access_tokens",
        "DELETE FROM revocations",
        "UPDATE revocations SET expires_at = 0",
        "UPDATE revocation_feed SET epoch = gen_random_uuid()",
        "INSERT INTO revocation_feed_marks VALUES (0, '0')",
        "SELECT setval('revocations_seq', 1)",
        # No key of its own.
        "INSERT INTO signing_keys SELECT * FROM signing_keys",
        "UPDATE signing_keys SET revoked_at = NULL",
        "DELETE FROM signing_keys",
        "UPDATE signing_key_ring SET version = 0",
        # Partitions only through their parent.
        "SELECT * FROM access_tokens_default",
        "INSERT INTO revocations_default (expires_at, kid) VALUES (0, 'x')",
    ],
)
def test_the_role_that_serves_may_not(serving, statement):
    with pytest.raises(errors.InsufficientPrivilege):
        serving.execute(statement)


def test_every_table_is_decided_on(url, repository):
    with psycopg.connect(url("authserver_owner")) as connection:
        tables = {name for (name,) in connection.execute(TABLES).fetchall()}
    granted = " ".join(
        re.findall(r"^GRANT .* ON (.*) TO authserver_app;", (repository / "sql/roles.sql").read_text(), re.MULTILINE)
    )
    undecided = {name for name in tables if not re.search(rf"\b{name}\b", granted)}
    assert undecided == set(), "say in sql/roles.sql what authserver_app may do with these tables"


def test_the_feed_and_the_locks_work_for_the_role_that_serves(serving):
    assert serving.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    assert serving.execute("SELECT pg_try_advisory_lock(1), pg_advisory_unlock(1)").fetchone() == (True, True)


def test_the_owner_maintains_and_the_role_that_serves_uses_what_it_made(url):
    owner, serving = Database(url("authserver_owner"), patient=True), Database(url("authserver_app"))
    maintain(partitioned_tables(owner), NOW, HOUR, lambda _line: None)
    made = create_client(
        make_server(Policy("https://as.example"), owner), "a", ClientMetadata(scopes=["read"], default_scopes=["read"])
    )
    server = make_server(Policy("https://as.example"), serving)
    credential = SecretCredential("client_secret_post", "a", str(made.secret))
    token = issue(server, credential, Form({"grant_type": ["client_credentials"]}))["access_token"]
    form = Form({"token": [token]})
    assert introspect(server, credential, form)["active"] is True
    assert revoke(server, credential, form) == {}
    assert introspect(server, credential, form) == {"active": False}
    for table in PARTITIONED_TABLES:
        assert owner.fetch_all(f"SELECT count(*) FROM {table}_default") == [(0,)]  # type: ignore[arg-type] # a constant
    later = NOW + 200 * HOUR
    maintain(partitioned_tables(owner), later, HOUR, lambda _line: None)
    assert all(partition.upper > later for table in partitioned_tables(owner) for partition in table.list())
    owner.close()
    serving.close()


def test_it_may_be_repeated_by_the_owner_and_takes_back_what_is_too_much(url, repository):
    script = (repository / "sql/roles.sql").read_bytes()
    with psycopg.connect(url("authserver_owner"), autocommit=True) as connection:
        connection.execute("GRANT ALL ON signing_keys, access_tokens_default TO authserver_app")
        connection.execute("GRANT SELECT ON clients TO PUBLIC")
        connection.execute(script)
        rows = connection.execute(
            "SELECT has_table_privilege('authserver_app', 'signing_keys', 'INSERT'),"
            " has_table_privilege('authserver_app', 'access_tokens_default', 'SELECT'),"
            " has_table_privilege('pg_monitor', 'clients', 'SELECT'),"
            " has_table_privilege('authserver_app', 'clients', 'SELECT')"
        ).fetchone()
    assert rows == (False, False, False, True)


def test_an_owner_that_is_no_superuser_may_hand_over(make_database, as_administrator, repository):
    """As on a managed PostgreSQL: the present owner of the database and its tables may make roles, and no more."""
    administrator = as_administrator(make_database())
    name, password = f"owner_{secrets.token_hex(4)}", secrets.token_hex(16)
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{password}'")
        # Only an administrator of the two roles may hand them out, and here they are there already.
        connection.execute(f"GRANT authserver_owner, authserver_app TO {name} WITH ADMIN OPTION")
        connection.execute(f"ALTER DATABASE {connection.info.dbname} OWNER TO {name}")
        connection.execute(f"GRANT ALL ON SCHEMA public TO {name} WITH GRANT OPTION")
        hand_over = make_conninfo(administrator, user=name, password=password)
        apply_migrations(hand_over)
        with psycopg.connect(hand_over, autocommit=True) as present:
            present.execute((repository / "sql/roles.sql").read_bytes())
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert owners == [("authserver_owner",)]
        connection.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


def test_a_superuser_hands_over_what_another_role_owns(make_database, as_administrator, repository, serving):
    url = make_database("authserver_test_owner")
    apply_migrations(url)
    with psycopg.connect(as_administrator(url), autocommit=True) as connection:
        connection.execute((repository / "sql/roles.sql").read_bytes())
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert owners == [("authserver_owner",)]
        assert connection.execute(RIGHTS).fetchall() == serving.execute(RIGHTS).fetchall()


def test_the_owner_migrates_an_empty_database_and_gives_the_other_role_its_rights(make_database, serving):
    """As sql/roles.sql says for a new installation; its last step, by hand, is not needed."""
    with psycopg.connect(owner := make_database(), autocommit=True) as connection:
        assert apply_migrations(owner)[len(read_migrations()) :] == [GRANTED]
        assert connection.execute(RIGHTS).fetchall() == serving.execute(RIGHTS).fetchall()
        temporary = "SELECT has_database_privilege('authserver_app', current_database(), 'TEMPORARY')"
        assert connection.execute(temporary).fetchone() == (False,)
        # A migration applied by hand, or a hand that took too much away: the next run mends it.
        connection.execute("REVOKE ALL ON clients FROM authserver_app")
        assert apply_migrations(owner) == [GRANTED, "nothing to do"]
        assert connection.execute("SELECT has_table_privilege('authserver_app', 'clients', 'SELECT')").fetchone() == (
            True,
        )


def test_it_is_no_migration(repository):
    assert "roles" not in {migration.name for migration in read_migrations(repository / "sql")}
