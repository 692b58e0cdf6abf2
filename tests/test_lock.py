"""The image is made of what the lock files name, and they name all that the project needs, by hashes alone."""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("requirements.lock", "requirements-build.lock")
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][0-9a-z.]*)(?: ; (?P<marker>.+))?")
REFRESH = "run scripts/lock.sh"


def test_the_command_for_known_vulnerabilities_takes_all_that_is_locked(repository: Path) -> None:
    (command,) = re.findall(r"^\$ .*pip-audit.*$", (repository / "docs/operations.md").read_text(), re.MULTILINE)
    assert tuple(re.findall(r"-r (\S+)", command)) == LOCKS


def locked(repository: Path, name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name; fails on a line that is anything else."""
    found: dict[str, tuple[str, list[str]]] = {}
    text = (repository / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("#"):
            pin, *hashes = re.split(r"\s+--hash=", line.strip())
            match = PINNED.fullmatch(pin)
            assert match, line
            found[match["name"]] = (match["version"], hashes)
    return found


def needed(requirement: Requirement, seen: set[str]) -> Iterator[str]:
    """The names of what a requirement brings along in this environment, itself included."""
    name = canonicalize_name(requirement.name)
    if name in seen:
        return
    seen.add(name)
    yield name
    for text in requires(name) or []:
        further = Requirement(text)
        extras = requirement.extras or {""}
        if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
            yield from needed(further, seen)


def runtime(repository: Path) -> list[Requirement]:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(repository / "setup.cfg")
    return [Requirement(line) for line in settings["options"]["install_requires"].split("\n") if line]


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_version_with_hashes(repository: Path, name: str) -> None:
    for version, hashes in locked(repository, name).values():
        assert version
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("name", LOCKS)
def test_nothing_comes_from_elsewhere(repository: Path, name: str) -> None:
    text = (repository / name).read_text()
    assert not re.search(r"://|^-|^\s+-(?!-hash=)| @ ", text, re.MULTILINE)


def test_the_lock_keeps_to_the_ranges_of_setup_cfg(repository: Path) -> None:
    versions = locked(repository, "requirements.lock")
    for requirement in runtime(repository):
        assert requirement.name in versions, REFRESH
        assert requirement.specifier.contains(versions[requirement.name][0]), f"{requirement}: {REFRESH} --upgrade"


def test_the_lock_names_all_that_is_brought_along(repository: Path) -> None:
    seen: set[str] = set()
    names = {name for requirement in runtime(repository) for name in needed(requirement, seen)}
    assert names - locked(repository, "requirements.lock").keys() == set(), REFRESH


def test_what_builds_the_project_is_locked_as_well(repository: Path) -> None:
    versions = locked(repository, "requirements-build.lock")
    for text in tomllib.loads((repository / "pyproject.toml").read_text())["build-system"]["requires"]:
        assert Requirement(text).specifier.contains(versions[Requirement(text).name][0]), f"{REFRESH} --upgrade"


def test_the_image_takes_nothing_from_an_index_unchecked(repository: Path) -> None:
    text = (repository / "Dockerfile").read_text().replace("\\\n", " ")
    commands = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) [^&\n]*", text)
    assert len(commands) == 4
    for command in commands:
        assert ("--require-hashes" in command) != ("--no-index" in command), command
        assert "wheel" not in command.split() or "--no-build-isolation" in command, command
