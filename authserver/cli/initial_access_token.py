"""authserver initial-access-token create|list|remove"""

from __future__ import annotations

import argparse

from authserver.cli.common import CommandError, Subparsers, duration, open_server, table, when
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
    actions.add_parser("list", help="show the labels and expiries").set_defaults(run=_list)
    remove = actions.add_parser("remove", help="withdraw a token; what was registered with it stays")
    remove.add_argument("label")
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
    print(token)


def _list(_options: argparse.Namespace) -> None:
    with open_server() as server:
        rows = [(t.label, when(t.created_at), when(t.expires_at)) for t in server.initial_access_tokens.list()]
    print(table(("LABEL", "CREATED", "EXPIRES"), rows))


def _remove(options: argparse.Namespace) -> None:
    with open_server() as server:
        try:
            server.initial_access_tokens.remove(options.label)
        except NoSuchLabel:
            raise CommandError(f"there is no token labelled '{options.label}'") from None
