"""`scripts/bench.sh`: see `program`, which needs more than is there before anything is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from bench.catalog import OURS, PEERS
from bench.options import read_options


def main() -> int:
    """Do what the options say. Gives the exit status."""
    options = read_options()
    if options.list:
        print("\n".join(f"{key:36}{name}" for key, name in (OURS | (PEERS if options.peers else {})).items()))
        return 0
    try:
        from bench.program import run  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        return _lacks(str(error))
    if (options.plot or options.docs) and find_spec("matplotlib") is None:  # and not only when all is measured
        return _lacks("No module named 'matplotlib'")
    return run(options)


def _lacks(what: str) -> int:
    print(f"bench needs the extra bench: pip install 'authserver[bench]' ({what})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
