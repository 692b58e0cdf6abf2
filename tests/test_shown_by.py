"""Documents that say which test shows something name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

NAMED = re.compile(r"\btests/[\w/]+\.py(?:::\w+)?")


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/operations.md"])
def test_every_test_that_a_document_names_exists(repository: Path, document: str) -> None:
    names = NAMED.findall((repository / document).read_text())
    assert names
    for name in names:
        path, _, function = name.partition("::")
        assert (repository / path).is_file(), name
        assert not function or function in functions(repository / path), name


def test_every_threat_has_a_defence_and_a_test(repository: Path) -> None:
    section = (
        (repository / "SECURITY.md").read_text().partition("## What is defended, and how")[2].partition("\n## ")[0]
    )
    rows = [row.strip("|").split(" | ") for row in section.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 30
    for threat, defence, shown in rows:
        assert threat.strip()
        assert defence.strip().endswith(".")
        assert all("::test_" in name for name in NAMED.findall(shown)), threat
        assert NAMED.findall(shown), threat
