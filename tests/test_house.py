"""The house (who may import whom), and documents that must say what the code says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from authserver.config import SETTINGS
from authserver.store.queries import load
from resource_server.config import SETTINGS as RESOURCE_SERVER_SETTINGS

# For each room, the rooms of authserver it may use. `app`, `migrate` and the like are rooms of one file.
MAY_USE = {
    "oauth": set(),
    "store": {"oauth"},
    # From where a client or an issuer says; apart, so that nothing else opens connections.
    "fetch": {"oauth"},
    "observe": {"oauth"},
    "flows": {"oauth", "store", "migrate", "fetch", "observe"},
    "web": {"flows", "oauth", "store", "config", "observe", "wsgi"},
    "cli": {"fetch", "flows", "migrate", "config", "dev", "store", "oauth", "observe"},
    "dev": set(),
    "migrate": {"store"},
    "config": {"oauth"},
    "app": {"config", "fetch", "flows", "oauth", "store", "watch", "web", "observe"},
    "logs": {"oauth", "observe", "web"},
    "http_request": set(),
    "watch": set(),
    "wsgi": {"http_request"},
    "connection": {"http_request", "wsgi"},
    "connection_counts": set(),
    "worker": {"connection", "connection_counts", "http_request", "watch", "wsgi"},
    "listening": set(),
    "metrics_master": {"config", "flows", "listening", "metrics_server", "observe"},
    "metrics_server": {"flows", "migrate", "observe", "store"},
    "gunicorn_conf": {"app", "config", "flows", "listening", "logs", "metrics_master", "observe", "store", "worker"},
    "__init__": set(),
    "__main__": {"cli"},
}
ONLY_HERE = {
    "psycopg": {"store"},
    "falcon": {"web", "app"},
    "gunicorn": {"logs", "worker", "gunicorn_conf"},
    "requests": {"dev"},
    "socket": {"fetch", "connection", "worker", "listening", "metrics_master", "metrics_server", "dev"},
    "opentelemetry": {"observe"},
    "prometheus_client": {"observe", "metrics_master", "metrics_server"},
}
PURE = set(sys.stdlib_module_names) - {"socket", "subprocess", "os", "secrets", "random", "time", "urllib.request"}


def imports(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module in ("authserver", "resource_server"):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def room(path: Path, package: Path) -> str:
    parts = path.relative_to(package).parts
    return parts[0].removesuffix(".py")


def may_import(here: str, module: str) -> bool:
    top, _, rest = module.partition(".")
    there = rest.partition(".")[0]
    if top == "authserver":
        return there in {here, "__version__"} or there in MAY_USE[here]
    return top != "resource_server" and here in ONLY_HERE.get(top, {here})


def test_every_room_uses_only_the_rooms_it_may(repository: Path) -> None:
    package = repository / "authserver"
    seen = [(path, module) for path in package.rglob("*.py") for module in imports(path)]
    assert [(path, module) for path, module in seen if not may_import(room(path, package), module)] == []


def test_rules_are_pure(repository: Path) -> None:
    allowed = PURE | {"authserver", "joserfc"}
    for path in (repository / "authserver/oauth").glob("*.py"):
        assert {module.partition(".")[0] for module in imports(path)} <= allowed, path


def test_the_resource_server_stands_alone(repository: Path) -> None:
    falcon_users = set()
    for path in (repository / "resource_server").glob("*.py"):
        modules = {module.partition(".")[0] for module in imports(path)}
        assert "authserver" not in modules, path
        if "falcon" in modules:
            falcon_users.add(path.name)
    assert falcon_users <= {"middleware.py", "app.py"}


def test_every_query_file_can_be_read_and_every_query_is_used(repository: Path) -> None:
    store = repository / "authserver/store"
    for file in store.glob("*.sql"):
        code = file.with_suffix(".py").read_text()
        for name, statement in load(file.name).items():
            assert statement
            assert re.search(rf'["\']{name}["\']', code), f"{file.name}: {name} is not used"


def test_the_readme_lists_every_setting(repository: Path) -> None:
    documented = (repository / "docs/configuration.md").read_text()
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "required" if setting.default is None else ""
        row = f"| `{setting.variable}` | {default} | {setting.help} |"
        assert row in documented, row
    for row in RESOURCE_SERVER_SETTINGS:
        line = f"| `{row.name}` | {f'`{row.default}`' if row.default else ''} | {row.help} |"
        assert line in documented, line
    named = set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE))
    assert named == {s.variable for s in SETTINGS} | {s.name for s in RESOURCE_SERVER_SETTINGS}


def test_the_conformance_table_is_complete_and_true(repository: Path) -> None:
    rows = re.findall(
        r"^\| (?P<id>[A-Z]\d+a?) \| .* \| (?:`(?P<file>[\w/.]+)::(?P<test>\w+)`|(?P<open>not yet: .+)) \|$",
        (repository / "docs/conformance.md").read_text(),
        re.MULTILINE,
    )
    expected = {
        *(f"T{n}" for n in range(1, 27)),
        *(f"A{n}" for n in range(1, 7)),
        *(f"I{n}" for n in range(1, 9)),
        "I4a",
        *(f"R{n}" for n in range(1, 7)),
        *(f"C{n}" for n in range(1, 7)),
        *(f"M{n}" for n in range(1, 3)),
        *(f"S{n}" for n in range(1, 22)),
    }
    assert {row[0] for row in rows} == expected
    assert len(rows) == len(expected)
    for identifier, file, test, _open in rows:
        if file:
            assert re.search(rf"^def {test}\(", (repository / file).read_text(), re.MULTILINE), identifier
            assert test.startswith(f"test_{identifier.lower()}_"), identifier


def test_every_dependency_is_explained(repository: Path) -> None:
    setup = (repository / "setup.cfg").read_text()
    names = set(re.findall(r"^    ([A-Za-z][\w-]*)(?:\[\w+\])? >=", setup, re.MULTILINE))
    assert "falcon" in names
    explained = set(re.findall(r"^\| `([\w-]+)` \|", (repository / "docs/dependencies.md").read_text(), re.MULTILINE))
    assert explained == names


_LINKED = (
    "operations",
    "api",
    "audit",
    "cli",
    "clients",
    "configuration",
    "kubernetes",
    "workload-identity",
    "performance",
    "scaling",
)


@pytest.mark.parametrize(
    "document",
    ["README.md", *(f"docs/{name}.md" for name in _LINKED)],
)
def test_links_in_documents_lead_somewhere(repository: Path, document: str) -> None:
    path = repository / document
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{document}: {target}"


def test_manifests_in_documents_are_valid(repository: Path) -> None:
    text = (repository / "docs/workload-identity.md").read_text()
    manifests = [
        manifest
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        for manifest in yaml.safe_load_all(block)
    ]
    assert [manifest["kind"] for manifest in manifests] == ["ServiceAccount", "Job"]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_wheel_runs_by_itself(
    repository: Path, tmp_path: Path, make_database: Callable[[], str], outside: dict[str, str]
) -> None:
    """Built, installed into an empty environment, the wheel has the migrations and can apply them."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, repository],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    migrations = {f"authserver/migrations/{file.name}" for file in (repository / "sql").glob("*.sql")}
    assert {name for name in names if name.startswith("authserver/migrations/")} == migrations
    assert "authserver/web/openapi.json" in names
    assert not any(name.startswith(("tests/", "sql/")) for name in names)

    venv.create(tmp_path / "venv")
    # With it pip would find the package in the repository, and install nothing.
    environment = {k: v for k, v in outside.items() if k != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--python", tmp_path / "venv/bin/python", "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, wheel], check=True, capture_output=True, env=environment)
    done = subprocess.run(
        [tmp_path / "venv/bin/authserver", "migrate"],
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"AUTHSERVER_DATABASE_URL": make_database()},
        cwd=tmp_path,
    )
    assert "applied 0001_clients.sql" in done.stdout
