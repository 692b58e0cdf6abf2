"""authserver client apply|export"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import yaml

from authserver.cli.common import CommandError, Subparsers, open_server
from authserver.cli.documents import read_document
from authserver.cli.output import add_json, add_yes, confirm, emit
from authserver.cli.secret_files import secret_files
from authserver.flows.apply_clients import CREATE, DELETE, UPDATE, CannotApply, Change, Detail, apply_clients
from authserver.flows.server import AuthorizationServer
from authserver.oauth.client_document import (
    DeclaredClients,
    InvalidDocument,
    Place,
    client_entry,
    read_clients,
)
from authserver.oauth.registration import metadata_of

DIFFERENCES = 3  # the exit status of --exit-code
_SIGNS = {CREATE: "+", UPDATE: "~", DELETE: "-"}


def add_to(actions: Subparsers) -> None:
    apply = actions.add_parser("apply", help="bring clients to what a document declares, all of it or nothing")
    apply.add_argument("-f", "--file", required=True, help="YAML or JSON (docs/clients.md); - for standard input")
    apply.add_argument("--dry-run", action="store_true", help="only say what would change")
    apply.add_argument(
        "--exit-code", action="store_true", help=f"with --dry-run: exit status {DIFFERENCES} if anything would change"
    )
    apply.add_argument("--prune", action="store_true", help="delete clients of the same managed_by that are not in it")
    add_yes(apply, "do not ask before something that works stops working")
    add_json(apply)
    apply.set_defaults(run=_apply)
    export = actions.add_parser("export", help="print the document that declares the clients, but for their secrets")
    export.add_argument("client_id", nargs="*", help="only these (default: all that did not register themselves)")
    export.add_argument("--managed-by", metavar="NAME", help="only those of this mark")
    add_json(export)
    export.set_defaults(run=_export)


def _apply(options: argparse.Namespace) -> int:
    document = read_document(options.file)
    try:
        declared = read_clients(document.value)
    except InvalidDocument as error:
        raise CommandError(f"{document.at(error.place)}: {error.problem}") from None
    if options.prune and declared.managed_by is None:
        raise CommandError(
            f"{document.source}: --prune needs managed_by in the document: the mark of what it may delete"
        )
    secrets = [secret for client in declared.clients for secret in client.secrets or ()]
    try:
        with (
            open_server(patient=True) as server,
            secret_files(document.directory, secrets, may_be_elsewhere=options.dry_run) as files,
        ):
            planned = apply_clients(server, declared, files, prune=options.prune, keep=False)
            if not options.dry_run and planned:
                _agree(options, planned)
                apply_clients(server, declared, files, prune=options.prune, agreed=lambda done: _same(planned, done))
    except CannotApply as error:
        raise CommandError(f"{document.at(_place(declared, error.client_id))}: {error.problem}") from None
    emit(options, {"changes": [_facts(change) for change in planned]}, lambda: _text(planned))
    return DIFFERENCES if options.exit_code and options.dry_run and planned else 0


def _agree(options: argparse.Namespace, planned: Sequence[Change]) -> None:
    if ending := [change for change in planned if change.ends]:
        confirm(options, f"{_text(ending)}\nthis ends what works now")


def _same(planned: Sequence[Change], done: Sequence[Change]) -> None:
    if [*planned] != [*done]:
        raise CommandError("the clients were changed by another command at the same moment: try again")


def _place(declared: DeclaredClients, client_id: str) -> Place:
    return next(("clients", at) for at, client in enumerate(declared.clients) if client.client_id == client_id)


def _facts(change: Change) -> dict[str, Any]:
    details = [asdict(detail) for detail in change.details]
    return {"client_id": change.client_id, "action": change.action, "details": details}


def _text(changes: Sequence[Change]) -> str:
    lines = []
    for change in changes:
        lines.append(f"{_SIGNS[change.action]} {change.client_id}")
        lines += [f"    {_line(detail)}" for detail in change.details]
    return "\n".join(lines) or "nothing to do"


def _line(detail: Detail) -> str:
    return f"{detail.what}: {_plain(detail.before)} -> {_plain(detail.after)}"


def _plain(value: Any) -> str:
    if value is None or value in ([], ()):
        return "(none)"
    return (
        " ".join(value)
        if isinstance(value, list | tuple)
        else json.dumps(value)
        if isinstance(value, dict)
        else str(value)
    )


def _export(options: argparse.Namespace) -> None:
    with open_server() as server:
        document = _document(server, options)
    emit(options, document, lambda: yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).rstrip())


def _document(server: AuthorizationServer, options: argparse.Namespace) -> dict[str, Any]:
    known = [client for client in server.clients.list() if not client.self_registered]
    chosen = [
        client
        for client in known
        if (not options.client_id or client.client_id in options.client_id)
        and options.managed_by in (None, client.managed_by)
    ]
    if missing := set(options.client_id) - {client.client_id for client in chosen}:
        raise CommandError(f"there is no client '{min(missing)}' to export")
    entries = []
    for summary in chosen:
        client = server.clients.load(summary.client_id)
        if client is not None:
            bindings = server.trusted_issuers.bindings(client_id=client.client_id)
            entry = client_entry(client.client_id, metadata_of(client), [(b.issuer, b.subject) for b in bindings])
            others = [other for other in known if other.client_id != client.client_id]
            if any(set(other.resource_identifiers) & set(client.resource_identifiers) for other in others):
                entry["share_resource_identifiers"] = True
            entries.append(entry)
    marks = {client.managed_by for client in chosen}
    mark = {"managed_by": marks.pop()} if len(marks) == 1 and marks != {None} else {}
    return {**mark, "clients": entries}
