#!/usr/bin/env bash
# What requests cost: rates as shares of what an empty Falcon endpoint reaches under the same gunicorn settings, latencies,
# processor time, memory, time to start; beside peers with --peers; and with --flat, whether it grows with what is stored.
# Needs Python 3.11 or newer; uses wrk for the load if there is one. See docs/performance.md.
# Usage: scripts/bench.sh [--rows PATTERNS] [--rounds N] [--seconds N] [--peers] [--flat] [--json FILE] [--plot FILE] [-h]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for argument in "$@"; do
  case $argument in
    -h | --help | --list) exec "${PYTHON:-python3}" -m bench "$@" ;; # needs nothing installed
  esac
done
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
ensure_environment bench
exec "$python" -m bench "$@"
