"""`python -m resource_server` serves the example with gunicorn; `--help` prints the settings."""

import argparse
import os
import sys

from resource_server.config import SETTINGS, Config
from resource_server.errors import ConfigError


def main() -> int:
    """Check the settings, then become gunicorn. Returns 1 after one line on stderr if a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m resource_server",
        description="Serve the example resource server. Settings come from the environment:",
        epilog="\n".join(f"  {row.name:<28}{row.help} [{row.default}]" for row in SETTINGS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        Config.from_environ(os.environ)
    except ConfigError as error:
        sys.stderr.write(f"resource_server: {error}\n")
        return 1
    sys.stdout.flush()
    conf = "python:resource_server.gunicorn_conf"
    command = [sys.executable, "-m", "gunicorn", "-c", conf, "resource_server.app:get_app()"]
    return os.execv(sys.executable, command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    sys.exit(main())
