"""docs/audit.md says what the code says: every event and every field, each event with an example."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from authserver.flows import audited
from authserver.observe.events import COMMON, EVENTS, VERSION

READING = {
    "AuditedClients": {
        *("load", "is_current", "list", "holds_registration", "expiring_secrets"),
        "note_use",  # when it was used is told with each token
    },
    "AuditedSigningKeys": {"lock", "version", "list", "prove", "reseal"},  # another encryption is the same key
    "AuditedTrustedIssuers": {"find", "list", "get", "bindings"},
    "AuditedInitialAccessTokens": {"is_good", "any", "list"},
}


def test_the_document_has_every_event_and_field(repository: Path) -> None:
    text = (repository / "docs/audit.md").read_text()
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == COMMON
    sections = dict(re.findall(r"^### `([\w.]+)`\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(EVENTS)
    for event, section in sections.items():
        (example,) = re.findall(r"```json\n(.*)\n```", section)
        line = json.loads(example)
        assert tuple(line) == (*COMMON, *EVENTS[event]), event
        assert (line["event"], line["version"]) == (event, VERSION)
        assert section.split("```")[0].strip(), f"{event}: nothing is said of it"


def test_whatever_changes_something_is_audited() -> None:
    """A method that a store gets must be audited, or be named here as one that changes nothing of interest."""
    found = {name: each for name, each in vars(audited).items() if name.startswith("Audited")}
    assert found.keys() == READING.keys()
    for name, store in found.items():
        methods = {method for method, _ in inspect.getmembers(store, inspect.isfunction) if not method.startswith("_")}
        own = {method for method in vars(store) if not method.startswith("_")}
        assert methods - own == READING[name]
