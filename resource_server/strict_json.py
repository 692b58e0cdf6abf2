"""JSON from others, read strictly: what parsers disagree about is refused instead of guessed."""

import json
from typing import Any


def json_object(text: bytes | str) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else, for a member that appears twice, and for NaN or Infinity."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON (RFC 8259 §6)")
