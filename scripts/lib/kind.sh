# Sourced by e2e_kind.sh and e2e_kind_extended.sh: a run on a kind cluster, from its creation to its removal.
# shellcheck shell=bash
# shellcheck source=scripts/lib/e2e.sh
source "$(dirname "${BASH_SOURCE[0]}")/e2e.sh"

ISSUER=http://authserver:8000     # as in k8s/overlays/e2e-kind
RESOURCE=http://resource-server:8000 # as in k8s/components/resource-server
OURS=app.kubernetes.io/managed-by=e2e-kind

cluster=${CLUSTER:-authserver-e2e}
namespace=${NAMESPACE:-authserver-e2e}
image=${IMAGE:-authserver:e2e}
postgres_image=${POSTGRES_IMAGE:-postgres:18}
skip_build=${SKIP_BUILD:-}
keep_cluster=${KEEP_CLUSTER:-}
keep_namespace=${KEEP_NAMESPACE:-}
limit=${WAIT_TIMEOUT:-300}

made_cluster= # this run has begun to make it, and so removes it
has_cluster=  # it answers
made_namespace=
forwards=()

usage() {
  cat <<EOF
Usage: scripts/$name.sh [OPTIONS]

$1
Needs Docker, kind, kubectl and Python 3.11 or newer. Your own kubeconfig is neither read nor written.

Options, each also a variable in the environment:
  --cluster NAME      CLUSTER=NAME      the kind cluster [$cluster]; one that exists is used and left in place
  --namespace NAME    NAMESPACE=NAME    the namespace in it [$namespace]
  --image IMAGE       IMAGE=IMAGE       tag of the image to build or use [$image]
  --skip-build        SKIP_BUILD=1      use the local image as it is
  --keep-cluster      KEEP_CLUSTER=1    leave the cluster in place
  --keep-namespace    KEEP_NAMESPACE=1  leave the namespace in place, if its cluster stays
  -h, --help                            this text
Only in the environment:
  KIND_NODE_IMAGE     node image, Kubernetes 1.30 or newer (default: that of your kind)
  POSTGRES_IMAGE      [$postgres_image]; loaded from the local Docker if it is there, otherwise pulled by the cluster
  DOCKER_BUILD_ARGS   more arguments for docker build, such as --build-arg PYTHON_IMAGE=...
  WAIT_TIMEOUT        seconds to wait for each condition [$limit]
EOF
}

# run_on_kind DESCRIPTION WITH-RESOURCE-SERVER ARGUMENTS...
run_on_kind() {
  local description=$1 extended=$2
  shift 2
  read_options "$description" "$@"
  need_docker
  need kind "https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
  need kubectl "https://kubernetes.io/docs/tasks/tools/"
  check_tools

  # The clean-up is in place before there is anything to clean up.
  work=
  on_every_way_out clean_up
  work=$(mktemp -d "${TMPDIR:-/tmp}/$name.XXXXXX")
  export KUBECONFIG=$work/kubeconfig
  ensure_environment test
  build_image "$image" "$skip_build"
  start_cluster
  load_images
  claim_namespace
  deploy_authserver
  if [[ $extended == yes ]]; then deploy_resource_server; fi
  test_it "$extended"
}

read_options() {
  local description=$1
  shift
  while [[ $# -gt 0 ]]; do
    case $1 in
      --cluster | --namespace | --image)
        [[ -n ${2:-} ]] || wrong_usage "$1 needs a value"
        case $1 in
          --cluster) cluster=$2 ;;
          --namespace) namespace=$2 ;;
          --image) image=$2 ;;
        esac
        shift
        ;;
      --skip-build) skip_build=1 ;;
      --keep-cluster) keep_cluster=1 ;;
      --keep-namespace) keep_namespace=1 ;;
      -h | --help)
        usage "$description"
        exit 0
        ;;
      *) wrong_usage "unknown option '$1'" ;;
    esac
    shift
  done
  check_settings "$limit" "$image" "$postgres_image"
  local value
  for value in "$cluster" "$namespace"; do
    [[ $value =~ ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$ ]] || wrong_usage "'$value' is not a name for a cluster or namespace"
  done
}

start_cluster() {
  local clusters
  say "Looking for the kind cluster $cluster"
  # Not in one pipe: a cluster that is overlooked would be taken for ours, and removed in the end.
  clusters=$(kind get clusters)
  if grep -Fqx -- "$cluster" <<<"$clusters"; then
    say "Using the kind cluster $cluster"
    kind export kubeconfig --name "$cluster" --kubeconfig "$KUBECONFIG"
  else
    say "Creating the kind cluster $cluster"
    made_cluster=1
    local arguments=(--name "$cluster" --kubeconfig "$KUBECONFIG" --wait "${limit}s")
    [[ -z ${KIND_NODE_IMAGE:-} ]] || arguments+=(--image "$KIND_NODE_IMAGE")
    kind create cluster "${arguments[@]}"
  fi
  has_cluster=1
}

load_images() {
  say "Loading images into the cluster"
  kind load docker-image "$image" --name "$cluster"
  if have_image "$postgres_image"; then
    kind load docker-image "$postgres_image" --name "$cluster"
  else
    echo "$postgres_image is not in the local Docker: the cluster will pull it"
  fi
}

# A namespace left by an earlier run makes room; one that is not ours is not touched.
claim_namespace() {
  local found
  say "Claiming the namespace $namespace"
  found=$(kubectl get namespace "$namespace" --ignore-not-found --output name)
  if [[ -n $found ]]; then
    namespace_is_ours \
      || die "the namespace $namespace is not one that this script made: choose another with --namespace"
    echo "Removing the namespace $namespace of an earlier run"
    delete_namespace
  fi
  write_kustomization e2e-kind
  made_namespace=1
  # Of all that the overlay holds, only the Namespace has this label: the secrets come before the rest.
  # Not `apply`: should somebody have made it meanwhile, it stays theirs.
  kubectl create --save-config --kustomize "$work/e2e-kind" --selector "$OURS"
}

# namespace_is_ours OPTIONS-OF-KUBECTL...
namespace_is_ours() {
  [[ -n $(kubectl get namespace --selector "$OURS" --field-selector "metadata.name=$namespace" --output name "$@") ]]
}

# By name and label: never one that this script did not make.
delete_namespace() {
  kubectl delete namespace --selector "$OURS" --field-selector "metadata.name=$namespace" --timeout "${limit}s"
}

# write_kustomization OVERLAY: into $work/OVERLAY, with the namespace and the images of this run.
write_kustomization() {
  mkdir -p "$work/$1"
  cat >"$work/$1/kustomization.yaml" <<EOF
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $namespace
resources:
  - '$("$python" -c 'import os, sys; print(os.path.relpath(*map(os.path.realpath, sys.argv[1:])))' "$root/k8s/overlays/$1" "$work/$1")'
images:
$(image_entry authserver "$image")
$(image_entry postgres "$postgres_image")
EOF
}

# image_entry NAME IMAGE. The tag follows the last colon, unless that belongs to the registry's port.
image_entry() {
  local new_name=$2 tag=latest
  if [[ ${2##*/} == *:* ]]; then
    new_name=${2%:*} tag=${2##*:}
  fi
  printf '  - {name: %s, newName: "%s", newTag: "%s"}' "$1" "$new_name" "$tag"
}

in_namespace() {
  kubectl --namespace "$namespace" "$@"
}

# create_secret NAME KEY: the value comes by standard input, so that no list of processes shows it.
create_secret() {
  in_namespace create secret generic "$1" "--from-file=$2=/dev/stdin"
}

deploy_authserver() {
  local owner app
  say "Deploying PostgreSQL and the authorization server"
  owner=$(random_password) app=$(random_password)
  printf 'password=%s\nowner-password=%s\napp-password=%s\n' "$(random_password)" "$owner" "$app" \
    | in_namespace create secret generic postgres --from-env-file=/dev/stdin
  printf 'postgresql://authserver_owner:%s@postgres:5432/authserver' "$owner" | create_secret authserver-owner database-url
  printf 'postgresql://authserver_app:%s@postgres:5432/authserver' "$app" | create_secret authserver database-url
  kubectl apply --kustomize "$work/e2e-kind"
  say "Waiting for PostgreSQL"
  in_namespace rollout status statefulset/postgres --timeout "${limit}s"
  say "Waiting for the migrations"
  in_namespace wait --for=condition=complete job/authserver-migrate --timeout "${limit}s"
  say "Waiting for the authorization server"
  in_namespace rollout status deployment/authserver --timeout "${limit}s"
  in_namespace rollout status deployment/authserver-toolbox --timeout "${limit}s"
}

authserver() {
  in_namespace exec deployment/authserver-toolbox -- authserver "$@"
}

deploy_resource_server() {
  local client
  say "Registering service-b and deploying the resource server"
  client=$(authserver client create service-b --no-grant --resource "$RESOURCE")
  printf '%s' "$client" | client_secret | create_secret resource-server client-secret
  trust_the_cluster
  write_kustomization e2e-kind-extended
  kubectl apply --kustomize "$work/e2e-kind-extended"
  say "Waiting for the resource server"
  in_namespace rollout status deployment/resource-server --timeout "${limit}s"
  say "Waiting for service A, a Job that has no secret"
  in_namespace wait --for=condition=complete job/service-a --timeout "${limit}s"
}

# The tokens of the cluster's service accounts are believed, by keys that are given: the API server shows them to nobody
# who is not logged in.
trust_the_cluster() {
  local issuer keys
  say "Trusting the cluster's service accounts"
  issuer=$(kubectl get --raw /.well-known/openid-configuration | json_member issuer)
  keys=$(kubectl get --raw /openid/v1/jwks)
  in_namespace exec --stdin deployment/authserver-toolbox -- authserver issuer add "$issuer" \
    --name cluster --audience "$ISSUER" --jwks /dev/stdin --alg RS256 <<<"$keys"
  authserver client create service-a --scope read --audience "$RESOURCE" --no-secret >/dev/null
  authserver client bind service-a --issuer cluster --service-account "$namespace/service-a"
}

test_it() {
  local token urls='' resource_urls=''
  say "Making an initial access token for this run"
  token=$(authserver initial-access-token create e2e --expires 1h)
  forward_to_pods app.kubernetes.io/name=authserver,app.kubernetes.io/component=server
  urls=$forwarded
  if [[ $1 == yes ]]; then
    forward_to_pods app.kubernetes.io/name=resource-server
    resource_urls=$forwarded
  fi
  run_suite "$urls" "$resource_urls" "$token" "$RESOURCE"
}

# forward_to_pods SELECTOR: a port of this machine for every pod, whose URLs are then in $forwarded.
forward_to_pods() {
  local pods pod
  say "Forwarding a port to every pod with $1"
  pods=$(in_namespace get pods --selector "$1" --field-selector status.phase=Running --output name)
  [[ $(grep -c . <<<"$pods") -ge 2 ]] || die "expected at least two running pods with $1"
  forwarded=
  for pod in $pods; do
    forward_to "$pod" "$work/forward-${#forwards[@]}.log"
    forwarded+=${forwarded:+,}http://$address
  done
}

# forward_to POD LOG: what it listens on is then in $address.
forward_to() {
  in_namespace port-forward "$1" --address 127.0.0.1 :8000 >"$2" 2>&1 &
  forwards+=($!)
  wait_until 30 "the port-forward to $1" is_settled $! "$2"
  address=$(sed -n 's/^Forwarding from \(127\.0\.0\.1:[0-9]*\) .*/\1/p' "$2")
  [[ -n $address ]] || die "the port-forward to $1 ended: $(cat "$2")"
}

# is_settled PID LOG: it forwards, or it has ended.
is_settled() {
  grep -q '^Forwarding from 127.0.0.1:' "$2" || ! kill -0 "$1" 2>/dev/null
}

clean_up() {
  local status=$1 pid
  if [[ $status -ne 0 && -n $has_cluster ]] && ! was_interrupted "$status"; then diagnose >&2; fi
  for pid in ${forwards[@]+"${forwards[@]}"}; do kill "$pid" 2>/dev/null; done
  # kubectl ends its own forwards; bash would report them otherwise.
  wait 2>/dev/null
  if [[ -n $made_cluster ]] && ! is_on "$keep_cluster"; then
    echo "Deleting the kind cluster $cluster"
    kind delete cluster --name "$cluster" --kubeconfig "$KUBECONFIG" \
      || echo "It could not be deleted; do it with: kind delete cluster --name $cluster" >&2
  elif [[ -n $has_cluster ]]; then
    if [[ -n $made_namespace ]] && ! is_on "$keep_namespace"; then
      echo "Deleting the namespace $namespace"
      delete_namespace || echo "It could not be deleted; the next run on this cluster tries again" >&2
    fi
    echo "The cluster is still there. To look inside: kind export kubeconfig --name $cluster --kubeconfig FILE"
    echo "To remove it: kind delete cluster --name $cluster"
  elif [[ -n $made_cluster ]]; then
    echo "What there is of the cluster is still there. To remove it: kind delete cluster --name $cluster"
  fi
  [[ -z $work ]] || rm -rf "$work"
}

diagnose() {
  local pod quick=(--request-timeout 20s)
  echo "---- nodes"
  kubectl get nodes --output wide "${quick[@]}"
  # What is in a namespace of somebody else's is not ours to show.
  namespace_is_ours "${quick[@]}" || return
  echo "---- pods"
  in_namespace get pods,jobs --output wide "${quick[@]}"
  echo "---- events"
  in_namespace get events --sort-by .lastTimestamp "${quick[@]}"
  for pod in $(in_namespace get pods --output name "${quick[@]}"); do
    echo "---- $pod"
    in_namespace describe "$pod" "${quick[@]}"
    in_namespace logs "$pod" --all-containers --prefix --tail 200 "${quick[@]}"
    in_namespace logs "$pod" --all-containers --prefix --tail 200 --previous "${quick[@]}" 2>/dev/null
  done
}
