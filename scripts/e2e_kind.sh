#!/usr/bin/env bash
# The authorization server on a kind cluster, tested from outside. Usage: scripts/e2e_kind.sh -h
set -euo pipefail
# shellcheck source=scripts/lib/kind.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/kind.sh"
run_on_kind "Runs PostgreSQL, the migrations and two replicas of the authorization server on a kind cluster,
and tests/e2e against every replica." no "$@"
