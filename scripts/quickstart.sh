#!/usr/bin/env bash
# Show the main job end to end: PostgreSQL, both servers, 401 -> token -> 200 -> 403 -> revoke -> 401.
# Needs Python 3.11 or newer and a package index. Usage: scripts/quickstart.sh [--keep | --stop]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"
ensure_environment dev
exec "$python" -m authserver.dev.quickstart "$@"
