# Sourced by the scripts that need Python: makes .venv if there is none, and installs what it lacks.
# shellcheck shell=bash

# ensure_environment EXTRA: after it, $python is an interpreter that has the project and that extra.
# Runs at the same time take turns; what an interrupted run has left half made is made anew.
ensure_environment() {
  local extra=$1 root venv unfinished
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  venv=$root/.venv
  unfinished=$venv/.unfinished
  python=$venv/bin/python
  if environment_is_current; then
    return
  fi
  # The lock is this file's, and ends with the processes that have it open.
  exec 9<"${BASH_SOURCE[0]}"
  "${PYTHON:-python3}" -c '
import fcntl, signal, sys
if sys.version_info < (3, 11):
    sys.exit("Python 3.11 or newer is needed")
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another run that is installing", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)'
  if ! environment_is_current; then
    install_environment
  fi
  exec 9<&-
}

environment_is_current() {
  local stamp=$venv/.installed-$extra
  [[ -x $python && ! -e $unfinished && -f $stamp && ! $root/setup.cfg -nt $stamp ]]
}

install_environment() {
  echo "Installing into $venv (once)"
  if [[ -e $unfinished ]]; then
    rm -rf "$venv"
  fi
  if [[ ! -e $venv ]]; then
    mkdir "$venv"
    touch "$unfinished"
  fi
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    "${PYTHON:-python3}" -m venv "$venv"
  fi
  "$python" -m pip install --quiet --disable-pip-version-check -e "${root}[$extra]"
  touch "$venv/.installed-$extra"
  rm -f "$unfinished"
}
