#!/usr/bin/env bash
# How long a revoked token is still accepted by resource servers that cache or validate locally and follow the feed.
# Usage: scripts/revocation_delay.sh [--revocations N] [--threads N] [--validation introspect|jwt]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"
ensure_environment test
exec "$python" "$root/scripts/revocation_delay.py" "$@"
