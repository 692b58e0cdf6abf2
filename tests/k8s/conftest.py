"""The overlays, as `kubectl` renders them and as this module puts them together from their sources.

kubectl's is the rendering that counts. Where there is no kubectl the tests run on the other one alone; where there is,
a test sees that both are the same.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir() if path.is_dir())
# Components that no overlay has by default: what they are tried with.
WITH = {
    "base with postgres-cnpg": ("base", "postgres-cnpg"),
    "base with all for production": ("base", "postgres-cnpg", "resource-server", "monitoring"),
}

Document = dict[str, Any]


@functools.cache
def _rendered(directory: Path) -> tuple[Document, ...]:
    output = subprocess.run(["kubectl", "kustomize", str(directory)], check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(output))


@functools.cache
def _assembled(directory: Path) -> tuple[Document, ...]:
    documents = _accumulate(directory, [])
    for document in (d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] in _generated()):
        if document.pop("disableNameSuffixHash", False):
            continue
        plain = document["metadata"]["name"]
        document["metadata"]["name"] = f"{plain}-{_content_hash(document)}"
        for source in (s for c in _containers(documents) for s in c.get("envFrom", [])):
            if source["configMapRef"]["name"] == plain:
                source["configMapRef"]["name"] = document["metadata"]["name"]
    return tuple(documents)


def _accumulate(directory: Path, documents: list[Document]) -> list[Document]:
    """What a kustomization makes of the documents so far: as much of kustomize as ours use, refusing the rest."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    for name in kustomization.pop("resources", []):
        path = directory / name
        more = _accumulate(path, []) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
        documents.extend(more)
    for name in kustomization.pop("components", []):
        documents = _accumulate(directory / name, documents)
    for generator in kustomization.pop("configMapGenerator", []):
        _generate(generator, documents, directory)
    for patch in kustomization.pop("patches", []):
        operations = yaml.safe_load(patch["patch"] if "patch" in patch else (directory / patch["path"]).read_text())
        for document in documents:
            if (document["kind"], document["metadata"]["name"]) == (patch["target"]["kind"], patch["target"]["name"]):
                _patch(document, operations)
    _transform(documents, **kustomization)
    return documents


def _transform(
    documents: list[Document],
    *,
    namespace: str | None = None,
    labels: Sequence[dict[str, Any]] = (),
    images: Sequence[dict[str, str]] = (),
    **rest: Any,
) -> None:
    assert set(rest) == {"apiVersion", "kind"}, "something that this does not understand"
    for document in documents:
        for label in labels:
            for metadata in _metadata(document, templates=label["includeTemplates"]):
                metadata.setdefault("labels", {}).update(label["pairs"])
        if namespace:
            document["metadata"]["name" if document["kind"] == "Namespace" else "namespace"] = namespace
    for image in images:
        for container in _containers(documents):
            container["image"] = _replaced(container["image"], image)


def _generate(generator: dict[str, Any], documents: list[Document], directory: Path) -> None:
    data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
    data |= {name: (directory / name).read_text() for name in generator.get("files", [])}
    if generator.get("behavior") == "merge":
        found = (d for d in documents if (d["kind"], d["metadata"]["name"]) == ("ConfigMap", generator["name"]))
        next(found)["data"].update(data)
        return
    metadata = {"name": generator["name"], "labels": dict(generator["options"]["labels"])}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    if generator["options"].get("disableNameSuffixHash"):
        made["disableNameSuffixHash"] = True
    documents.append(made)


def _patch(document: Document, operations: list[dict[str, Any]]) -> None:
    for operation in operations:
        *parents, last = [int(step) if step.isdigit() else step for step in operation["path"].split("/")[1:]]
        place: Any = document
        for step in parents:
            place = place[step]
        if operation["op"] == "add":
            assert last == "-"
            place.append(copy.deepcopy(operation["value"]))
        elif operation["op"] == "remove":
            del place[last]
        else:
            assert operation["op"] == "replace"
            place[last] = copy.deepcopy(operation["value"])


@functools.cache
def _generated() -> set[str]:
    """The names of the ConfigMaps that are made by generators and get a hash."""
    kustomizations = [yaml.safe_load(path.read_text()) for path in K8S.rglob("kustomization.yaml")]
    return {each["name"] for document in kustomizations for each in document.get("configMapGenerator", [])}


def _metadata(document: Document, *, templates: bool) -> Iterator[dict[str, Any]]:
    yield document["metadata"]
    spec = document.get("spec", {})
    for key in ("template", "jobTemplate") if templates else ():
        if key in spec:
            spec[key].setdefault("metadata", {})
            yield from _metadata(spec[key], templates=True)


def _containers(documents: list[Document]) -> Iterator[dict[str, Any]]:
    for document in documents:
        spec = document.get("spec", {})
        pod = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
        yield from (*pod.get("initContainers", []), *pod.get("containers", []))


def _replaced(reference: str, image: dict[str, str]) -> str:
    if reference.partition(":")[0] != image["name"]:
        return reference
    name = image.get("newName", image["name"])
    return f"{name}@{image['digest']}" if "digest" in image else f"{name}:{image['newTag']}"


def _content_hash(config_map: Document) -> str:
    content = {"data": config_map["data"], "kind": "ConfigMap", "name": ""}  # the name is not part of it
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return digest[:10].translate(str.maketrans("013ae", "ghkmt"))


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the directory with the kustomization of an overlay, or of one of WITH."""

    @functools.cache
    def find(name: str) -> Path:
        if name not in WITH:
            return K8S / "overlays" / name
        made = tmp_path_factory.mktemp("with").resolve()
        here = os.path.relpath(K8S, made)
        base, *components = WITH[name]
        (made / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: authserver\n"
            f"resources: [{here}/{base}]\ncomponents:\n"
            + "".join(f"  - {here}/components/{each}\n" for each in components)
        )
        return made

    return find


@pytest.fixture(scope="session")
def render(directory: Any) -> Any:
    """Give all objects of an overlay by its name."""
    how = _rendered if shutil.which("kubectl") else _assembled
    return lambda name: how(directory(name))


@pytest.fixture(scope="session", params=[*OVERLAYS, *WITH])
def documents(render: Any, request: pytest.FixtureRequest) -> tuple[Document, ...]:
    """All objects of one overlay, for each."""
    objects: tuple[Document, ...] = render(request.param)
    return objects


@pytest.fixture(scope="session", params=[*OVERLAYS, *WITH])
def both_renderings(directory: Any, request: pytest.FixtureRequest) -> tuple[tuple[Document, ...], ...]:
    """One overlay, for each, as kubectl renders it and as this module does."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the overlays are put together by the tests alone")
    return _rendered(directory(request.param)), _assembled(directory(request.param))
