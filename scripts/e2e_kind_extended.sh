#!/usr/bin/env bash
# All of the reference document on a kind cluster, tested from outside. Usage: scripts/e2e_kind_extended.sh -h
set -euo pipefail
# shellcheck source=scripts/lib/kind.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/kind.sh"
run_on_kind "Runs PostgreSQL, the migrations, and two replicas each of the authorization server and of the example
resource server on a kind cluster, and tests/e2e against every replica: 401 without a token, 200 with one,
403 with the wrong scope, 401 after revocation." yes "$@"
