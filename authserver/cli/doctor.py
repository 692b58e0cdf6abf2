"""authserver doctor"""

from __future__ import annotations

import argparse
import os
import ssl
import time
from collections.abc import Mapping

from authserver.cli.common import Subparsers, open_server, table
from authserver.cli.output import add_json, emit
from authserver.config import ConfigError, read_config, read_one, unknown_variables
from authserver.fetch.own_issuer import NotReached, ask_issuer, metadata_url
from authserver.flows.doctor import FAILED, OK, WARNING, Finding, database_checks, examine
from authserver.oauth.secret_evidence import DAY

CERTIFICATE_SOON = 14 * DAY


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "doctor", help="examine a running installation and say what to do; exit status 1 if a check failed"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    findings = {"configuration": examine(_configuration), **_in_the_database(), "issuer": examine(_issuer)}
    rows = [
        {"check": name, "state": finding.state, "says": finding.says, "advice": finding.advice}
        for name, finding in findings.items()
    ]
    emit(options, {"checks": rows}, lambda: _text(findings))
    return int(any(finding.state == FAILED for finding in findings.values()))


def _in_the_database() -> dict[str, Finding]:
    try:
        with open_server() as server:
            checks = database_checks(server, read_one("KEY_ROTATION_DAYS", os.environ) * DAY)
            return {name: examine(check) for name, check in checks.items()}
    except ConfigError as error:
        broken = Finding(FAILED, str(error), "set it as for 'authserver serve'")
        return {"database": broken}


def _configuration() -> Finding:
    try:
        read_config(os.environ)
    except ConfigError as error:
        return Finding(FAILED, str(error), "see 'authserver config'")
    if lines := unknown_variables(os.environ):
        return Finding(WARNING, lines[0], "remove it, or spell it right")
    return Finding(OK, "every setting can be read")


def _issuer() -> Finding:
    try:
        issuer: str = read_one("ISSUER", os.environ)
    except ConfigError as error:
        return Finding(FAILED, str(error), "set it as for 'authserver serve'")
    where = metadata_url(issuer)
    try:
        reached = ask_issuer(issuer, ssl.create_default_context())
    except NotReached as error:
        return Finding(
            FAILED,
            f"{where} cannot be had from here: {error}",
            "see to DNS, the proxy and its certificate (SSL_CERT_FILE names an authority of your own)",
        )
    named = reached.document.get("issuer") if isinstance(reached.document, Mapping) else None
    if named != issuer:
        return Finding(
            FAILED, f"{where} is of another issuer: {named!r:.200}", "AUTHSERVER_ISSUER is the URL that clients use"
        )
    return _certificate(reached.certificate_expires_at)


def _certificate(expires_at: int | None) -> Finding:
    if expires_at is None:
        return Finding(WARNING, "answers as itself, but without TLS", "secrets and tokens need https on any network")
    left = int(expires_at - time.time()) // DAY
    if left * DAY < CERTIFICATE_SOON:
        return Finding(WARNING, f"answers as itself; its certificate expires in {left} days", "renew it")
    return Finding(OK, f"answers as itself; its certificate is good for {left} days")


def _text(findings: Mapping[str, Finding]) -> str:
    rows = [
        (finding.state, name, finding.says + (f" -> {finding.advice}" if finding.advice else ""))
        for name, finding in findings.items()
    ]
    return table(("STATE", "CHECK", "FINDING"), rows)
