"""Scope: a set of case-sensitive words without order (RFC 6749 §3.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from authserver.oauth.errors import InvalidScope

MAX_WORDS = 64
# scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_WORD = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")


def parse_scope(text: str) -> list[str]:
    """The words of a scope, duplicates collapsed, in the order of first mention. Raises InvalidScope."""
    words = text.split(" ")
    if len(words) > MAX_WORDS:
        raise InvalidScope("The scope has too many words.")
    if not all(_WORD.fullmatch(word) for word in words):
        raise InvalidScope("The scope is malformed.")
    return list(dict.fromkeys(words))


def grant_scope(requested: str | None, registered: Sequence[str], default: Sequence[str]) -> str:
    """The scope to grant: what was requested, or else the client's default.

    Refused rather than reduced: a client that believes it got more than it has fails later and elsewhere.
    Raises InvalidScope if the request is malformed or goes beyond `registered`, or if there is no default.
    """
    if requested is None:
        if not default:
            raise InvalidScope("No scope was requested and the client has no default scope.")
        return " ".join(default)
    words = parse_scope(requested)
    if not set(words) <= set(registered):
        raise InvalidScope("The scope goes beyond what the client may have.")
    return " ".join(words)
