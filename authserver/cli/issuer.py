"""authserver issuer add|list|show|keys|check|remove"""

from __future__ import annotations

import argparse
import time
from typing import Any

from authserver.cli.common import CommandError, Subparsers, open_server, read_json, table
from authserver.cli.output import add_json, add_yes, confirm, emit_for_terminal, emit_rows
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
    all_ = actions.add_parser("list", help="one line for each issuer")
    all_.set_defaults(run=_list)
    add_json(all_)
    for name, run, help_ in (
        ("show", _show, "everything known of an issuer, with its bindings"),
        ("check", _check, "fetch its keys as the server does, and say what was found"),
        ("remove", _remove, "trust it no longer, at once; its bindings go with it"),
    ):
        action = actions.add_parser(name, help=help_)
        action.add_argument("name")
        action.set_defaults(run=run)
        (add_yes if name == "remove" else add_json)(action)
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


def _list(options: argparse.Namespace) -> None:
    with open_server() as server:
        issuers = server.trusted_issuers.list()
    emit_rows(
        options,
        [_facts(issuer) for issuer in issuers],
        {
            "NAME": lambda row: row["name"],
            "ISSUER": lambda row: row["issuer"],
            "AUDIENCE": lambda row: row["audience"],
            "KEYS": lambda row: "given" if row["jwks"] else "by discovery",
        },
    )


def _show(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            issuer = server.trusted_issuers.get(options.name)
            bindings = server.trusted_issuers.bindings(issuer=options.name)
    except NoSuchIssuer:
        raise _no_issuer(options) from None
    document = _facts(issuer) | {"bindings": [{"subject": b.subject, "client_id": b.client_id} for b in bindings]}
    emit_for_terminal(options, document, lambda: _text(document))


def _facts(issuer: TrustedIssuer) -> dict[str, Any]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "audience": issuer.audience,
        "algorithms": list(issuer.algorithms),
        "subject_claim": issuer.subject_claim,
        "jwks": issuer.jwks.document if issuer.jwks else None,
    }


def _text(document: dict[str, Any]) -> str:
    keys = f"{len(document['jwks']['keys'])} given (see --json)" if document["jwks"] else "by discovery"
    facts = document | {"algorithms": " ".join(document["algorithms"]), "jwks": keys}
    lines = [f"{name.ljust(len('subject_claim'))}  {value}" for name, value in facts.items() if name != "bindings"]
    bound = [(each["subject"], each["client_id"]) for each in document["bindings"]]
    return "\n".join(lines) + "\n\n" + (table(("SUBJECT", "CLIENT ID"), bound) if bound else "no bindings")


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
    emit_rows(
        options,
        [{"kid": key.kid, "algorithms": list(key.algorithms)} for key in found.keys],
        {"KID": lambda row: row["kid"] or "", "ALGORITHMS": lambda row: " ".join(row["algorithms"])},
    )


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
            server.trusted_issuers.get(options.name)
            confirm(options, f"tokens of '{options.name}' are no credentials any more, and its bindings are deleted")
            server.trusted_issuers.remove(options.name)
    except NoSuchIssuer:
        raise _no_issuer(options) from None


def _no_issuer(options: argparse.Namespace) -> CommandError:
    return CommandError(f"there is no issuer '{options.name}'")
