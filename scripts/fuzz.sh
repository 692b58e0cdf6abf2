#!/usr/bin/env bash
# Send malformed and mutated requests to a running server, and see that it neither fails nor hangs nor tells a secret.
# Needs Python 3.11 or newer and nothing else. FUZZ_SEED=N makes others; the same seed makes the same.
# Usage: scripts/fuzz.sh [NUMBER OF REQUESTS, default 100000]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
ensure_environment test
FUZZ_REQUESTS=${1:-100000} exec "$python" -m pytest tests/process/test_fuzz.py --log-cli-level=INFO
