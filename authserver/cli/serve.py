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
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", configuration])  # noqa: S606 - this interpreter
