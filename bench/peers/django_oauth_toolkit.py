"""django-oauth-toolkit under gunicorn: as shipped, with secrets hashed like passwords, and with unhashed ones."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from authserver.dev.stack import Stack, free_port
from bench.peers.common import CannotInstall, Peer, cache, database, install, installed, is_installed, rows
from bench.rows import Contender, Row

_HERE = Path(__file__).with_name("django_site")
_PINS = _HERE / "requirements.txt"
_DIFFERENT = 10  # tokens that are introspected in turn; to get one takes a part of a second as shipped


def start(stack: Stack, exits: ExitStack) -> tuple[list[Row], dict[str, str]]:
    """Install it if need be, start it; give its rows and its versions. Raises CannotInstall."""
    home = cache("django-oauth-toolkit", _PINS)
    python = home / "venv/bin/python"
    if not is_installed(home):
        install("django-oauth-toolkit", [sys.executable, "-m", "venv", str(home / "venv")], home)
        install("django-oauth-toolkit", [str(python), "-m", "pip", "install", "--quiet", "-r", str(_PINS)], home)
        installed(home, _PINS)
    parameters = database(stack, "django")
    url = f"http://127.0.0.1:{free_port()}"
    secret = {kind: secrets.token_urlsafe(48) for kind in ("hashed", "unhashed")}
    environment = {
        "DJANGO_SETTINGS_MODULE": "django_site.settings",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(48),
        "PYTHONPATH": str(_HERE.parent),
        "PGHOST": parameters["host"],
        "PGUSER": parameters["user"],
        "PGDATABASE": parameters["dbname"],
        "SECRETS": json.dumps(secret),
    }
    done = subprocess.run(  # noqa: S603 - the interpreter that was made above and a module of ours
        [str(python), "-m", "django_site.prepare"],
        env={"PATH": os.environ["PATH"], **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise CannotInstall(f"django-oauth-toolkit: {done.stderr.strip()[-800:]}")
    command = [str(python), "-m", "gunicorn", "django_site.wsgi:application", "--bind", url.removeprefix("http://")]
    command += ["--worker-class", "gthread", "--keep-alive", "65", "--access-logfile", "-", "--no-control-socket"]
    command += ["--workers", os.environ.get("AUTHSERVER_WORKERS", str(len(os.sched_getaffinity(0))))]
    command += ["--threads", os.environ.get("AUTHSERVER_THREADS", "8"), "--worker-tmp-dir", "/dev/shm"]  # noqa: S108 - a directory of the system
    peer = Peer(command, environment, stack.directory / "django.log", home)
    peer.wait_until_it_answers(f"{url}/token/", exits)
    contender = Contender("peer: django-oauth-toolkit", peer.process.pid, "django")
    found: list[Row] = []
    for kind in ("hashed", "unhashed"):
        proof = {"client_id": kind, "client_secret": secret[kind]}
        found += rows(
            f"django-{kind}",
            contender,
            proof,
            token_url=f"{url}/token/",
            introspect_url=f"{url}/introspect/",
            different=_DIFFERENT,
            slow=kind == "hashed",
        )
    pins = (line.partition("==") for line in _PINS.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return found, {name.partition("[")[0]: pin for name, _, pin in pins if name in ("django", "django-oauth-toolkit")}
