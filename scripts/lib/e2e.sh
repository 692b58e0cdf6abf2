# Sourced by the scripts that run tests/e2e against something they have built: on Docker, on kind.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# An error in a command substitution counts like any other. Bash before 4.4 has no such option.
shopt -s inherit_errexit 2>/dev/null || true
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

name=$(basename "$0" .sh)
step="starting"
SECONDS=0

say() {
  step=$*
  printf '==> %s\n' "$*"
}

die() {
  printf '%s: %s\n' "$name" "$*" >&2
  exit 1
}

wrong_usage() {
  printf '%s: %s; see %s -h\n' "$name" "$*" "$name" >&2
  exit 2
}

# is_on VALUE: how a switch in the environment is read.
is_on() {
  case ${1:-} in '' | 0 | no | false) return 1 ;; *) return 0 ;; esac
}

# check_settings LIMIT IMAGE...: what ends up in arithmetic, in a command line or in a generated kustomization.
check_settings() {
  [[ $1 =~ ^[1-9][0-9]{0,5}$ ]] || wrong_usage "WAIT_TIMEOUT is a number of seconds"
  local value
  for value in "${@:2}"; do
    [[ $value =~ ^[A-Za-z0-9][A-Za-z0-9._/:-]*$ ]] || wrong_usage "'$value' is not NAME[:TAG] of an image"
  done
}

missing=

# need TOOL HOW-TO-GET-IT
need() {
  command -v "$1" >/dev/null || missing+="
  $1: $2"
}

need_docker() {
  need docker "https://docs.docker.com/engine/install/"
  need "${PYTHON:-python3}" "Python 3.11 or newer, from your system's packages or https://www.python.org/downloads/"
}

# check_tools: after the `need`s, name all that is missing at once.
check_tools() {
  [[ -z $missing ]] || die "missing tools:$missing"
  docker info >/dev/null 2>&1 || die "the Docker daemon does not answer: start it, or check DOCKER_HOST and your permissions"
}

have_image() {
  docker image inspect "$1" >/dev/null 2>&1
}

# build_image IMAGE SKIP: build it, or with SKIP see that it is there. DOCKER_BUILD_ARGS is split at spaces.
build_image() {
  local image=$1 version arguments
  if is_on "$2"; then
    say "Using the image $image"
    have_image "$image" || die "there is no local image $image: leave out --skip-build"
    return
  fi
  say "Building the image $image"
  read -r -a arguments <<<"${DOCKER_BUILD_ARGS:-}"
  version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/authserver/__init__.py")
  docker build ${arguments[@]+"${arguments[@]}"} --tag "$image" --build-arg "VERSION=${version:-0.0.0}" \
    --build-arg "REVISION=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)" "$root"
}

random_password() {
  "$python" -c 'import secrets; print(secrets.token_hex(24))'
}

# client_secret: from the JSON of `authserver client create`, without a newline.
client_secret() {
  "$python" -c 'import json, sys; print(json.load(sys.stdin)["client_secret"], end="")'
}

# json_member NAME: of the JSON object on standard input.
json_member() {
  "$python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

# wait_until SECONDS WHAT COMMAND...: until the command succeeds. Dies after that time.
wait_until() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "timed out waiting for $what"
    sleep 0.2
  done
}

# run_suite AUTHSERVER-URLS RESOURCE-SERVER-URLS INITIAL-ACCESS-TOKEN RESOURCE
run_suite() {
  say "Running tests/e2e"
  (
    cd "$root" || exit
    E2E_AUTHSERVER_URLS=$1 E2E_RESOURCE_SERVER_URLS=$2 E2E_INITIAL_ACCESS_TOKEN=$3 E2E_RESOURCE=$4 \
      "$python" -m pytest tests/e2e
  )
}

# on_every_way_out FUNCTION: call it with the exit status, which is kept. Ctrl-C in the clean-up itself is ignored.
# Sent to this shell alone, a signal takes effect when the command that it waits for has ended.
on_every_way_out() {
  way_out=$1
  trap 'leave $?' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 141' PIPE
  trap 'exit 143' TERM
}

leave() {
  local status=$1
  trap - EXIT
  trap '' HUP INT PIPE TERM
  set +e
  # Nobody reads any more, and what tries to write may die of it before it has cleaned up.
  if [[ $status -eq 141 ]]; then exec >/dev/null 2>&1; fi
  "$way_out" "$status"
  if [[ $status -eq 0 ]]; then
    printf '%s: PASSED in %d s\n' "$name" "$SECONDS"
  else
    printf '%s: FAILED with status %d after %d s, at: %s\n' "$name" "$status" "$SECONDS" "$step" >&2
  fi
  exit "$status"
}

was_interrupted() {
  case $1 in 129 | 130 | 141 | 143) return 0 ;; *) return 1 ;; esac
}
