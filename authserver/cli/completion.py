"""authserver completion"""

from __future__ import annotations

import argparse

from authserver.cli.common import CommandError, Subparsers


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("completion", help="print the completion of these commands for a shell")
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise CommandError("completion needs the extra completion: pip install 'authserver[completion]'") from None
    from authserver.cli import make_parser  # noqa: PLC0415 - which has this command among its own

    print(shtab.complete(make_parser(), options.shell))
