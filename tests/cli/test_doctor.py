"""`authserver doctor`: each check is ok where all is well, and says what is wrong where something really is."""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg.conninfo import make_conninfo

from authserver.flows.doctor import WARNING, database_checks, examine
from authserver.flows.server import Policy, make_server
from authserver.store.database import Database

Run = Callable[..., subprocess.CompletedProcess[str]]
CHECKS = ["configuration", "database", "schema", "clock", "permissions", "partitions", "signing keys", "secrets"]
CHECKS += ["throttling", "issuer"]
METADATA = "/.well-known/oauth-authorization-server"
KEY = {"AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32)}
DAY = 86400


def certify(directory: Path, days: int) -> tuple[ssl.SSLContext, str]:
    """TLS for 127.0.0.1 by a certificate of its own for so many days; and the file of the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "doctor")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{days}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, str(file)


@pytest.fixture
def https(make_site: Any, tmp_path: Path) -> Callable[[int], tuple[Any, dict[str, str]]]:
    """A server with TLS that answers as an issuer does, and the settings that make it the issuer."""

    def make(days: int) -> tuple[Any, dict[str, str]]:
        context, authority = certify(tmp_path, days)
        site = make_site(context)
        site.pages[METADATA] = {"issuer": site.url}
        return site, {"AUTHSERVER_ISSUER": site.url, "SSL_CERT_FILE": authority}

    return make


@pytest.fixture
def healthy(https: Any, database_url: str, serving_url: str) -> dict[str, str]:
    """The settings of an installation in which all is well."""
    return {**https(60)[1], "AUTHSERVER_DATABASE_URL": serving_url}


@pytest.fixture
def doctor(healthy: dict[str, str], run_forked: Run) -> Callable[..., dict[str, Any]]:
    """What the doctor finds, by check; `status` is the exit status that it must have."""

    def examine(*, status: int = 1, **settings: str) -> dict[str, Any]:
        done = run_forked("authserver", ("doctor", "--json"), os.environ | healthy | settings)
        assert done.returncode == status, done.stdout + done.stderr
        return {check["check"]: check for check in json.loads(done.stdout)["checks"]}

    return examine


@pytest.fixture
def free_port_url() -> str:
    """Where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def operator(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def states(found: dict[str, Any]) -> dict[str, str]:
    """What is not ok."""
    return {name: check["state"] for name, check in found.items() if check["state"] != "ok"}


def test_where_all_is_well_every_check_is_ok(doctor: Any, run: Run, healthy: dict[str, str]) -> None:
    found = doctor(status=0)
    assert list(found) == CHECKS
    assert states(found) == {}
    text = run("doctor", **healthy).stdout
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["ok"] * len(CHECKS)


def test_the_configuration(doctor: Any) -> None:
    found = doctor(AUTHSERVER_THREADS="0")
    assert states(found) == {"configuration": "failed"}
    assert "AUTHSERVER_THREADS must be a whole number" in found["configuration"]["says"]
    found = doctor(status=0, AUTHSERVER_TREADS="4")
    assert states(found) == {"configuration": "warning"}


def test_without_a_database_everything_else_is_still_examined(doctor: Any, tmp_path: Path) -> None:
    found = doctor(AUTHSERVER_DATABASE_URL=f"postgresql:///nothing?host={tmp_path}&password=hunter2")
    assert list(found) == CHECKS
    assert states(found) == dict.fromkeys(CHECKS[1:-1], "failed")
    assert "does not answer" in found["database"]["says"]
    assert "hunter2" not in json.dumps(found)
    found = doctor(AUTHSERVER_DATABASE_URL="nonsense")
    assert states(found) == {"database": "failed"}
    assert found["issuer"]["state"] == "ok"


def test_the_schema(doctor: Any, make_database: Any) -> None:
    found = doctor(AUTHSERVER_DATABASE_URL=make_database())
    assert found["schema"]["state"] == "failed"
    assert "0001_clients.sql" in found["schema"]["says"]
    assert "authserver migrate" in found["schema"]["advice"]
    assert found["secrets"]["says"] == "the schema is behind this release"
    assert found["clock"]["state"] == found["issuer"]["state"] == "ok"


def test_a_newer_schema_is_named(doctor: Any, operator: Any) -> None:
    operator.execute("INSERT INTO schema_migrations (version, name) VALUES (9999, 'of_tomorrow')")
    try:
        found = doctor()
    finally:
        operator.execute("DELETE FROM schema_migrations WHERE version = 9999")
    assert states(found) == {"schema": "failed"}
    assert "9999_of_tomorrow" in found["schema"]["says"]


@pytest.mark.parametrize("offset", [-60, 60])
def test_the_clock(database: Database, offset: int) -> None:
    server = make_server(Policy("https://as.example"), database, clock=lambda: time.time() + offset)
    finding = examine(database_checks(server, 0)["clock"])
    assert (finding.state, finding.says) == (WARNING, "differs from the database's by 60 s")


def test_permissions(doctor: Any, database_url: str, as_administrator: Any, operator: Any, run: Run) -> None:
    # The one connection as a superuser that the project's own code makes in all tests, and so by another name.
    found = doctor(AUTHSERVER_DATABASE_URL=make_conninfo(as_administrator(database_url), application_name="superuser"))
    assert states(found) == {"permissions": "failed"}
    assert "is a superuser" in found["permissions"]["says"]
    found = doctor(status=0, AUTHSERVER_DATABASE_URL=database_url)
    assert states(found) == {"permissions": "warning"}
    operator.execute("REVOKE INSERT ON access_tokens FROM authserver_app")
    operator.execute("REVOKE UPDATE (last_used_at) ON client_secrets FROM authserver_app")
    operator.execute("REVOKE USAGE ON client_versions FROM authserver_app")
    try:
        found = doctor()
    finally:
        run("migrate")
    assert states(found) == {"permissions": "failed"}
    for right in (
        "INSERT on access_tokens",
        "UPDATE of last_used_at on client_secrets",
        "USAGE on client_versions",
    ):
        assert right in found["permissions"]["says"]
    assert "sql/roles.sql" in found["permissions"]["advice"]


def test_partitions(doctor: Any, make_database: Any, run: Run, as_role: Any) -> None:
    url = make_database()
    owner = {"AUTHSERVER_DATABASE_URL": url}
    run("migrate", **owner)
    app = {"AUTHSERVER_DATABASE_URL": as_role(url, "authserver_app")}
    found = doctor(**app)
    assert states(found) == {"partitions": "failed"}
    assert "default partition" in found["partitions"]["says"]
    run("maintain", **owner)
    assert states(doctor(status=0, **app)) == {}

    with psycopg.connect(url, autocommit=True) as connection:
        lower = int(time.time()) - 10 * DAY
        connection.execute(
            f"CREATE TABLE forgotten PARTITION OF access_tokens FOR VALUES FROM ({lower}) TO ({lower + 3600})"
        )
    found = doctor(status=0, **app)
    assert states(found) == {"partitions": "warning"}
    assert "forgotten" in found["partitions"]["says"]
    run("maintain", **owner)
    assert states(doctor(status=0, **app)) == {}

    with psycopg.connect(url, autocommit=True) as connection:
        for name, bounds in connection.execute(
            "SELECT oid::regclass::text, pg_get_expr(relpartbound, oid) FROM pg_class"
            " WHERE relkind = 'r' AND relname ~ '^revocations_2'"
        ).fetchall():
            if int(bounds.split("'")[1]) > time.time() + 1.5 * DAY:
                connection.execute(f"DROP TABLE {name}")
    assert states(doctor(status=0, **app)) == {"partitions": "warning"}


def test_signing_keys(doctor: Any, run: Run, operator: Any) -> None:
    found = doctor(**KEY)
    assert states(found) == {"signing keys": "failed"}
    assert "none signs" in found["signing keys"]["says"]
    run("maintain", **KEY)
    assert states(doctor(status=0, **KEY)) == {}
    (key,) = json.loads(run("keys", "list", "--json").stdout)
    for setting in ({"AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32)}, {}):
        found = doctor(**setting)
        assert states(found) == {"signing keys": "failed"}
        assert f"{key['kid']} cannot be decrypted here" in found["signing keys"]["says"]
        assert "AUTHSERVER_KEY_ENCRYPTION_KEY" in found["signing keys"]["advice"]
    operator.execute(
        f"UPDATE signing_keys SET created_at = created_at - {31 * DAY}, signs_from = signs_from - {31 * DAY}"
    )
    found = doctor(status=0, **KEY)
    assert states(found) == {"signing keys": "warning"}
    assert "overdue" in found["signing keys"]["says"]
    run("keys", "revoke", key["kid"], "--yes")
    assert states(doctor(status=0)) == {}


def test_secrets(doctor: Any, run: Run) -> None:
    run("client", "create", "a")
    run("client", "secret", "add", "a", "--label", "soon", "--expires", "20d")
    found = doctor(status=0)
    assert states(found) == {"secrets": "warning"}
    assert "soon of a" in found["secrets"]["says"]


def test_throttling(doctor: Any, operator: Any) -> None:
    minute = int(time.time()) // 60
    operator.execute("INSERT INTO authentication_failures VALUES (%s, sha256('x'), 10)", (minute,))
    assert states(doctor(status=0)) == {"throttling": "warning"}


def test_an_issuer_that_is_not_there(doctor: Any, make_site: Any, free_port_url: str) -> None:
    found = doctor(AUTHSERVER_ISSUER=free_port_url)
    assert states(found) == {"issuer": "failed"}
    assert "ConnectionRefusedError" in found["issuer"]["says"]
    site = make_site()
    assert "answers 404" in doctor(AUTHSERVER_ISSUER=site.url)["issuer"]["says"]
    site.pages[METADATA] = b"<html>"
    assert "is no JSON" in doctor(AUTHSERVER_ISSUER=site.url)["issuer"]["says"]
    site.pages[METADATA] = {"issuer": "https://somebody.else.example"}
    found = doctor(AUTHSERVER_ISSUER=site.url)
    assert states(found) == {"issuer": "failed"}
    assert "somebody.else" in found["issuer"]["says"]
    site.pages[METADATA] = {"issuer": site.url}
    found = doctor(status=0, AUTHSERVER_ISSUER=site.url)
    assert states(found) == {"issuer": "warning"}
    assert "without TLS" in found["issuer"]["says"]
    site.pages[METADATA + "/tenant"] = {"issuer": site.url + "/tenant"}
    assert states(doctor(status=0, AUTHSERVER_ISSUER=site.url + "/tenant")) == {"issuer": "warning"}


def test_certificates(doctor: Any, https: Any) -> None:
    site, soon = https(10)
    found = doctor(status=0, **soon)
    assert states(found) == {"issuer": "warning"}
    assert "expires in 10 days" in found["issuer"]["says"]
    _, expired = https(-10)
    found = doctor(**expired)
    assert states(found) == {"issuer": "failed"}
    assert "certificate has expired" in found["issuer"]["says"]
    found = doctor(AUTHSERVER_ISSUER=site.url)
    assert "its certificate is not good" in found["issuer"]["says"]
    wrong_name = soon["AUTHSERVER_ISSUER"].replace("127.0.0.1", "localhost")
    assert "its certificate is not good" in doctor(**soon | {"AUTHSERVER_ISSUER": wrong_name})["issuer"]["says"]


def test_one_broken_check_is_a_finding_like_others() -> None:
    def broken() -> Any:
        raise RuntimeError("hunter2")

    finding = examine(broken)
    assert (finding.state, finding.says) == ("failed", "the check itself failed: RuntimeError")
