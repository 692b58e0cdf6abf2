"""The options of `client create` and `client update` that say what a client may do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from authserver.cli.common import CommandError, duration
from authserver.oauth.client import ACCESS_TOKEN_FORMATS, CLIENT_CREDENTIALS, PERMISSIONS
from authserver.oauth.errors import InvalidScope
from authserver.oauth.registration import MAX_BUDGET, MAX_LIFETIME, ClientMetadata
from authserver.oauth.resource import is_resource_identifier
from authserver.oauth.scope import parse_scope

_THE_SERVERS = "default"


def add_metadata_options(parser: argparse.ArgumentParser) -> None:
    """Options that are None unless given: what is not given stays as it is, or as ClientMetadata has it."""
    several = " (may be repeated; '' for none)"
    parser.add_argument("--name", help="a name for people")
    parser.add_argument(
        "--scope", action="append", help="the scope it may request, words separated by spaces" + several
    )
    parser.add_argument(
        "--default-scope", action="append", metavar="SCOPE", help="what it gets when it requests none (default: all)"
    )
    parser.add_argument("--audience", action="append", metavar="URI", help="a resource to get tokens for" + several)
    parser.add_argument("--resource", action="append", metavar="URI", help="a resource that it is" + several)
    parser.add_argument(
        "--permission",
        action="append",
        choices=[*sorted(PERMISSIONS), ""],
        metavar="PERMISSION",
        help=" or ".join(sorted(PERMISSIONS)) + several,
    )
    parser.add_argument(
        "--access-token-format", "--token-format", choices=ACCESS_TOKEN_FORMATS, help="(default: opaque)"
    )
    parser.add_argument(
        "--access-token-lifetime",
        "--token-lifetime",
        metavar="DURATION",
        help=f"at most 24h; '{_THE_SERVERS}' for the server's",
    )
    parser.add_argument(
        "--tokens-per-minute",
        metavar="NUMBER",
        help=f"how many it may be issued; 0 for any number, '{_THE_SERVERS}' for the server's",
    )
    parser.add_argument(
        "--grant",
        action=argparse.BooleanOptionalAction,
        help="whether it gets tokens (default), or only introspects those of others",
    )
    parser.add_argument("--share-resource", action="store_true", help="allow a --resource that another client has too")


def say_nothing(options: argparse.Namespace) -> bool:
    """Whether none of the options was given that change metadata."""
    return all(value is None for value, _ in _readers(options).values())


def with_options(before: ClientMetadata, options: argparse.Namespace) -> ClientMetadata:
    """The metadata with what the options say in its place. Raises CommandError, which names the option."""
    changes = {member: reader(value) for member, (value, reader) in _readers(options).items() if value is not None}
    if set(before.default_scopes) == set(before.scopes):
        # "All of it" was never chosen, or means the same: it goes on to be all of it.
        changes.setdefault("default_scopes", changes.get("scopes", before.default_scopes))
    return replace(before, **changes)


def _readers(options: argparse.Namespace) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """By member of the metadata: what was given for it, None for nothing, and how it is read."""
    return {
        "client_name": (options.name, lambda name: name or None),
        "scopes": (options.scope, partial(_scope, "--scope")),
        "default_scopes": (options.default_scope, partial(_scope, "--default-scope")),
        "audiences": (options.audience, partial(_uris, "--audience")),
        "resource_identifiers": (options.resource, partial(_uris, "--resource")),
        "permissions": (options.permission, _given),
        "access_token_format": (options.access_token_format, str),
        "access_token_lifetime": (options.access_token_lifetime, _lifetime),
        "tokens_per_minute": (options.tokens_per_minute, _budget),
        "grant_types": (options.grant, lambda grant: [CLIENT_CREDENTIALS] if grant else []),
    }


def _lifetime(text: str) -> int | None:
    if text == _THE_SERVERS:
        return None
    try:
        seconds = duration(text)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"--access-token-lifetime: {error}") from None
    if seconds > MAX_LIFETIME:
        raise CommandError(f"--access-token-lifetime: '{text}' is more than 24h")
    return seconds


def _budget(text: str) -> int | None:
    if text == _THE_SERVERS:
        return None
    if not text.isdecimal() or len(text) > len(str(MAX_BUDGET)):
        raise CommandError(f"--tokens-per-minute: '{text}' is not a number from 0 to {MAX_BUDGET}")
    return int(text)


def _scope(option: str, texts: Sequence[str]) -> list[str]:
    try:
        return parse_scope(" ".join(_given(texts))) if _given(texts) else []
    except InvalidScope as error:
        raise CommandError(f"{option}: {error.description}") from None


def _uris(option: str, uris: Sequence[str]) -> list[str]:
    for uri in _given(uris):
        if not is_resource_identifier(uri):
            raise CommandError(f"{option}: {uri!r} is not an absolute URI without a fragment")
    return _given(uris)


def _given(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
