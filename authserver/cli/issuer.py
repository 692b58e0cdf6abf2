"""authserver issuer add|list|show|keys|check|remove"""

from __future__ import annotations

import argparse
import json
import time

from authserver.cli.common import CommandError, Subparsers, open_server, read_json, table
from authserver.fetch.documents import DEADLINE, FetchFailed
from authserver.flows.workload_proof import fetch_keys
from authserver.oauth.public_keys import ALGORITHMS, InvalidKeySet, RegisteredKeys
from authserver.oauth.trusted_issuer import InvalidIssuer, TrustedIssuer, check_issuer
from authserver.store.trusted_issuers import IssuerExists, NoSuchIssuer


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("issuer", help="trust the tokens of a cluster or another issuer as client credentials")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="declare an issuer; its subjects are then bound with 'client bind'")
    add.add_argument("issuer", help="what its tokens say in iss; without --jwks the URL to find its keys by")
    add.add_argument("--name", required=True, help="what commands call it: a-z, 0-9, '.', '_', '-'")
    add.add_argument("--audience", required=True, help="what aud must hold; tells issuers of one iss apart")
    add.add_argument("--jwks", metavar="FILE", help="its keys (a JWK Set), instead of finding them by its URL")
    add.add_argument("--alg", action="append", choices=ALGORITHMS, help="may be repeated (default: all of them)")
    add.add_argument("--subject-claim", default="sub", metavar="CLAIM", help="names the workload (default: sub)")
    add.set_defaults(run=_add)
    actions.add_parser("list", help="one line for each issuer").set_defaults(run=_list)
    for name, run, help_ in (
        ("show", _show, "everything known of an issuer, with its bindings, as JSON"),
        ("check", _check, "fetch its keys as the server does, and say what was found"),
        ("remove", _remove, "trust it no longer, at once; its bindings go with it"),
    ):
        action = actions.add_parser(name, help=help_)
        action.add_argument("name")
        action.set_defaults(run=run)
    keys = actions.add_parser("keys", help="replace the keys of an issuer that was added with --jwks")
    keys.add_argument("name")
    keys.add_argument("--jwks", metavar="FILE", required=True)
    keys.set_defaults(run=_keys)


def _add(options: argparse.Namespace) -> None:
    keys = RegisteredKeys(read_json(options.jwks)) if options.jwks else None
    issuer = TrustedIssuer(
        0, options.name, options.issuer, options.audience, keys, options.alg or ALGORITHMS, options.subject_claim
    )
    try:
        check_issuer(issuer)
        with open_server() as server:
            if keys is None:
                server.fetcher.check_url(issuer.issuer)
            server.trusted_issuers.add(issuer)
    except InvalidIssuer as error:
        raise CommandError(str(error)) from None
    except FetchFailed as error:
        raise CommandError(f"the issuer's keys cannot be found by its URL: {error}; give them with --jwks") from None
    except IssuerExists:
        raise CommandError("there is an issuer of this name, or of this issuer and audience, already") from None


def _list(_options: argparse.Namespace) -> None:
    with open_server() as server:
        issuers = server.trusted_issuers.list()
    rows = [(i.name, i.issuer, i.audience, "given" if i.jwks else "by discovery") for i in issuers]
    print(table(("NAME", "ISSUER", "AUDIENCE", "KEYS"), rows))


def _show(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            issuer = server.trusted_issuers.get(options.name)
            bindings = server.trusted_issuers.bindings(issuer=options.name)
    except NoSuchIssuer:
        raise _no_issuer(options) from None
    document = {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "audience": issuer.audience,
        "algorithms": list(issuer.algorithms),
        "subject_claim": issuer.subject_claim,
        "jwks": issuer.jwks.document if issuer.jwks else None,
        "bindings": [{"subject": b.subject, "client_id": b.client_id} for b in bindings],
    }
    print(json.dumps(document, indent=2))


def _check(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            issuer = server.trusted_issuers.get(options.name)
            deadline = time.monotonic() + DEADLINE
            found = issuer.jwks.key_set if issuer.jwks else fetch_keys(server.fetcher, issuer.issuer, deadline)
    except NoSuchIssuer:
        raise _no_issuer(options) from None
    except (FetchFailed, InvalidKeySet) as error:
        raise CommandError(f"the key set of '{options.name}': {error}") from None
    print(table(("KID", "ALGORITHMS"), [(key.kid or "", " ".join(key.algorithms)) for key in found.keys]))


def _keys(options: argparse.Namespace) -> None:
    keys = RegisteredKeys(read_json(options.jwks))
    try:
        with open_server() as server:
            issuer = server.trusted_issuers.get(options.name)
            check_issuer(TrustedIssuer(0, issuer.name, issuer.issuer, issuer.audience, keys, issuer.algorithms))
            server.trusted_issuers.replace_keys(options.name, keys)
    except InvalidIssuer as error:
        raise CommandError(str(error)) from None
    except NoSuchIssuer:
        raise CommandError(f"there is no issuer '{options.name}' that was added with --jwks") from None


def _remove(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            server.trusted_issuers.remove(options.name)
    except NoSuchIssuer:
        raise _no_issuer(options) from None


def _no_issuer(options: argparse.Namespace) -> CommandError:
    return CommandError(f"there is no issuer '{options.name}'")
