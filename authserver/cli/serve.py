"""authserver serve"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.resources import files

from authserver.cli.common import Subparsers
from authserver.config import read_config


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser("serve", help="run the authorization server under gunicorn")
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> None:
    """Become gunicorn, so that its signals and exit status are this process's own."""
    read_config(os.environ)
    configuration = str(files("authserver") / "gunicorn_conf.py")
    # At a USR2 gunicorn starts itself again by the path of its file: without this its directory, which has a module
    # `http`, would hide the standard library's.
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", configuration])  # noqa: S606 - this interpreter
