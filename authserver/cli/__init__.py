"""The command line: one command per file.

Exit status: 0 done, 1 it could not be done (standard error says why), 2 wrong usage. See docs/cli.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Any

from authserver import __version__
from authserver.cli import (
    client,
    completion,
    config,
    dev,
    doctor,
    initial_access_token,
    issuer,
    keys,
    maintain,
    migrate,
    serve,
)
from authserver.cli.common import CommandError
from authserver.config import ConfigError
from authserver.store.database import SchemaBehind, Unavailable

_COMMANDS = (serve, migrate, maintain, client, issuer, initial_access_token, keys, doctor, config, completion, dev)


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg] # noqa: SLF001 - argparse has no public name for it
    """Says in a command's own help, too, what the list of commands says of it."""

    def add_parser(self, name: str, **options: Any) -> Any:
        said: str = options["help"]
        return super().add_parser(name, description=f"{said[0].upper()}{said[1:]}.", **options)


class _Parser(argparse.ArgumentParser):
    """Strict: options are written out, so that a new one never changes what an old line means.

    Refuses by itself what it does not know, with its own usage: argparse leaves that to the top, with the top's.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def add_subparsers(self, **options: Any) -> Any:
        return super().add_subparsers(action=_Commands, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="authserver",
        description="A machine-to-machine OAuth 2.0 authorization server.",
        epilog="Settings are read from AUTHSERVER_... variables: see 'authserver config'.",
    )
    parser.add_argument("--version", action="version", version=f"authserver {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would write what is left once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - a traceback would quote the error's text
        print(f"authserver: {_explain(error)}", file=sys.stderr)
        return 1
    return status or 0


def _explain(error: Exception) -> str:
    match error:
        case CommandError():
            return "\nauthserver: ".join(error.args)
        case ConfigError():
            return str(error)
        case SchemaBehind():
            return "the schema is behind this release: run 'authserver migrate'"
        case Unavailable():
            return f"the database is not available: {error}"
    # Where it happened, and of what kind. Not its text: that may quote a parameter, and parameters are secrets.
    ours = [frame for frame in extract_tb(error.__traceback__) if "authserver" in Path(frame.filename).parts]
    return f"unexpected {type(error).__name__} at {ours[-1].filename}:{ours[-1].lineno}"
