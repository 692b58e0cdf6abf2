"""authserver client list|show"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from authserver.cli.common import CommandError, Subparsers, for_people, open_server, table, timestamp, when
from authserver.cli.output import add_json, emit_for_terminal, emit_rows
from authserver.oauth.client import Client
from authserver.oauth.registration import metadata_document, metadata_of
from authserver.oauth.secret_evidence import PRECISION, SecretEvidence, weigh
from authserver.store.trusted_issuers import Binding


def add_to(actions: Subparsers) -> None:
    all_ = actions.add_parser("list", help="one line for each client")
    all_.set_defaults(run=_list)
    show = actions.add_parser("show", help="everything known of a client, and which of its secrets may be dropped")
    show.add_argument("client_id")
    show.set_defaults(run=_show)
    for parser in (all_, show):
        add_json(parser)


def _list(options: argparse.Namespace) -> None:
    with open_server() as server:
        clients = server.clients.list()
    rows = [
        {
            "client_id": client.client_id,
            "client_name": client.client_name,
            "scope": " ".join(client.scopes),
            "audiences": list(client.audiences),
            "resource_identifiers": list(client.resource_identifiers),
            "permissions": list(client.permissions),
            "self_registered": client.self_registered,
            "managed_by": client.managed_by,
            "created_at": timestamp(client.created_at),
        }
        for client in clients
    ]
    emit_rows(
        options,
        rows,
        {
            "CLIENT ID": lambda row: row["client_id"],
            "NAME": lambda row: row["client_name"] or "",
            "SCOPE": lambda row: row["scope"],
            "AUDIENCES": lambda row: " ".join(row["audiences"]),
            "RESOURCES": lambda row: " ".join(row["resource_identifiers"]),
            "CREATED": lambda row: for_people(row["created_at"]),
        },
    )


def _show(options: argparse.Namespace) -> None:
    with open_server() as server:
        client, now = server.clients.load(options.client_id), server.now()
        bindings = server.trusted_issuers.bindings(client_id=options.client_id)
    if client is None:
        raise CommandError(f"there is no client '{options.client_id}'")
    evidence = weigh(client.secrets, now)
    document = _document(client, evidence, bindings)
    emit_for_terminal(options, document, lambda: _text(document, evidence, now))


def _document(client: Client, evidence: Sequence[SecretEvidence], bindings: Sequence[Binding]) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "client_name": None,
        "token_endpoint_auth_signing_alg": None,
        "jwks": None,
        "jwks_uri": None,
        **metadata_document(metadata_of(client)),
        "permissions": client.permissions,
        "access_token_lifetime": client.access_token_lifetime,
        "tokens_per_minute": client.tokens_per_minute,
        "managed_by": client.managed_by,
        "created_at": timestamp(client.created_at),
        "secrets": [
            {
                "label": each.secret.label,
                "created_at": timestamp(each.secret.created_at),
                "expires_at": timestamp(each.secret.expires_at),
                "last_used_at": timestamp(each.secret.last_used_at),
                "expired": each.expired,
                "expires_soon": each.expires_soon,
                "safe_to_drop": each.safe_to_drop,
            }
            for each in evidence
        ],
        "bindings": [{"issuer": b.issuer, "subject": b.subject} for b in bindings],
    }


def _text(document: dict[str, Any], evidence: Sequence[SecretEvidence], now: int) -> str:
    facts = [(name, _plain(value)) for name, value in document.items() if name not in ("secrets", "jwks", "bindings")]
    facts += [("jwks", f"{len(document['jwks']['keys'])} keys (see --json)")] if document["jwks"] else []
    facts += [("binding", f"{each['issuer']}: {each['subject']}") for each in document["bindings"]]
    secrets = [
        (
            each.secret.label,
            when(each.secret.created_at),
            when(each.secret.expires_at),
            _last_used(each.secret.last_used_at, now),
            each.advice,
        )
        for each in evidence
    ]
    width = max(len(name) for name, _ in facts)
    lines = "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts if value)
    headings = ("SECRET", "CREATED", "EXPIRES", "LAST USED", "ADVICE")
    return lines + ("\n\n" + table(headings, secrets) if secrets else "\n\nno secrets")


def _plain(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _last_used(seconds: int | None, now: int) -> str:
    if seconds is not None and seconds > now - PRECISION:
        return "within the last hour"
    return when(seconds)
