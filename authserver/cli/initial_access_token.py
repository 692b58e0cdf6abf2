"""authserver initial-access-token create|list|remove"""

from __future__ import annotations

import argparse

from authserver.cli.common import CommandError, Subparsers, duration, for_people, open_server, timestamp
from authserver.cli.output import add_json, add_yes, confirm, emit, emit_rows
from authserver.oauth.credentials import (
    INITIAL_ACCESS_TOKEN,
    InvalidLabel,
    check_label,
    hash_credential,
    make_credential,
)
from authserver.store.initial_access_tokens import LabelExists, NoSuchLabel


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("initial-access-token", help="decide who may register clients over HTTP")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a token and print it, this once")
    create.add_argument("label", help="what it is for")
    create.add_argument("--expires", type=duration, metavar="DURATION", help="such as 12h or 30d (default: never)")
    create.set_defaults(run=_create)
    all_ = actions.add_parser("list", help="show the labels and expiries")
    all_.set_defaults(run=_list)
    for parser in (create, all_):
        add_json(parser)
    remove = actions.add_parser("remove", help="withdraw a token; what was registered with it stays")
    remove.add_argument("label")
    add_yes(remove)
    remove.set_defaults(run=_remove)


def _create(options: argparse.Namespace) -> None:
    try:
        check_label(options.label)
    except InvalidLabel as error:
        raise CommandError(str(error)) from None
    with open_server() as server:
        token = make_credential(INITIAL_ACCESS_TOKEN, server.random)
        expires_at = server.now() + options.expires if options.expires else None
        try:
            server.initial_access_tokens.add(options.label, hash_credential(token), expires_at)
        except LabelExists:
            raise CommandError(f"there is a token labelled '{options.label}' already") from None
    emit(options, {"label": options.label, "expires_at": timestamp(expires_at), "initial_access_token": token}, token)


def _list(options: argparse.Namespace) -> None:
    with open_server() as server:
        tokens = server.initial_access_tokens.list()
    rows = [
        {"label": t.label, "created_at": timestamp(t.created_at), "expires_at": timestamp(t.expires_at)} for t in tokens
    ]
    emit_rows(
        options,
        rows,
        {
            "LABEL": lambda row: row["label"],
            "CREATED": lambda row: for_people(row["created_at"]),
            "EXPIRES": lambda row: for_people(row["expires_at"]),
        },
    )


def _remove(options: argparse.Namespace) -> None:
    with open_server() as server:
        try:
            if options.label not in {token.label for token in server.initial_access_tokens.list()}:
                raise NoSuchLabel(options.label)
            confirm(options, f"nobody can register with the token '{options.label}' any more")
            server.initial_access_tokens.remove(options.label)
        except NoSuchLabel:
            raise CommandError(f"there is no token labelled '{options.label}'") from None
