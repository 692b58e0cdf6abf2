# Sourced by the scripts that need Python: makes .venv if there is none, and installs what it lacks.
# shellcheck shell=bash

# ensure_environment EXTRA: after it, $python is an interpreter that has the project and that extra.
ensure_environment() {
  local extra=$1 root venv stamp
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  venv=$root/.venv
  stamp=$venv/.installed-$extra
  python=$venv/bin/python
  if [[ ! -x $python ]]; then
    "${PYTHON:-python3}" -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
    "${PYTHON:-python3}" -m venv "$venv"
  fi
  if [[ ! -f $stamp || $root/setup.cfg -nt $stamp ]]; then
    echo "Installing into ${venv} (once)"
    "$python" -m pip install --quiet --disable-pip-version-check -e "${root}[$extra]"
    touch "$stamp"
  fi
}
