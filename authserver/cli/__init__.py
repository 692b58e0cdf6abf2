"""The command line: one command per file.

Exit status: 0 done, 1 it could not be done (one line on standard error says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from authserver import __version__
from authserver.cli import client, config, dev, initial_access_token, keys, maintain, migrate, serve
from authserver.cli.common import CommandError
from authserver.config import ConfigError
from authserver.store.database import Unavailable

_COMMANDS = (serve, migrate, maintain, client, initial_access_token, keys, config, dev)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
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
        options.run(options)
        sys.stdout.flush()
    except (CommandError, ConfigError) as error:
        return _fail(str(error))
    except Unavailable as error:
        return _fail(f"the database is not available: {error}")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would write what is left once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def _fail(message: str) -> int:
    print(f"authserver: {message}", file=sys.stderr)
    return 1
