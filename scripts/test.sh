#!/usr/bin/env bash
# All tests and checks. Needs Python 3.11 or newer and a package index.
# Usage: scripts/test.sh [PYTEST ARGUMENTS]     with arguments: only pytest, with these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
ensure_environment test
bin=$(dirname "$python")
# Some hundreds of processes start, each of which would compile all that it imports. Kept out of the tree, so that this
# can be also where PYTHONDONTWRITEBYTECODE says that nothing is to be written there.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$PWD/.venv/pycache

if [[ $# -gt 0 ]]; then
  exec "$python" -m pytest "$@"
fi
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
if command -v shellcheck >/dev/null; then
  git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x
fi
# A file at a time for each processor: modules share servers.
exec "$python" -m pytest --numprocesses "${TEST_PROCESSES:-auto}" --dist loadfile
