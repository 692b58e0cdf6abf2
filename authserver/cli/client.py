"""authserver client create|update|secret|keys|revoke-tokens|delete, and what its other files have"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from typing import Any

from authserver.cli import client_apply, client_binding, client_show
from authserver.cli.client_options import add_metadata_options, say_nothing, with_options
from authserver.cli.common import CommandError, Subparsers, duration, open_server, read_json
from authserver.cli.output import add_json_always, add_yes, confirm
from authserver.flows.register import add_secret, create_client, replace_keys
from authserver.flows.server import AuthorizationServer
from authserver.flows.update_client import update_client
from authserver.oauth.client_assertion import PRIVATE_KEY_JWT
from authserver.oauth.credentials import InvalidLabel
from authserver.oauth.errors import InvalidClientMetadata
from authserver.oauth.public_keys import ALGORITHMS
from authserver.oauth.registration import ClientMetadata
from authserver.store.clients import (
    ChangedMeanwhile,
    ClientExists,
    NoSuchClient,
    NoSuchSecret,
    ResourceIdentifierTaken,
    SecretLabelExists,
)

_TAKEN = "another client has that --resource; add --share-resource if both should have it"


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("client", help="make, show and delete clients and their secrets")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_create(actions)
    update = actions.add_parser("update", help="change what the options say, and nothing else (keys: 'client keys')")
    update.add_argument("client_id")
    add_metadata_options(update)
    update.set_defaults(run=partial(_update, update))
    client_show.add_to(actions)
    client_apply.add_to(actions)
    _add_secret(actions)
    keys = actions.add_parser("keys", help="let a client prove itself with these keys only; others and secrets end")
    keys.add_argument("client_id")
    _add_key_options(keys, required=True)
    keys.set_defaults(run=_keys)
    revoke = actions.add_parser("revoke-tokens", help="make all tokens inactive that it has been issued up to now")
    revoke.add_argument("client_id")
    add_yes(revoke)
    revoke.set_defaults(run=_revoke_tokens)
    client_binding.add_to(actions)
    delete = actions.add_parser("delete", help="delete a client; its tokens stop working at once")
    delete.add_argument("client_id")
    add_yes(delete)
    delete.set_defaults(run=_delete)


def _add_create(actions: Subparsers) -> None:
    create = actions.add_parser("create", help="make a client and print its id and secret, this once, as JSON")
    create.add_argument("client_id")
    add_metadata_options(create)
    _add_key_options(create, required=False)
    create.add_argument("--no-secret", action="store_true", help="it is to be bound to a workload (see 'client bind')")
    add_json_always(create)
    create.set_defaults(run=_create)


def _add_key_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    where = parser.add_mutually_exclusive_group(required=required)
    where.add_argument("--jwks", metavar="FILE", help="its public keys (a JWK Set): it uses private_key_jwt, no secret")
    where.add_argument("--jwks-uri", metavar="URL", help="where its public keys are, likewise")
    parser.add_argument("--signing-alg", choices=ALGORITHMS, help="of its assertions (default: any its keys permit)")


def _add_secret(actions: Subparsers) -> None:
    secret = actions.add_parser("secret", help="add and remove secrets: a client may have several")
    secrets = secret.add_subparsers(metavar="ACTION", required=True)
    add = secrets.add_parser("add", help="make one more secret and print it, this once, as JSON")
    add.add_argument("client_id")
    add.add_argument("--label", required=True)
    add.add_argument("--expires", type=duration, metavar="DURATION", help="such as 12h or 30d (default: never)")
    add_json_always(add)
    add.set_defaults(run=_secret_add)
    remove = secrets.add_parser("remove", help="withdraw a secret; it stops working at once")
    remove.add_argument("client_id")
    remove.add_argument("--label", required=True)
    add_yes(remove, "do not ask, also if it is the last one that has not expired")
    remove.set_defaults(run=_secret_remove)


def _key_metadata(options: argparse.Namespace) -> dict[str, Any]:
    if not (options.jwks or options.jwks_uri or options.signing_alg or getattr(options, "no_secret", False)):
        return {}
    return {
        "token_endpoint_auth_method": PRIVATE_KEY_JWT,
        "token_endpoint_auth_signing_alg": options.signing_alg,
        "jwks": read_json(options.jwks) if options.jwks else None,
        "jwks_uri": options.jwks_uri,
    }


def _create(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            metadata = replace(with_options(ClientMetadata(), options), **_key_metadata(options))
            made = create_client(
                server,
                options.client_id,
                metadata,
                with_secret=metadata.token_endpoint_auth_method != PRIVATE_KEY_JWT,
                share_resources=options.share_resource,
            )
    except InvalidClientMetadata as error:
        raise CommandError(error.description) from None
    except ClientExists:
        raise CommandError(f"there is a client '{options.client_id}' already") from None
    except ResourceIdentifierTaken:
        raise CommandError(_TAKEN) from None
    print(json.dumps({"client_id": made.client_id} | ({"client_secret": made.secret} if made.secret else {})))


def _update(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if say_nothing(options):
        parser.error("nothing to change: give an option that says what")
    try:
        with open_server() as server:
            update_client(
                server,
                options.client_id,
                lambda before: with_options(before, options),
                share_resources=options.share_resource,
            )
    except NoSuchClient:
        raise _no_client(options) from None
    except InvalidClientMetadata as error:
        raise CommandError(error.description) from None
    except ResourceIdentifierTaken:
        raise CommandError(_TAKEN) from None
    except ChangedMeanwhile:
        raise CommandError("the client was changed by another command at the same moment: try again") from None


def _secret_add(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            expires_at = server.now() + options.expires if options.expires else None
            secret = add_secret(server, options.client_id, options.label, expires_at)
    except NoSuchClient:
        raise _no_client(options) from None
    except InvalidLabel as error:
        raise CommandError(f"--label: {error}") from None
    except InvalidClientMetadata as error:
        raise CommandError(error.description) from None
    except SecretLabelExists:
        raise CommandError(f"the client has a secret labelled '{options.label}' already") from None
    print(json.dumps({"client_id": options.client_id, "label": options.label, "client_secret": secret}))


def _secret_remove(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            client = server.clients.load(options.client_id)
            if client is None:
                raise _no_client(options)
            good = {s.label for s in client.secrets if s.expires_at is None or s.expires_at > server.now()}
            if options.label not in {secret.label for secret in client.secrets}:
                raise NoSuchSecret(options.label)
            confirm(
                options,
                f"'{options.label}' is the last secret of '{options.client_id}', which then cannot authenticate"
                if good == {options.label}
                else f"the secret '{options.label}' of '{options.client_id}' stops working at once",
            )
            server.clients.remove_secret(options.client_id, options.label)
    except NoSuchSecret:
        raise CommandError(f"'{options.client_id}' has no secret labelled '{options.label}'") from None


def _revoke_tokens(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            _require_client(server, options)
            confirm(options, f"all tokens of '{options.client_id}' stop working at once")
            server.clients.revoke_tokens(options.client_id)
    except NoSuchClient:
        raise _no_client(options) from None


def _keys(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            replace_keys(server, options.client_id, ClientMetadata(**_key_metadata(options)))
    except NoSuchClient:
        raise _no_client(options) from None
    except InvalidClientMetadata as error:
        raise CommandError(error.description) from None


def _delete(options: argparse.Namespace) -> None:
    try:
        with open_server() as server:
            _require_client(server, options)
            confirm(
                options, f"client '{options.client_id}' is deleted, and its secrets and tokens stop working at once"
            )
            server.clients.delete(options.client_id)
    except NoSuchClient:
        raise _no_client(options) from None


def _require_client(server: AuthorizationServer, options: argparse.Namespace) -> None:
    if server.clients.load(options.client_id) is None:
        raise _no_client(options)


def _no_client(options: argparse.Namespace) -> CommandError:
    return CommandError(f"there is no client '{options.client_id}'")
