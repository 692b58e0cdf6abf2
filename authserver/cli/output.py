"""What commands print: for people, or with `--json` for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from authserver.cli.common import CommandError, table

Row = dict[str, Any]


def add_json(parser: argparse.ArgumentParser, help_: str = "print JSON, for programs") -> None:
    """Let a command print for programs."""
    parser.add_argument("--json", action="store_true", help=help_)


def add_json_always(parser: argparse.ArgumentParser) -> None:
    """For a command that prints what it has made, which is there this once, as JSON to everybody."""
    add_json(parser, "print JSON, as it does anyway")


def emit(options: argparse.Namespace, document: object, text: Callable[[], str] | str) -> None:
    """Print the document where `--json` asks for it, otherwise the text."""
    if options.json:
        print(json.dumps(document, indent=2))
        return
    told = text if isinstance(text, str) else text()
    if told:
        print(told)


def emit_for_terminal(options: argparse.Namespace, document: object, text: Callable[[], str]) -> None:
    """Print the text on a terminal, the document where programs read: for what was JSON always."""
    print(text() if sys.stdout.isatty() and not options.json else json.dumps(document, indent=2))


def emit_rows(options: argparse.Namespace, rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]) -> None:
    """Print rows as an array, or as a table of columns: by heading, how a cell is made of a row."""
    emit(options, rows, lambda: table([*columns], [[cell(row) for cell in columns.values()] for row in rows]))


def confirm(options: argparse.Namespace, what: str) -> None:
    """Return if the operator means it: by `--yes`, or by an answer on the terminal. Raises CommandError."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{what}: add --yes to do that without being asked")
    print(f"{what}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done")


def add_yes(parser: argparse.ArgumentParser, help_: str = "do not ask") -> None:
    """Let a destructive command be told beforehand that it is meant."""
    parser.add_argument("--yes", action="store_true", help=help_)
