#!/usr/bin/env bash
# Stands for docker, kind, kubectl and the scripts' Python: each call is recorded and answered as the STUB_ variables say.
# STUB_FAIL and STUB_BLOCK are patterns of a call: it fails with STUB_STATUS, or waits until there is the file `go`.
set -u
tool=${0##*/}
call="$tool $*"

if [[ $tool == python && ${1:-} != -m ]]; then
  exec "$STUB_PYTHON" -I -S "$@"
fi
# One write: calls made at the same time do not mix.
printf -v line '%q ' "$tool" "${KUBECONFIG-}" "$@"
echo "$line" >>"$STUB_DIRECTORY/calls"

if [[ -n ${STUB_FAIL-} && $call =~ $STUB_FAIL ]]; then
  echo "stub: refused" >&2
  exit "${STUB_STATUS:-7}"
fi
if [[ -n ${STUB_BLOCK-} && $call =~ $STUB_BLOCK ]]; then
  : >"$STUB_DIRECTORY/blocked"
  for ((end = SECONDS + 60; SECONDS < end; )); do
    [[ ! -e $STUB_DIRECTORY/go ]] || break
    "$STUB_SLEEP" 0.02
  done
fi

# answer_authserver: what `authserver ...` in a container prints.
answer_authserver() {
  case $call in
    *"authserver client create"*) echo "{\"client_id\": \"service-b\", \"client_secret\": \"$STUB_CLIENT_SECRET\"}" ;;
    *"authserver initial-access-token create"*) echo "$STUB_TOKEN" ;;
  esac
}

case $call in
  "docker image inspect "*) [[ " ${STUB_IMAGES-} " == *" $3 "* ]] ;;
  "docker inspect "*Health*) echo healthy ;;
  "docker inspect "*ExitCode*) echo "${STUB_EXIT_CODE:-0}" ;;
  "docker port "*) echo "127.0.0.1:$((8000 + ${2//[!12]/}))" ;;
  "docker logs "*) echo "log of $4" ;;
  "docker exec --interactive "*) cat >"$STUB_DIRECTORY/roles" ;;
  "docker run "*)
    env >>"$STUB_DIRECTORY/environment"
    answer_authserver
    ;;
  "kind get clusters") [[ -z ${STUB_CLUSTERS-} ]] || tr ' ' '\n' <<<"$STUB_CLUSTERS" ;;
  "kind create cluster "* | "kind export kubeconfig "*) echo "written by $call" >"$KUBECONFIG" ;;
  "kubectl get namespace --selector "*) [[ -z ${STUB_OUR_NAMESPACE-} ]] || echo namespace/ours ;;
  "kubectl get namespace "*) [[ -z ${STUB_NAMESPACE-} ]] || echo namespace/there ;;
  *" get pods "*"--output name"*) 
    read -r -a pods <<<"${STUB_PODS-one two}"
    printf 'pod/%s\n' "${pods[@]}"
    ;;
  *" logs "*) echo "log of $4" ;;
  *" create secret generic "*) cat >"$STUB_DIRECTORY/secret-$6" ;;
  *" --kustomize "*)
    directory=${call##* --kustomize }
    cp "${directory%% *}/kustomization.yaml" "$STUB_DIRECTORY/"
    ;;
  *" exec --stdin deployment/authserver-toolbox "*) cat >"$STUB_DIRECTORY/keys" ;;
  *" exec deployment/authserver-toolbox "*) answer_authserver ;;
  "kubectl get --raw /openid/v1/jwks") echo '{"keys": ["of the stub"]}' ;;
  "kubectl get --raw "*) echo '{"issuer": "https://kubernetes.default.svc.cluster.local"}' ;;
  *" port-forward "*)
    echo "Forwarding from 127.0.0.1:$((9000 + RANDOM % 1000)) -> 8000"
    exec "$STUB_SLEEP" 60
    ;;
  "python -m pytest"*) env | grep '^E2E_' >"$STUB_DIRECTORY/suite" ;;
esac
