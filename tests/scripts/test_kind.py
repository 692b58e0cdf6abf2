"""scripts/e2e_kind.sh and e2e_kind_extended.sh: what they call, what they leave behind, and how they end."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Runs = Callable[..., Any]

EXTENDED = "e2e_kind_extended"
OURS = "app.kubernetes.io/managed-by=e2e-kind"
DELETE_CLUSTER = "kind delete cluster --name authserver-e2e"
DELETE_NAMESPACE = (
    f"kubectl delete namespace --selector {OURS} --field-selector metadata.name=authserver-e2e --timeout 300s"
)
# Each step by a call of it, what the summary then names it, and whether there is a cluster by then.
STEPS = {
    "docker build": ("Building the image authserver:e2e", False),
    "kind get clusters": ("Looking for the kind cluster authserver-e2e", False),
    "kind create": ("Creating the kind cluster authserver-e2e", False),
    "kind load": ("Loading images into the cluster", True),
    "kubectl create --save-config": ("Claiming the namespace authserver-e2e", True),
    "create secret generic authserver": ("Deploying PostgreSQL and the authorization server", True),
    "kubectl apply": ("Deploying PostgreSQL and the authorization server", True),
    "statefulset/postgres": ("Waiting for PostgreSQL", True),
    "job/authserver-migrate": ("Waiting for the migrations", True),
    "status deployment/authserver": ("Waiting for the authorization server", True),
    "client create": ("Registering service-b and deploying the resource server", True),
    "get --raw /openid": ("Trusting the cluster's service accounts", True),
    "client bind": ("Trusting the cluster's service accounts", True),
    "status deployment/resource-server": ("Waiting for the resource server", True),
    "job/service-a": ("Waiting for service A, a Job that has no secret", True),
    "initial-access-token create": ("Making an initial access token for this run", True),
    "python -m pytest": ("Running tests/e2e", True),
}


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def ended(run: Any, status: int, step: str) -> None:
    """The status is kept, and the summary is one line that says so."""
    assert run.process.returncode == status, run.stderr
    pattern = rf"{EXTENDED}: FAILED with status {status} after \d+ s, at: {step}"
    assert re.fullmatch(pattern, last_line(run.stderr)), run.stderr


def in_order(calls: list[str], *beginnings: str) -> None:
    found = iter(calls)
    for beginning in beginnings:
        assert any(call.startswith(beginning) for call in found), f"{beginning}: not there, or not in this order"


# A run that passes


def test_the_extended_run_goes_from_the_image_to_the_suite_and_removes_all(run: Runs) -> None:
    done = run(EXTENDED)
    assert done.process.returncode == 0, done.stderr
    assert re.fullmatch(rf"{EXTENDED}: PASSED in \d+ s", last_line(done.stdout))
    in_namespace = "kubectl --namespace authserver-e2e"
    in_order(
        [str(call) for call in done.calls],
        "docker build --tag authserver:e2e --build-arg VERSION=",
        "kind create cluster --name authserver-e2e --kubeconfig",
        "kind load docker-image authserver:e2e --name authserver-e2e",
        "kubectl create --save-config --kustomize",
        f"{in_namespace} create secret generic postgres --from-env-file=/dev/stdin",
        f"{in_namespace} create secret generic authserver-owner --from-file=database-url=/dev/stdin",
        f"{in_namespace} create secret generic authserver --from-file=database-url=/dev/stdin",
        "kubectl apply --kustomize",
        f"{in_namespace} rollout status statefulset/postgres --timeout 300s",
        f"{in_namespace} wait --for=condition=complete job/authserver-migrate --timeout 300s",
        f"{in_namespace} rollout status deployment/authserver --timeout 300s",
        f"{in_namespace} rollout status deployment/authserver-toolbox --timeout 300s",
        f"{in_namespace} exec deployment/authserver-toolbox -- authserver client create service-b",
        f"{in_namespace} create secret generic resource-server --from-file=client-secret=/dev/stdin",
        "kubectl get --raw /.well-known/openid-configuration",
        f"{in_namespace} exec --stdin deployment/authserver-toolbox -- authserver issuer add"
        " https://kubernetes.default.svc.cluster.local --name cluster --audience http://authserver:8000",
        f"{in_namespace} exec deployment/authserver-toolbox -- authserver client create service-a",
        f"{in_namespace} exec deployment/authserver-toolbox -- authserver client bind service-a"
        " --issuer cluster --service-account authserver-e2e/service-a",
        "kubectl apply --kustomize",
        f"{in_namespace} rollout status deployment/resource-server --timeout 300s",
        f"{in_namespace} wait --for=condition=complete job/service-a --timeout 300s",
        f"{in_namespace} port-forward pod/one --address 127.0.0.1 :8000",
        f"{in_namespace} port-forward pod/two --address 127.0.0.1 :8000",
        f"{in_namespace} port-forward pod/one --address 127.0.0.1 :8000",
        "python -m pytest tests/e2e",
        DELETE_CLUSTER,
    )
    assert str(done.calls[-1]).startswith(DELETE_CLUSTER)


def test_the_suite_gets_every_replica_and_the_token_of_this_run(run: Runs) -> None:
    suite = run(EXTENDED).suite
    urls = r"http://127\.0\.0\.1:\d+,http://127\.0\.0\.1:\d+"
    assert re.fullmatch(urls, suite["E2E_AUTHSERVER_URLS"])
    assert re.fullmatch(urls, suite["E2E_RESOURCE_SERVER_URLS"])
    assert suite["E2E_INITIAL_ACCESS_TOKEN"] == "asia_of-the-stub"
    assert suite["E2E_RESOURCE"] == "http://resource-server:8000"


def test_the_plain_run_has_no_resource_server(run: Runs) -> None:
    done = run("e2e_kind")
    assert done.process.returncode == 0, done.stderr
    assert done.suite["E2E_RESOURCE_SERVER_URLS"] == ""
    assert not [call for call in done.calls if "resource-server" in str(call)]


def test_secrets_go_by_standard_input(run: Runs) -> None:
    # That none is in an argument or in the output is checked for every run.
    done = run(EXTENDED)
    passwords = dict(line.split("=") for line in done.secret("postgres").splitlines())
    assert passwords.keys() == {"password", "owner-password", "app-password"}
    assert len(set(passwords.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", each) for each in passwords.values())
    for secret, role in {"authserver-owner": "owner", "authserver": "app"}.items():
        url = f"postgresql://authserver_{role}:{passwords[f'{role}-password']}@postgres:5432/authserver"
        assert done.secret(secret) == url
    assert done.secret("resource-server") == "ascs_of-the-stub"
    assert (done.directory / "keys").read_text() == '{"keys": ["of the stub"]}\n'


# Options


@pytest.mark.parametrize("how", ["flags", "environment"])
def test_every_option_is_a_flag_and_a_variable(run: Runs, how: str) -> None:
    options = {"cluster": "c-1", "namespace": "n-1", "image": "registry.example:5000/a/b:1.0"}
    switches = ("skip-build", "keep-cluster", "keep-namespace")
    there = {"STUB_IMAGES": options["image"], "STUB_CLUSTERS": "other"}
    if how == "flags":
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        done = run(EXTENDED, *flags, *(f"--{switch}" for switch in switches), **there)
    else:
        variables = {**options, **dict.fromkeys(switches, "1")}
        done = run(EXTENDED, **there, **{name.upper().replace("-", "_"): value for name, value in variables.items()})
    assert done.process.returncode == 0, done.stderr
    assert not done.called("docker build")
    assert not done.called("kind delete")
    assert not done.called("kubectl delete")
    assert done.called("kind create cluster --name c-1 ")
    assert done.called(f"kind load docker-image {options['image']} --name c-1")
    assert done.called("kubectl --namespace n-1 rollout status deployment/authserver")
    made = yaml.safe_load((done.directory / "kustomization.yaml").read_text())
    assert made["namespace"] == "n-1"
    assert made["images"][0] == {"name": "authserver", "newName": "registry.example:5000/a/b", "newTag": "1.0"}


def test_the_command_of_the_reference_document_leaves_cluster_and_namespace_and_says_how_to_look_inside(
    run: Runs,
) -> None:
    done = run(EXTENDED, "--keep-cluster", "--keep-namespace")
    assert done.process.returncode == 0
    assert not done.called("kind delete")
    assert not done.called("kubectl delete")
    assert "kind export kubeconfig --name authserver-e2e" in done.stdout


def test_a_kept_cluster_alone_loses_the_namespace(run: Runs) -> None:
    done = run(EXTENDED, "--keep-cluster")
    assert not done.called("kind delete")
    assert str(done.calls[-1]) == DELETE_NAMESPACE


def test_a_kept_namespace_goes_with_a_cluster_that_does_not_stay(run: Runs) -> None:
    assert run(EXTENDED, "--keep-namespace").called(DELETE_CLUSTER)


@pytest.mark.parametrize("off", ["0", "no", "false", ""])
def test_a_switch_in_the_environment_can_be_off(run: Runs, off: str) -> None:
    done = run("e2e_kind", KEEP_CLUSTER=off, STUB_FAIL="kind load")
    assert done.called(DELETE_CLUSTER)


def test_what_is_only_in_the_environment_reaches_its_command(run: Runs) -> None:
    done = run(
        EXTENDED,
        DOCKER_BUILD_ARGS="--network host --build-arg PYTHON_IMAGE=base:1",
        KIND_NODE_IMAGE="kindest/node:v1.36.1",
        POSTGRES_IMAGE="local/postgres:17",
        WAIT_TIMEOUT="77",
        STUB_IMAGES="local/postgres:17",
    )
    assert done.process.returncode == 0, done.stderr
    assert done.called("docker build --network host --build-arg PYTHON_IMAGE=base:1 --tag")
    (create,) = done.called("kind create cluster")
    assert create.endswith("--wait 77s --image kindest/node:v1.36.1")
    assert done.called("kind load docker-image local/postgres:17 --name authserver-e2e")
    assert all("77s" in call for call in done.called("kubectl") if "--timeout" in call)


def test_a_postgres_image_that_is_not_local_is_left_to_the_cluster(run: Runs) -> None:
    done = run(EXTENDED)
    assert done.called("kind load docker-image authserver:e2e")
    assert not done.called("kind load docker-image postgres")
    assert "postgres:18 is not in the local Docker: the cluster will pull it" in done.stdout


def test_an_image_that_is_not_there_cannot_be_used_without_building_it(run: Runs) -> None:
    done = run(EXTENDED, "--skip-build")
    ended(done, 1, "Using the image authserver:e2e")
    assert "there is no local image authserver:e2e" in done.stderr
    assert not done.called("kind")


@pytest.mark.parametrize("script", ["e2e_kind", EXTENDED])
def test_help_explains_every_option_and_calls_nothing(run: Runs, script: str) -> None:
    done = run(script, "-h")
    assert done.process.returncode == 0
    assert done.calls == []
    for option in ("cluster", "namespace", "image", "skip-build", "keep-cluster", "keep-namespace"):
        assert re.search(rf"--{option}\b.*\b{option.upper().replace('-', '_')}=", done.stdout), option
    for variable in ("KIND_NODE_IMAGE", "POSTGRES_IMAGE", "DOCKER_BUILD_ARGS", "WAIT_TIMEOUT"):
        assert variable in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--nonsense"], {}),
        (["--cluster"], {}),
        (["--namespace", ""], {}),
        (["--namespace", "Upper"], {}),
        (["--cluster", "-x"], {}),
        (["--image", "a b"], {}),
        (["--image", "--privileged"], {}),
        ([], {"POSTGRES_IMAGE": 'x", newTag: "y'}),
        ([], {"WAIT_TIMEOUT": "a[$(touch here)]"}),
        ([], {"WAIT_TIMEOUT": "0"}),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line_and_status_2(run: Runs, arguments: list[str], environment: dict[str, str]) -> None:
    done = run(EXTENDED, *arguments, **environment)
    assert done.process.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.calls == []


# Tools


def test_missing_tools_are_named_all_at_once_with_where_to_get_them(run: Runs, tree: Any, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("bash", "basename", "dirname"):
        (few / name).symlink_to((tree.commands / name).readlink())
    done = run(EXTENDED, path=few)
    assert done.process.returncode == 1
    for tool in ("docker", "kind", "kubectl", "python"):
        assert re.search(rf"^  {tool}: .*https://", done.stderr, re.MULTILINE), tool


def test_a_docker_daemon_that_does_not_answer_is_said(run: Runs) -> None:
    done = run(EXTENDED, STUB_FAIL="docker info")
    assert done.process.returncode == 1
    assert "the Docker daemon does not answer" in done.stderr
    assert [str(call) for call in done.calls] == ["docker info"]


# Clusters and namespaces of others


def test_a_cluster_that_exists_is_used_and_left_in_place(run: Runs) -> None:
    done = run(EXTENDED, STUB_CLUSTERS="other authserver-e2e another")
    assert done.process.returncode == 0, done.stderr
    assert done.called("kind export kubeconfig --name authserver-e2e --kubeconfig")
    assert not done.called("kind create")
    assert not done.called("kind delete")
    assert str(done.calls[-1]) == DELETE_NAMESPACE


def test_a_cluster_that_exists_is_seen_in_a_list_of_any_length(run: Runs) -> None:
    # Read by `grep -q` in a pipe, the list would be cut off, and kind's death taken for "not there".
    names = " ".join(["authserver-e2e", *(f"other-{number:05}" for number in range(8000))])
    done = run("e2e_kind", STUB_CLUSTERS=names, STUB_FAIL="kind load")
    assert done.called("kind export kubeconfig")
    assert not done.called("kind create")
    assert not done.called("kind delete")


def test_a_cluster_with_a_similar_name_is_another(run: Runs) -> None:
    done = run("e2e_kind", STUB_CLUSTERS="my-authserver-e2e authserver-e2e2", STUB_FAIL="kind load")
    assert done.called("kind create cluster --name authserver-e2e ")


def test_a_namespace_of_somebody_else_is_not_touched_and_not_shown(run: Runs) -> None:
    done = run(EXTENDED, STUB_CLUSTERS="authserver-e2e", STUB_NAMESPACE="there")
    ended(done, 1, "Claiming the namespace authserver-e2e")
    assert "choose another with --namespace" in done.stderr
    changing = re.compile(r"kubectl (--namespace \S+ )?(apply|create|exec|logs|describe|port-forward)")
    assert not [str(call) for call in done.calls if changing.match(str(call))]
    # Only ever by our label.
    assert done.called("kubectl delete") in ([], [DELETE_NAMESPACE])


def test_a_namespace_of_an_earlier_run_makes_room(run: Runs) -> None:
    done = run("e2e_kind", STUB_CLUSTERS="authserver-e2e", STUB_NAMESPACE="there", STUB_OUR_NAMESPACE="1")
    assert done.process.returncode == 0, done.stderr
    assert done.called("kubectl delete") == [DELETE_NAMESPACE, DELETE_NAMESPACE]
    in_order([str(call) for call in done.calls], DELETE_NAMESPACE, "kubectl create --save-config")


def test_the_namespace_is_created_and_never_taken_over(run: Runs) -> None:
    (create,) = run("e2e_kind").called("kubectl create --save-config")
    assert create.endswith(f"/e2e-kind --selector {OURS}")


def test_the_generated_kustomization_leads_to_the_overlay(run: Runs, tmp_path: Path) -> None:
    done = run(EXTENDED, "--namespace", "n-1", "--image", "localhost:5000/a", STUB_FAIL="python -m pytest")
    # As deep as the run's own was, so that the relative path means the same.
    directory = done.directory / "tmp/again/e2e-kind-extended"
    directory.mkdir(parents=True)
    shutil.copy(done.directory / "kustomization.yaml", directory)
    made = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert (directory / made["resources"][0]).resolve().parts[-3:] == ("k8s", "overlays", "e2e-kind-extended")
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", str(directory)]
        documents = list(yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        (namespace,) = [d["metadata"]["name"] for d in documents if d["kind"] == "Namespace"]
        assert {d["metadata"].get("namespace", namespace) for d in documents} == {"n-1"}
        deployments = [d for d in documents if d["kind"] == "Deployment"]
        images = {d["spec"]["template"]["spec"]["containers"][0]["image"] for d in deployments}
        assert images == {"localhost:5000/a:latest"}


# Failures and signals


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_keeps_its_status_shows_what_there_is_and_cleans_up(run: Runs, step: str) -> None:
    name, has_cluster = STEPS[step]
    done = run(EXTENDED, STUB_FAIL=step, STUB_STATUS="7", STUB_OUR_NAMESPACE="1")
    ended(done, 7, name)
    begun = has_cluster or step == "kind create"
    assert bool(done.called(DELETE_CLUSTER)) is begun
    for part in ("---- nodes", "---- pods", "---- events", "---- pod/one", "log of pod/two"):
        assert (part in done.stderr) is has_cluster, part


def test_diagnostics_show_every_container_and_the_one_before(run: Runs) -> None:
    done = run("e2e_kind", STUB_FAIL="python -m pytest", STUB_OUR_NAMESPACE="1")
    for pod in ("one", "two"):
        logs = done.called(f"kubectl --namespace authserver-e2e logs pod/{pod} --all-containers --prefix --tail 200")
        assert [("--previous" in call) for call in logs] == [False, True]


def test_a_port_forward_that_ends_is_a_failure_at_once(run: Runs) -> None:
    done = run(EXTENDED, STUB_FAIL="port-forward")
    assert done.process.returncode == 1
    assert "the port-forward to pod/one ended: stub: refused" in done.stderr


def test_less_than_two_replicas_are_a_failure(run: Runs) -> None:
    done = run(EXTENDED, STUB_PODS="one")
    assert done.process.returncode == 1
    assert "expected at least two running pods" in done.stderr


def test_a_clean_up_that_fails_does_not_change_the_outcome_and_is_said(run: Runs) -> None:
    done = run("e2e_kind", STUB_FAIL="kind delete")
    assert done.process.returncode == 0
    assert "do it with: kind delete cluster --name authserver-e2e" in done.stderr


@pytest.mark.parametrize("step", ["docker build", "kind create", "job/authserver-migrate", "python -m pytest"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_everything_and_cleans_up(start: Runs, step: str, number: signal.Signals, status: int) -> None:
    running = start(EXTENDED, STUB_BLOCK=step)
    running.interrupt(number)
    done = running.finish()
    ended(done, status, STEPS[step][0])
    assert bool(done.called(DELETE_CLUSTER)) is (step != "docker build")
    assert "---- pods" not in done.stderr


def test_an_interrupted_run_on_a_kept_cluster_takes_its_namespace_along(start: Runs) -> None:
    running = start(EXTENDED, "--keep-cluster", STUB_BLOCK="job/authserver-migrate")
    running.interrupt(signal.SIGINT)
    done = running.finish()
    assert str(done.calls[-1]) == DELETE_NAMESPACE
    assert not done.called("kind delete")


def test_a_signal_to_the_script_alone_takes_effect_when_its_command_has_ended(start: Runs) -> None:
    running = start(EXTENDED, STUB_BLOCK="kind create")
    running.wait_until_blocked()
    running.process.terminate()
    (running.directory / "go").touch()
    done = running.finish()
    ended(done, 143, STEPS["kind create"][0])
    assert done.called(DELETE_CLUSTER)
    assert not done.called("kind load")


def test_a_second_signal_does_not_stop_the_clean_up(start: Runs) -> None:
    running = start(EXTENDED, STUB_FAIL="kind load", STUB_BLOCK="kind delete")
    running.interrupt(signal.SIGINT)
    (running.directory / "go").touch()
    done = running.finish()
    ended(done, 7, STEPS["kind load"][0])


def test_the_clean_up_happens_also_when_nobody_reads_the_output(start: Runs) -> None:
    running = start(EXTENDED, STUB_BLOCK="kind create")
    running.wait_until_blocked()
    running.process.stdout.close()
    running.process.stdout = None
    (running.directory / "go").touch()
    done = running.finish()
    assert done.process.returncode == 141
    assert done.called(DELETE_CLUSTER)
