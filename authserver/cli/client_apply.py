"""authserver client apply|export"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import yaml

from authserver.cli.common import CommandError, Subparsers, open_server
from authserver.cli.documents import Document, read_document
from authserver.cli.output import add_json, add_yes, confirm, emit
from authserver.cli.secret_files import secret_files
from authserver.flows.apply_clients import (
    CREATE,
    DELETE,
    UPDATE,
    Applied,
    CannotApply,
    Change,
    Detail,
    apply_clients,
)
from authserver.flows.server import AuthorizationServer
from authserver.oauth.client_document import (
    DeclaredClients,
    DeclaredSecret,
    InvalidDocument,
    Mistake,
    client_entry,
    read_clients,
)
from authserver.oauth.registration import metadata_of

DIFFERENCES = 3  # the exit status of --exit-code
_SIGNS = {CREATE: "+", UPDATE: "~", DELETE: "-"}
_INDENT, _ENDS = "    ", "  - ends: "
_NO_CREDENTIAL = "the client has no secret, key or binding then, and so cannot authenticate"


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
    apply.set_defaults(run=partial(_apply, apply))
    export = actions.add_parser("export", help="print the document that declares the clients, but for their secrets")
    export.add_argument("client_id", nargs="*", help="only these (default: all that did not register themselves)")
    export.add_argument("--managed-by", metavar="NAME", help="only those of this mark")
    add_json(export)
    export.set_defaults(run=_export)


def _apply(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.exit_code and not options.dry_run:
        parser.error("--exit-code needs --dry-run")
    document = read_document(options.file)
    try:
        declared = read_clients(document.value)
    except InvalidDocument as error:
        raise CommandError(*_lines(document, error.mistakes)) from None
    if options.prune and declared.managed_by is None:
        raise CommandError(
            f"{document.source}: --prune needs managed_by in the document: the mark of what it may delete"
        )
    with (
        open_server(patient=True) as server,
        secret_files(document.directory, _secrets(document, declared), may_be_elsewhere=options.dry_run) as (
            files,
            problems,
        ),
    ):
        apply = partial(apply_clients, server, declared, files, prune=options.prune)
        planned = _attempt(document, problems, partial(apply, keep=False))
        changes = planned.changes
        if not options.dry_run and changes:
            _agree(options, changes)
            _attempt(document, (), partial(apply, agreed=lambda done: _same(changes, done)))
    warnings = [f"{document.at(place)}: {_NO_CREDENTIAL}" for place in planned.without_credential]
    for line in warnings:
        print(f"authserver: warning: {line}", file=sys.stderr)
    facts = {"changes": [_facts(change) for change in changes], "warnings": warnings}
    emit(options, facts, lambda: _text(changes))
    return DIFFERENCES if options.exit_code and changes else 0


def _secrets(document: Document, declared: DeclaredClients) -> dict[str, DeclaredSecret]:
    """By where the document names the file of each."""
    return {
        document.at(("clients", i, "secrets", j, "file")): secret
        for i, client in enumerate(declared.clients)
        for j, secret in enumerate(client.secrets or ())
    }


def _lines(document: Document, mistakes: Iterable[Mistake]) -> list[str]:
    ordered = sorted(mistakes, key=lambda mistake: document.line(mistake.place))
    return [f"{document.at(mistake.place)}: {mistake.problem}" for mistake in ordered]


def _attempt(document: Document, problems: Sequence[str], apply: Callable[[], Applied]) -> Applied:
    """What was applied. Raises CommandError with the problems that there are already and all mistakes that it finds."""
    try:
        done = apply()
    except CannotApply as error:
        raise CommandError(*problems, *_lines(document, error.mistakes)) from None
    if problems:
        raise CommandError(*problems)
    return done


def _agree(options: argparse.Namespace, planned: Sequence[Change]) -> None:
    if ending := [change for change in planned if change.ends]:
        confirm(options, f"{_text(ending)}\nthis ends what works now")


def _same(planned: Sequence[Change], done: Sequence[Change]) -> None:
    if [*planned] != [*done]:
        raise CommandError("the clients were changed by another command at the same moment: try again")


def _facts(change: Change) -> dict[str, Any]:
    details = [asdict(detail) for detail in change.details]
    return {"client_id": change.client_id, "action": change.action, "ends": change.ends, "details": details}


def _text(changes: Sequence[Change]) -> str:
    lines = []
    for change in changes:
        lines.append(f"{_SIGNS[change.action]} {change.client_id}")
        if change.action == DELETE:
            lines.append(f"{_ENDS}the client, with its secrets, bindings and tokens")
        lines += [f"{_ENDS if detail.ends else _INDENT}{_line(detail)}" for detail in change.details]
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
