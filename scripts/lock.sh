#!/usr/bin/env bash
# Write requirements.lock and requirements-build.lock: what the image is made of, each version with the hashes of its files.
# Needs Python 3.11 or newer and a package index. Run it after a change of setup.cfg.
# Usage: scripts/lock.sh [--upgrade]     without: versions that are still allowed stay as they are
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

upgrade=()
case ${1:-} in
  '') ;;
  --upgrade) upgrade=(--upgrade) ;;
  *)
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
    ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/authserver-lock.XXXXXX")
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check 'uv >= 0.8'

# compile SOURCE LOCK: for every Python and every processor that this project is for, not only for these here.
compile() {
  "$work/tools/bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command scripts/lock.sh ${upgrade[@]+"${upgrade[@]}"} --output-file "$2" "$1"
}

compile setup.cfg requirements.lock
# What builds this project, and gunicorn's HTTP parser, which comes as C source.
compile requirements-build.in requirements-build.lock
