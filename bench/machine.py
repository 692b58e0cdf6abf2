"""What was measured on what."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

_ROOT = Path(__file__).parent.parent


def describe(url: str) -> dict[str, Any]:
    """The machine and the versions of what has a share in the figures."""
    with psycopg.connect(url) as connection:
        postgres = connection.info.parameter_status("server_version")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "commit": _first_line("git", "-C", str(_ROOT), "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "postgresql": postgres,
        **{name: version(name) for name in ("falcon", "gunicorn", "psycopg", "joserfc", "requests")},
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return "unknown"
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - git and this directory
    return (done.stdout.splitlines() or ["unknown"])[0]
