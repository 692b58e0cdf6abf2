"""Runs `authserver` and `gunicorn` in processes of their own, forked from one that has imported what all of them need.

Python takes most of a second to start and to import it, and the tests run some hundreds of commands. It is started as
`python warm.py`; a line of JSON on standard input is a command, a line on standard output its exit status.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from gunicorn.app.wsgiapp import run as gunicorn

# For gunicorn's configuration: by itself `authserver` needs less.
import authserver.app
import authserver.logs
import authserver.metrics_master
import authserver.worker  # noqa: F401
from authserver.cli import main

_PROGRAMS = {"authserver": main, "gunicorn": lambda: gunicorn(prog="gunicorn")}
_OPEN = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


def _run(command: dict[str, Any]) -> int:
    os.environ.clear()
    os.environ.update(command["environment"])
    for number, (path, flags) in enumerate(zip(command["files"], _OPEN, strict=True)):
        os.dup2(os.open(path, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115 - likewise
    sys.argv = [command["program"], *command["arguments"]]
    try:
        return _PROGRAMS[command["program"]]()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as Python ends
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def _serve() -> None:
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os._exit(_run(json.loads(line)))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
