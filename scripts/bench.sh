#!/usr/bin/env bash
# Requests per second of introspection and token issuance, as shares of what an empty Falcon endpoint reaches under
# the same gunicorn settings on this machine. Needs Python 3.11 or newer; uses wrk for the load if there is one.
# Usage: scripts/bench.sh [--rounds N] [--seconds N] [--connections N] [--python-load]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"
ensure_environment dev
exec "$python" "$root/scripts/bench.py" "$@"
