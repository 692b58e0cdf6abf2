"""The manifests are valid, restricted, hold no secret, and keep their promises to each other."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kubernetes_validate

from authserver.config import SETTINGS
from authserver.dev.postgres_wheel import BINARIES
from resource_server.config import SETTINGS as RESOURCE_SERVER_SETTINGS

Document = dict[str, Any]
Documents = tuple[Document, ...]

KUBERNETES = ("1.36", "1.37")
K8S = Path(__file__).resolve().parents[2] / "k8s"
SOURCES = sorted(K8S.rglob("*.yaml"))
CUSTOM = {"postgresql.cnpg.io/v1", "monitoring.coreos.com/v1"}  # their schemas come with their operators
SERVERS = ("Deployment", "StatefulSet")
TOOLBOX = "authserver-toolbox"  # runs nothing until an operator does


def kind(documents: Documents, *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: Documents, a_kind: str, name: str) -> Document:
    return next(document for document in kind(documents, a_kind) if document["metadata"]["name"] == name)


def servers(documents: Documents, *kinds: str) -> list[Document]:
    """The workloads that answer requests."""
    return [document for document in kind(documents, *kinds) if document["metadata"]["name"] != TOOLBOX]


def pod_template(document: Document) -> Document:
    spec = document["spec"]
    template: Document = (spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec)["template"]
    return template


def workloads(documents: Documents) -> list[Document]:
    return kind(documents, *SERVERS, "Job", "CronJob")


def pods(documents: Documents) -> list[Document]:
    return [pod_template(document)["spec"] for document in workloads(documents)]


def containers(documents: Documents) -> list[Document]:
    return [c for pod in pods(documents) for c in [*pod.get("initContainers", []), *pod["containers"]]]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def config(documents: Documents, name: str) -> dict[str, str]:
    """The data of a ConfigMap, by its name without the hash."""
    found = [d for d in kind(documents, "ConfigMap") if re.fullmatch(rf"{name}-[a-z0-9]+", d["metadata"]["name"])]
    data: dict[str, str] = found[0]["data"]
    return data


# The sources


def test_there_are_the_overlays_of_the_documentation() -> None:
    found = {path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml")}
    assert found == {"dev", "e2e-kind", "e2e-kind-extended", "production"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(K8S)))
def test_every_source_is_valid_by_itself(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if isinstance(document, dict) and "kustomize.config" not in document["apiVersion"]:
            validate(document)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(K8S)))
def test_every_source_is_used_and_all_that_is_used_is_there(path: Path) -> None:
    if path.name != "kustomization.yaml":
        assert path.name in (path.parent / "kustomization.yaml").read_text()
        return
    document = yaml.safe_load(path.read_text())
    for reference in [*document.get("resources", []), *document.get("components", [])]:
        assert (path.parent / reference).exists(), reference


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(K8S)))
def test_no_source_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert "secretGenerator" not in text
    assert not re.search(r"^kind: Secret$", text, re.MULTILINE)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text), "a URL with a password"


def validate(document: Document) -> None:
    if document["apiVersion"] in CUSTOM:
        return
    for version in KUBERNETES:
        assert kubernetes_validate.validate(document, version, strict=True) == version


# The overlays, as rendered


def test_the_tests_put_the_overlays_together_as_kubectl_does(both_renderings: tuple[Documents, Documents]) -> None:
    rendered, assembled = (sorted(map(repr_of, documents)) for documents in both_renderings)
    assert assembled == rendered


def repr_of(document: Document) -> str:
    return json.dumps(document, sort_keys=True)


def test_every_object_is_valid(documents: Documents) -> None:
    for document in documents:
        validate(document)


def test_every_pod_is_restricted(documents: Documents) -> None:
    for pod in pods(documents):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"secret", "projected", "emptyDir", "configMap"}
            assert volume.get("emptyDir", {"sizeLimit": ""}).get("sizeLimit") is not None


def test_every_container_is_restricted(documents: Documents) -> None:
    for container in containers(documents):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


def test_every_container_has_requests_and_limits(documents: Documents) -> None:
    for container in containers(documents):
        for part in ("requests", "limits"):
            assert set(container["resources"][part]) == {"cpu", "memory"}


def test_every_server_has_all_probes(documents: Documents) -> None:
    for pod in (pod_template(document)["spec"] for document in servers(documents, *SERVERS)):
        for container in pod["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_no_shell_runs_in_a_container(documents: Documents) -> None:
    for container in containers(documents):
        assert not {"sh", "bash", "/bin/sh", "-c"} & {*container.get("command", []), *container.get("args", [])}


def test_secrets_are_only_referred_to_and_only_by_volumes(documents: Documents) -> None:
    assert not kind(documents, "Secret")
    for container in containers(documents):
        assert not any("secretRef" in source for source in container.get("envFrom", []))
        assert not any("valueFrom" in variable for variable in container.get("env", []))
    for text in (text for document in documents for text in strings(document)):
        assert not re.search(r"://[^/\s]*:[^/\s]*@|asat_|PRIVATE KEY", text)


def test_the_settings_are_ones_that_the_servers_know(documents: Documents) -> None:
    # What libpq reads itself begins with PG.
    known = {s.variable for s in SETTINGS} | {s.variable + "_FILE" for s in SETTINGS if s.secret}
    known |= {setting.name for setting in RESOURCE_SERVER_SETTINGS}
    for config_map in kind(documents, "ConfigMap"):
        if (
            config_map["metadata"]["name"] == "postgres-roles"
            or "grafana_dashboard" in config_map["metadata"]["labels"]
        ):
            continue
        assert {name for name in config_map["data"] if not name.startswith("PG")} <= known


def test_a_pod_leaves_the_endpoints_and_then_drains_within_its_grace_period(documents: Documents) -> None:
    graceful = {"authserver": "AUTHSERVER_GRACEFUL_TIMEOUT", "resource-server": "WEB_GRACEFUL_TIMEOUT"}
    for deployment in servers(documents, "Deployment"):
        name = deployment["metadata"]["name"]
        pod = pod_template(deployment)["spec"]
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause >= 5
        assert pod["terminationGracePeriodSeconds"] > pause + int(config(documents, name)[graceful[name]])


def test_an_update_or_a_drain_leaves_servers_in_place(documents: Documents) -> None:
    for deployment in servers(documents, "Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        budget = named(documents, "PodDisruptionBudget", deployment["metadata"]["name"])
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
        assert pod_template(deployment)["spec"]["topologySpreadConstraints"]


def test_selectors_find_the_pods_they_mean_and_no_others(documents: Documents) -> None:
    labels = {d["metadata"]["name"]: pod_template(d)["metadata"]["labels"] for d in workloads(documents)}
    for service in kind(documents, "Service"):
        selector = service["spec"]["selector"].items()
        assert [name for name, its in labels.items() if selector <= its.items()] == [service["metadata"]["name"]]


def test_nothing_talks_unless_a_policy_says_so(documents: Documents) -> None:
    deny = named(documents, "NetworkPolicy", "authserver-default-deny")["spec"]
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & set(deny)
    for document in workloads(documents):
        assert deny["podSelector"]["matchLabels"].items() <= pod_template(document)["metadata"]["labels"].items()
    for policy in kind(documents, "NetworkPolicy"):
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            assert rule.get("ports"), "a rule for every port"
            assert rule.get("from") or rule.get("to"), "a rule for everybody"


def test_the_connections_of_all_pods_fit_into_postgresqls_default_limit(documents: Documents) -> None:
    settings = config(documents, "authserver")
    per_pod = int(settings["AUTHSERVER_WORKERS"]) * int(settings["AUTHSERVER_THREADS"])
    most = named(documents, "HorizontalPodAutoscaler", "authserver")["spec"]["maxReplicas"]
    # During an update one pod more, and one that leaves; some for jobs and people. PostgreSQL keeps 3 of its 100.
    assert (most + 2) * per_pod <= 100 - 3 - 10
    deployment = named(documents, "Deployment", "authserver")
    pause = pod_template(deployment)["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert deployment["spec"]["minReadySeconds"] > pause, "more than one pod would be leaving at a time"


def test_the_documentation_does_the_same_sum(render: Any) -> None:
    production = render("production")
    most = named(production, "HorizontalPodAutoscaler", "authserver")["spec"]["maxReplicas"]
    settings = config(production, "authserver")
    workers, threads = int(settings["AUTHSERVER_WORKERS"]), int(settings["AUTHSERVER_THREADS"])
    text = " ".join((K8S.parent / "docs/kubernetes.md").read_text().split())
    assert f"({most} + 2) x {workers} x {threads} = {(most + 2) * workers * threads}" in text
    for variable in ("AUTHSERVER_WORKERS", "AUTHSERVER_THREADS", "PGSSLMODE=verify-full", "authserver-access"):
        assert variable in text


def test_the_migration_runs_before_maintenance_in_one_job(documents: Documents) -> None:
    pod = pod_template(named(documents, "Job", "authserver-migrate"))["spec"]
    assert [c["args"] for c in pod["initContainers"]] == [["authserver", "migrate"]]
    assert [c["args"] for c in pod["containers"]] == [["authserver", "maintain"]]


def test_all_workloads_use_one_image(documents: Documents) -> None:
    ours = [c for c in containers(documents) if c["name"] != "postgres"]
    assert len({c["image"] for c in ours}) == 1


def test_only_what_faces_no_network_has_the_password_of_the_role_that_owns_the_tables(documents: Documents) -> None:
    owner = "authserver-db-app" if kind(documents, "Cluster") else "authserver-owner"  # as CloudNativePG calls it
    serving, mounted = named(documents, "Deployment", "authserver"), {}
    for document in workloads(documents):
        for volume in pod_template(document)["spec"]["volumes"]:
            sources = volume.get("projected", {}).get("sources", [])
            secret_sources = [source["secret"] for source in sources if "secret" in source]
            for source in secret_sources:
                if "database-url" in [item["path"] for item in source["items"]]:
                    mounted[document["metadata"]["name"]] = source["name"]
            assert document is not serving or owner not in [source["name"] for source in secret_sources]
    assert mounted.pop("authserver") == "authserver"
    assert {"authserver-migrate", "authserver-maintain", TOOLBOX} <= mounted.keys()
    assert set(mounted.values()) == {owner}
    labels = pod_template(named(documents, "Deployment", TOOLBOX))["metadata"]["labels"]
    for policy in kind(documents, "NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {}).items()
        assert not policy["spec"].get("ingress") or not wanted <= labels.items() or not wanted


def test_the_roles_of_the_trial_database_are_those_of_roles_sql(render: Any, postgres: Any, tmp_path: Path) -> None:
    """Its script, run by psql as the image does it, but for the names and where the passwords are."""
    (script,) = [d["data"]["roles.sql"] for d in kind(render("dev"), "ConfigMap") if "roles.sql" in d["data"]]
    assert set(re.findall(r"\bauthserver_\w+", script)) == {"authserver_owner", "authserver_app"}
    here = f"roles_{secrets.token_hex(4)}"
    for name in ("owner", "app"):
        (tmp_path / f"{name}-password").write_text(f"it's {name}")
        script = script.replace(f"authserver_{name}", f"{here}_{name}")
    script = script.replace("/run/secrets/postgres", str(tmp_path)).replace("DATABASE authserver", f"DATABASE {here}")
    command = [BINARIES / "psql", "-v", "ON_ERROR_STOP=1", "-f", "-", postgres("postgres")]
    subprocess.run(command, input=script, text=True, check=True, capture_output=True)
    with psycopg.connect(make_conninfo(postgres(here), user=f"{here}_owner", password="it's owner")) as connection:
        connection.execute("CREATE TABLE mine ()")
    with psycopg.connect(make_conninfo(postgres(here), user=f"{here}_app", password="it's app")) as connection:
        for statement in ("CREATE TABLE theirs ()", "CREATE TEMPORARY TABLE theirs ()", "SELECT * FROM mine"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement)


def test_the_namespace_enforces_what_the_pods_keep(render: Any) -> None:
    for overlay in ("dev", "e2e-kind", "e2e-kind-extended", "production"):
        labels = kind(render(overlay), "Namespace")[0]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_production_has_the_image_by_digest_tls_and_no_database_of_its_own(render: Any) -> None:
    production = render("production")
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", c["image"]) for c in containers(production))
    ingress = kind(production, "Ingress")[0]["spec"]
    issuer = config(production, "authserver")["AUTHSERVER_ISSUER"]
    assert issuer == f"https://{ingress['rules'][0]['host']}"
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]
    assert not kind(production, "StatefulSet")
    assert config(production, "authserver")["PGSSLMODE"] == "verify-full"
    # Otherwise each `apply` would undo what the autoscaler did.
    assert "replicas" not in named(production, "Deployment", "authserver")["spec"]


def test_the_extended_overlay_only_adds_to_the_other(render: Any) -> None:
    # The script applies the first, makes a client, and applies the second: what runs must not be disturbed.
    extended = render("e2e-kind-extended")
    assert all(document in extended for document in render("e2e-kind"))
    assert len(extended) > len(render("e2e-kind"))


def test_replicas_are_two_where_no_autoscaler_decides(render: Any) -> None:
    for deployment in servers(render("e2e-kind-extended"), "Deployment"):
        assert deployment["spec"]["replicas"] == 2


def test_monitoring_finds_the_pods_and_may_ask_them(render: Any) -> None:
    documents = render("base with all for production")
    for monitor in kind(documents, "PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [d for d in workloads(documents) if selector.items() <= pod_template(d)["metadata"]["labels"].items()]
        assert [d["metadata"]["name"] for d in found] == [monitor["metadata"]["name"]]
        ports = [port for c in pod_template(found[0])["spec"]["containers"] for port in c["ports"]]
        assert [port for port in ports if port["name"] == endpoint["port"]]
        policy = named(documents, "NetworkPolicy", f"{monitor['metadata']['name']}-from-prometheus")["spec"]
        assert policy["podSelector"]["matchLabels"] == selector
        assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": endpoint["port"]}]
    bind = config(documents, "authserver")["AUTHSERVER_METRICS_BIND"]
    ports = pod_template(named(documents, "Deployment", "authserver"))["spec"]["containers"][0]["ports"]
    assert {port["name"]: port["containerPort"] for port in ports} == {"http": 8000, "metrics": int(bind.split(":")[1])}
    # Nothing leads to the metrics by way of a Service.
    assert [port["targetPort"] for port in named(documents, "Service", "authserver")["spec"]["ports"]] == ["http"]


def test_the_dashboard_is_where_grafanas_sidecar_looks(render: Any) -> None:
    (found,) = [
        d
        for d in kind(render("base with all for production"), "ConfigMap")
        if d["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert found["metadata"]["name"] == "authserver-dashboard"
    assert json.loads(found["data"]["authserver-dashboard.json"])["uid"] == "authserver"
