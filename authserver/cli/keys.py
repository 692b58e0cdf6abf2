"""authserver keys list|rotate|revoke"""

from __future__ import annotations

import argparse
import sys

from authserver.cli.common import CommandError, Subparsers, open_server, table, when
from authserver.flows.rotate import NoKeyEncryption, RotationUnderWay, revoke_key, rotate
from authserver.store.signing_keys import NoSuchKey

_NO_ENCRYPTION = "AUTHSERVER_KEY_ENCRYPTION_KEY is not set: signing keys are kept encrypted or not at all"


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("keys", help="show, rotate and revoke the keys that sign JWT access tokens")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser("list", help="one line for each key").set_defaults(run=_list)
    actions.add_parser("rotate", help="make the next key: published at once, signing ten minutes later").set_defaults(
        run=_rotate
    )
    revoke = actions.add_parser("revoke", help="emergency: a key and all tokens that it signed stop working at once")
    revoke.add_argument("kid")
    revoke.set_defaults(run=_revoke)


def _list(_options: argparse.Namespace) -> None:
    with open_server() as server:
        ring, now = server.key_ring.load(), server.now()
    rows = [
        (key.kid, key.alg, ring.state(key, now), when(key.created_at), when(key.signs_from), when(key.revoked_at))
        for key in reversed(ring.keys)
    ]
    print(table(("KEY ID", "ALGORITHM", "STATE", "CREATED", "SIGNS FROM", "REVOKED"), rows))


def _rotate(_options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            key = rotate(server, _tell)
    except RotationUnderWay:
        raise CommandError("the next key is made already and waits for its time: see 'authserver keys list'") from None
    except NoKeyEncryption:
        raise CommandError(_NO_ENCRYPTION) from None
    print(f"{key.kid} signs from {when(key.signs_from)} on")


def _revoke(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            substitute = revoke_key(server, options.kid, _tell)
    except NoSuchKey:
        raise CommandError(f"there is no key '{options.kid}' that is not revoked already") from None
    except NoKeyEncryption:
        raise CommandError(_NO_ENCRYPTION) from None
    if substitute:
        print(f"{substitute} signs from now on")


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
