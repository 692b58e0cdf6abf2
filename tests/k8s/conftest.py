"""The overlays as `kubectl` renders them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir() if path.is_dir())


@functools.cache
def _render(directory: Path) -> tuple[dict[str, Any], ...]:
    output = subprocess.run(["kubectl", "kustomize", str(directory)], check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(output))


@pytest.fixture(scope="session")
def kubectl() -> None:
    """Skip what cannot be done without kubectl, whose kustomize is the one that counts."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the overlays are not rendered, only their sources are checked")


@pytest.fixture(scope="session", params=[*OVERLAYS, "base with postgres-cnpg"])
def documents(
    kubectl: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], ...]:
    """All objects of one overlay, or of the component that no overlay has by default."""
    if request.param in OVERLAYS:
        return _render(K8S / "overlays" / request.param)
    directory = tmp_path_factory.mktemp("cnpg")
    here = os.path.relpath(K8S.resolve(), directory.resolve())
    (directory / "kustomization.yaml").write_text(
        f"namespace: authserver\nresources: [{here}/base]\ncomponents: [{here}/components/postgres-cnpg]\n"
    )
    return _render(directory)


@pytest.fixture(scope="session")
def render(kubectl: None) -> Any:
    """Give the objects of an overlay by its name."""
    return lambda name: _render(K8S / "overlays" / name)
