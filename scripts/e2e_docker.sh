#!/usr/bin/env bash
# The image on one Docker network, tested from outside. Usage: scripts/e2e_docker.sh -h
set -euo pipefail
# shellcheck source=scripts/lib/e2e.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/e2e.sh"

RESOURCE=http://resource-server:8000

image=${IMAGE:-authserver:e2e}
postgres_image=${POSTGRES_IMAGE:-postgres:18}
skip_build=${SKIP_BUILD:-}
keep=${KEEP:-}
limit=${WAIT_TIMEOUT:-60}
run=authserver-e2e-$$
containers=()
network=

usage() {
  cat <<EOF
Usage: scripts/$name.sh [OPTIONS]

Runs PostgreSQL and two replicas of each server on a Docker network, read-only, without capabilities and not as root;
tests/e2e against every replica; and sees that SIGTERM ends each with status 0.
Needs Docker and Python 3.11 or newer.

Options, each also a variable in the environment:
  --image IMAGE   IMAGE=IMAGE   tag of the image to build or use [$image]
  --skip-build    SKIP_BUILD=1  use the local image as it is
  --keep          KEEP=1        leave containers and network in place
  -h, --help                    this text
Only in the environment:
  POSTGRES_IMAGE      [$postgres_image]
  DATABASE_URL        an empty database to use instead, reachable from the containers, by one role for everything
  DOCKER_BUILD_ARGS   more arguments for docker build, such as --build-arg PYTHON_IMAGE=...
  WAIT_TIMEOUT        seconds to wait for each container [$limit]
EOF
}

read_options() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --image)
        [[ -n ${2:-} ]] || wrong_usage "$1 needs a value"
        image=$2
        shift
        ;;
      --skip-build) skip_build=1 ;;
      --keep) keep=1 ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) wrong_usage "unknown option '$1'" ;;
    esac
    shift
  done
  check_settings "$limit" "$image" "$postgres_image"
}

# As k8s/base has it. What follows the image is the command; values come from the environment, not the command line.
contained() {
  docker run --network "$network" --read-only --tmpfs /tmp:rw,size=16m --cap-drop ALL \
    --security-opt no-new-privileges --user 10001:10001 --health-interval 1s "$@"
}

start() {
  local container=$run-$1
  shift
  containers+=("$container")
  contained --detach --name "$container" --publish 127.0.0.1::8000 "$@" >/dev/null
}

authserver() {
  contained --rm --env AUTHSERVER_DATABASE_URL "$image" authserver "$@"
}

is_healthy() {
  [[ $(docker inspect --format '{{.State.Health.Status}}' "$1") == healthy ]]
}

# urls CONTAINER...: the URLs, separated by commas, once all are healthy.
urls() {
  local container joined=
  for container in "$@"; do
    wait_until "$limit" "$container" is_healthy "$container"
    joined+=${joined:+,}http://$(docker port "$container" 8000/tcp | head -n 1)
  done
  echo "$joined"
}

start_database() {
  if [[ -n ${DATABASE_URL:-} ]]; then
    export AUTHSERVER_DATABASE_URL=$DATABASE_URL
    serving_url=$DATABASE_URL
    return
  fi
  local owner app container=$run-postgres
  say "Starting PostgreSQL"
  owner=$(random_password) app=$(random_password)
  containers+=("$container")
  POSTGRES_PASSWORD=$(random_password) docker run --detach --name "$container" --network "$network" \
    --network-alias postgres --env POSTGRES_PASSWORD "$postgres_image" >/dev/null
  # By TCP: while it makes its data, the image serves on the socket alone.
  wait_until "$limit" PostgreSQL docker exec "$container" pg_isready --host=127.0.0.1 --username=postgres
  # Not as arguments, which every list of processes shows.
  docker exec --interactive "$container" psql --username=postgres --quiet -v ON_ERROR_STOP=1 <<EOF
CREATE ROLE authserver_owner LOGIN PASSWORD '$owner';
CREATE ROLE authserver_app LOGIN PASSWORD '$app';
CREATE DATABASE authserver OWNER authserver_owner;
EOF
  export AUTHSERVER_DATABASE_URL=postgresql://authserver_owner:$owner@postgres:5432/authserver
  serving_url=postgresql://authserver_app:$app@postgres:5432/authserver
}

start_servers() {
  local replica client
  say "Migrating the schema"
  authserver migrate
  authserver maintain >/dev/null
  say "Starting two authorization servers"
  for replica in 1 2; do
    AUTHSERVER_DATABASE_URL=$serving_url start "authserver-$replica" --network-alias authserver \
      --env AUTHSERVER_DATABASE_URL --env AUTHSERVER_ISSUER=http://authserver:8000 --env AUTHSERVER_WORKERS=2 "$image"
  done
  authserver_urls=$(urls "$run-authserver-1" "$run-authserver-2")
  say "Registering service-b and starting two resource servers"
  client=$(authserver client create service-b --no-grant --resource "$RESOURCE")
  OAUTH2_CLIENT_SECRET=$(printf '%s' "$client" | client_secret)
  export OAUTH2_CLIENT_SECRET
  for replica in 1 2; do
    start "resource-server-$replica" --env OAUTH2_CLIENT_SECRET --env OAUTH2_CLIENT_ID=service-b \
      --env OAUTH2_INTROSPECT_URL=http://authserver:8000/oauth/introspect --env "OAUTH2_RESOURCE=$RESOURCE" \
      "$image" python -m resource_server
  done
  resource_server_urls=$(urls "$run-resource-server-1" "$run-resource-server-2")
}

stop_servers() {
  local container status
  say "Stopping the servers with SIGTERM"
  for container in resource-server-1 resource-server-2 authserver-1 authserver-2; do
    docker stop -t 30 "$run-$container" >/dev/null
    status=$(docker inspect --format '{{.State.ExitCode}}' "$run-$container")
    [[ $status == 0 ]] || die "$container ended with status $status"
  done
}

clean_up() {
  local status=$1 container
  if [[ $status -ne 0 ]] && ! was_interrupted "$status"; then
    for container in ${containers[@]+"${containers[@]}"}; do
      echo "---- $container"
      docker logs --tail 100 "$container"
    done >&2 2>&1
  fi
  if is_on "$keep"; then
    [[ ${#containers[@]} -eq 0 ]] || echo "Left in place: network $network, containers ${containers[*]}"
    return
  fi
  if [[ ${#containers[@]} -gt 0 ]]; then docker rm --force --volumes "${containers[@]}" >/dev/null; fi
  if [[ -n $network ]]; then docker network rm "$network" >/dev/null; fi
}

read_options "$@"
need_docker
check_tools
on_every_way_out clean_up
ensure_environment test
build_image "$image" "$skip_build"
network=$run
docker network create "$network" >/dev/null
start_database
start_servers
token=$(authserver initial-access-token create e2e --expires 1h)
run_suite "$authserver_urls" "$resource_server_urls" "$token" "$RESOURCE"
stop_servers
