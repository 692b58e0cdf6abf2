"""Read a document that an operator wrote: YAML, or JSON; strictly, and with the line that each value came from.

Only what JSON has too: mappings, sequences, strings, whole numbers, true, false and null. No anchors, aliases, tags or
merge keys, so a document is as large as it looks; no key twice; and nothing is guessed that YAML would guess (`no`,
`1:30`, `0o7`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from authserver.cli.common import CommandError
from authserver.config import unreadable
from authserver.oauth.client_document import Place

MAX_BYTES = 1 << 20  # as much as a ConfigMap holds
STANDARD_INPUT = "-"

_TAG = "tag:yaml.org,2002:"
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_CONSTANTS: Mapping[str, Mapping[str, bool | None]] = {
    f"{_TAG}bool": {"true": True, "false": False},
    f"{_TAG}null": {"null": None, "": None, "~": None},
}
# A timestamp is a string here: who wants one reads it as such.
_TEXTS = (f"{_TAG}str", f"{_TAG}timestamp")


@dataclass(frozen=True)
class Document:
    """A value, and where it was written."""

    source: str
    value: Any
    lines: Mapping[Place, int] = field(default_factory=dict)

    def at(self, place: Place) -> str:
        """`clients.yaml:12: clients[3].scope`: the line, where it is known, and the path."""
        known = self.line(place)
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
        return ": ".join(part for part in (f"{self.source}:{known}" if known else self.source, path) if part)

    def line(self, place: Place) -> int:
        """The line of a value, or of what it would be in; 0 where it is not known."""
        return next((self.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.lines), 0)

    @property
    def directory(self) -> Path:
        """What relative paths in the document start from."""
        return Path() if self.source == STANDARD_INPUT else Path(self.source).parent


def read_document(path: str) -> Document:
    """The document in a file, or on standard input for `-`. Raises CommandError."""
    try:
        with sys.stdin.buffer if path == STANDARD_INPUT else Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read: {unreadable(error)}") from None
    if len(data) > MAX_BYTES:
        raise CommandError(f"{path}: is larger than {MAX_BYTES} bytes")
    try:
        if text.lstrip().startswith("{") and (found := _read_json(path, text)) is not None:
            return found
        return _read_yaml(path, text)
    except RecursionError:
        raise CommandError(f"{path}: is nested too deeply") from None


def _read_json(path: str, text: str) -> Document | None:
    """None for what is no JSON: YAML may begin with a brace, too."""

    repeated: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                repeated.append(f"{path}: the key {key!r} is there twice")
            found[key] = value
        return found

    try:
        value = json.loads(text, object_pairs_hook=mapping)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")  # JSON can escape what UTF-8 cannot hold
    except UnicodeEncodeError:
        raise CommandError(f"{path}: holds text that is no Unicode") from None
    except ValueError:
        return None
    if repeated:
        raise CommandError(*repeated)
    return Document(path, value)


class _Strict(yaml.SafeLoader):
    """Composes nodes as they are written."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # the stubs lack it
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not read", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def _read_yaml(path: str, text: str) -> Document:
    try:
        node = _Strict(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise CommandError(f"{path}:{mark.line + 1 if mark else 1}: {error.problem or 'no YAML'}") from None
    except yaml.YAMLError:
        raise CommandError(f"{path}: is no YAML: it holds a character that YAML does not allow") from None
    values = _Values()
    value = None if node is None else values.read(node, ())
    if values.problems:
        raise CommandError(*(f"{path}:{line}: {problem}" for line, problem in values.problems))
    return Document(path, value, values.lines)


class _Values:
    """Reads nodes: the lines that values are in, and what is wrong in which line."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.problems: list[tuple[int, str]] = []

    def read(self, node: yaml.Node, place: Place) -> Any:
        """The value of a node; something else where there is a problem."""
        self.lines[place] = _line(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.read(each, (*place, at)) for at, each in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, place)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, each in node.value:
            if key.tag != f"{_TAG}str":
                self._note(key, "a key must be a string")
                continue
            if key.value in found:
                self._note(key, f"the key {key.value!r} is there twice")
            found[key.value] = self.read(each, (*place, key.value))
            self.lines[(*place, key.value)] = _line(key)
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag in _TEXTS:
            return node.value
        if node.tag == f"{_TAG}int" and _WHOLE_NUMBER.fullmatch(node.value):
            return int(node.value)
        constants = _CONSTANTS.get(node.tag, {})
        if isinstance(node.value, str) and node.value in constants:
            return constants[node.value]
        self._note(
            node, "put this value in quotes if it is text; there are whole numbers, true, false and null beside it"
        )
        return None

    def _note(self, node: yaml.Node, problem: str) -> None:
        self.problems.append((_line(node), problem))


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line + 1
    return line
