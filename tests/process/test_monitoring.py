"""The alerts and the dashboard speak of what is there: every metric, label, value and runbook that they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from authserver.dev.stack import RESOURCE, Stack, free_port

# What Prometheus itself attaches to what it scrapes.
ATTACHED = {"namespace", "pod", "job", "instance", "le"}
_SELECTOR = re.compile(r"\b((?:authserver|resource_server)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring) \(([^)]*)\)")

Labels = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Iterator[Labels]:
    """The values of each label of each metric, of servers to which everything has happened that is to be seen."""
    address = f"127.0.0.1:{free_port()}"
    # One worker: with several the others write what they have counted within a second, and this one before it answers.
    settings = {"AUTHSERVER_METRICS_BIND": address, "AUTHSERVER_WORKERS": "1"}
    with Stack(tmp_path_factory.mktemp("stack"), environment=settings) as stack:
        yield read(f"http://{address}/metrics", *live(stack))


def live(stack: Stack) -> list[str]:
    create = ("client", "create", "--audience", RESOURCE, "--scope", "read")
    a, j = (json.loads(stack.run(*create, *more)) for more in (["a"], ["j", "--access-token-format", "jwt"]))
    follow = ("--permission", "revocations:read")
    b = json.loads(stack.run("client", "create", "--resource", RESOURCE, *follow, "b"))
    feed, away = f"{stack.issuer}/oauth/revocations", "http://127.0.0.1:1/"
    urls = [
        stack.start_resource_server(b["client_id"], secret, environment=environment)
        for secret, environment in (
            (b["client_secret"], {"OAUTH2_REVOCATIONS_URL": feed}),
            ("wrong", {"OAUTH2_REVOCATIONS_URL": feed}),
            (b["client_secret"], {"OAUTH2_INTROSPECT_URL": away}),
        )
    ]
    for client in (a, j):
        basic = (client["client_id"], client["client_secret"])
        form = {"grant_type": "client_credentials", "resource": RESOURCE}
        token = requests.post(f"{stack.issuer}/oauth/token", form, auth=basic, timeout=30).json()["access_token"]
        for url in urls * 2:
            requests.get(f"{url}/protected", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        requests.post(f"{stack.issuer}/oauth/revoke", {"token": token}, auth=basic, timeout=30)
        basic = (b["client_id"], b["client_secret"])
        requests.post(f"{stack.issuer}/oauth/introspect", {"token": token}, auth=basic, timeout=30)
    wrong = {"client_id": "a", "client_secret": "x"}
    while requests.post(f"{stack.issuer}/oauth/token", wrong, timeout=30).status_code != HTTPStatus.TOO_MANY_REQUESTS:
        pass
    return [f"{url}/metrics" for url in urls]


def read(*urls: str) -> Labels:
    found: Labels = defaultdict(lambda: defaultdict(set))
    for url in urls:
        for family in text_string_to_metric_families(requests.get(url, timeout=30).text):
            for sample in family.samples:
                values = found[sample.name]
                for label, value in sample.labels.items():
                    values[label].add(value)
    return found


def rules(repository: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load((repository / "k8s/components/monitoring/prometheusrule.yaml").read_text())
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def panels(repository: Path) -> list[dict[str, Any]]:
    document = json.loads((repository / "k8s/components/monitoring/authserver-dashboard.json").read_text())
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def expressions(repository: Path) -> list[str]:
    return [rule["expr"] for rule in rules(repository)] + [
        target["expr"] for panel in panels(repository) for target in panel["targets"]
    ]


def test_every_metric_label_and_value_that_is_named_exists(repository: Path, labels: Labels) -> None:
    for expression in expressions(repository):
        selectors = _SELECTOR.findall(expression)
        assert selectors, expression
        here = set(ATTACHED)
        for name, matchers in selectors:
            assert name in labels, f"{name} of {expression}"
            here |= labels[name].keys()
            for label, operator, value in _MATCHER.findall(matchers):
                assert label in labels[name].keys() | ATTACHED, f"{label} of {expression}"
                if label not in ATTACHED and operator in ("=", "!="):
                    assert value in labels[name][label], f"{label}={value} of {expression}"
        for grouping in _GROUPING.findall(expression):
            assert set(re.split(r",\s*", grouping)) <= here, expression


def test_legends_and_summaries_name_labels_that_are_left(repository: Path) -> None:
    named = [
        (rule["expr"], re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) for rule in rules(repository)
    ] + [
        (target["expr"], re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        for panel in panels(repository)
        for target in panel["targets"]
    ]
    for expression, names in named:
        left = {label for grouping in _GROUPING.findall(expression) for label in re.split(r",\s*", grouping)}
        assert set(names) <= left, expression


def test_every_alert_has_its_section_in_the_runbook(repository: Path) -> None:
    page = (repository / "docs/operations.md").read_text()
    _, _, alerts = page.partition("\n## Alerts\n")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", alerts, re.MULTILINE | re.DOTALL))
    assert sections.keys() == {rule["alert"] for rule in rules(repository)}
    for rule in rules(repository):
        assert rule["annotations"]["runbook_url"].endswith(f"/operations.md#{rule['alert'].lower()}")
        assert "- Look" in sections[rule["alert"]], f"{rule['alert']}: how to look"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["for"]


def test_the_dashboard_can_be_imported(repository: Path) -> None:
    found = panels(repository)
    assert len({panel["id"] for panel in found}) == len(found)
    for panel in found:
        assert panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is not installed"
)
def test_promtool_reads_every_expression(repository: Path, tmp_path: Path) -> None:
    # Those of the dashboard as rules, with a value for what Grafana puts in.
    recorded = [
        {"record": f"panel:{at}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for at, target in enumerate(target for panel in panels(repository) for target in panel["targets"])
    ]
    groups = [{"name": "alerts", "rules": rules(repository)}, {"name": "panels", "rules": recorded}]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules(repository)) + len(recorded)} rules found" in done.stdout
