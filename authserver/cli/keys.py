"""authserver keys list|rotate|revoke"""

from __future__ import annotations

import argparse
import sys

from authserver.cli.common import CommandError, Subparsers, for_people, open_server, timestamp, when
from authserver.cli.output import add_json, add_yes, confirm, emit, emit_rows
from authserver.flows.rotate import NoKeyEncryption, RotationUnderWay, revoke_key, rotate
from authserver.flows.server import AuthorizationServer
from authserver.oauth.jose import CannotDecrypt
from authserver.oauth.signing_keys import NoSigningKey
from authserver.store.signing_keys import NoSuchKey

_NOT_THEIRS = (
    "AUTHSERVER_KEY_ENCRYPTION_KEY lacks the key that a signing key in use is encrypted with: "
    "the servers could not use what is made with another one"
)
_NONE_SIGNS = (
    "no key signs now and no JWT can be issued: "
    "run 'authserver keys rotate' with the servers' AUTHSERVER_KEY_ENCRYPTION_KEY"
)
_NO_ENCRYPTION = "AUTHSERVER_KEY_ENCRYPTION_KEY is not set: signing keys are kept encrypted or not at all"


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("keys", help="show, rotate and revoke the keys that sign JWT access tokens")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    all_ = actions.add_parser("list", help="one line for each key")
    all_.set_defaults(run=_list)
    next_ = actions.add_parser("rotate", help="make the next key: published at once, signing ten minutes later")
    next_.set_defaults(run=_rotate)
    revoke = actions.add_parser("revoke", help="emergency: a key and all tokens that it signed stop working at once")
    revoke.add_argument("kid")
    add_yes(revoke)
    revoke.set_defaults(run=_revoke)
    for parser in (all_, next_, revoke):
        add_json(parser)


def _list(options: argparse.Namespace) -> None:
    with open_server() as server:
        ring, now = server.key_ring.load(), server.now()
    rows = [
        {
            "kid": key.kid,
            "alg": key.alg,
            "state": ring.state(key, now),
            "created_at": timestamp(key.created_at),
            "signs_from": timestamp(key.signs_from),
            "revoked_at": timestamp(key.revoked_at),
        }
        for key in reversed(ring.keys)
    ]
    emit_rows(
        options,
        rows,
        {
            "KEY ID": lambda row: row["kid"],
            "ALGORITHM": lambda row: row["alg"],
            "STATE": lambda row: row["state"],
            "CREATED": lambda row: for_people(row["created_at"]),
            "SIGNS FROM": lambda row: for_people(row["signs_from"]),
            "REVOKED": lambda row: for_people(row["revoked_at"]),
        },
    )


def _rotate(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            key = rotate(server, _tell)
    except RotationUnderWay:
        raise CommandError("the next key is made already and waits for its time: see 'authserver keys list'") from None
    except NoKeyEncryption:
        raise CommandError(_NO_ENCRYPTION) from None
    except CannotDecrypt:
        raise CommandError(_NOT_THEIRS) from None
    emit(
        options,
        {"kid": key.kid, "signs_from": timestamp(key.signs_from)},
        f"{key.kid} signs from {when(key.signs_from)} on",
    )


def _revoke(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            if options.kid not in {key.kid for key in server.key_ring.load().keys if key.revoked_at is None}:
                raise NoSuchKey(options.kid)
            confirm(options, f"all tokens that '{options.kid}' has signed stop working at once")
            substitute = revoke_key(server, options.kid, _tell)
            if not _one_signs(server):
                _tell(f"authserver: warning: {_NONE_SIGNS}")
    except NoSuchKey:
        raise CommandError(f"there is no key '{options.kid}' that is not revoked already") from None
    emit(
        options,
        {"revoked": options.kid, "signs_now": substitute},
        f"{substitute} signs from now on" if substitute else "",
    )


def _one_signs(server: AuthorizationServer) -> bool:
    try:
        server.key_ring.load().signing_key(server.now())
    except NoSigningKey:
        return False
    return True


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
