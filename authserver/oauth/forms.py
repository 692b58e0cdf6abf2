"""Read `application/x-www-form-urlencoded` bodies strictly (RFC 6749 §3.2, §4.4.2, Appendix B)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from authserver.oauth.errors import InvalidRequest

MAX_PARAMETERS: Final = 64
# RFC 8707 §2: the one parameter that may be given more than once.
REPEATABLE: Final = frozenset({"resource"})
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Form:
    """The parameters of one request. An empty parameter counts as omitted (RFC 6749 §3.2)."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def get(self, name: str) -> str | None:
        """The value of a parameter, or None."""
        values = self._values.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """All values of a repeatable parameter, in order."""
        return self._values.get(name, [])

    def require(self, name: str) -> str:
        """The value of a parameter. Raises InvalidRequest if it was omitted."""
        value = self.get(name)
        if value is None:
            raise InvalidRequest(f"The parameter '{name}' is missing.")
        return value


@lru_cache(64)
def is_form(content_type: str | None) -> bool:
    """Whether a Content-Type header announces a form in UTF-8 (RFC 6749 §4.4.2)."""
    media_type, *parameters = (content_type or "").lower().split(";")
    charsets = [p.split("=", 1)[1].strip(' "') for p in parameters if p.strip().startswith("charset=")]
    return media_type.strip() == "application/x-www-form-urlencoded" and all(c in ("utf-8", "utf8") for c in charsets)


def parse_form(body: bytes) -> Form:
    """Decode a body. Raises InvalidRequest for what is not UTF-8, a broken `%`, a repeated parameter, or too many."""
    values: dict[str, list[str]] = {}
    pairs = body.split(b"&", MAX_PARAMETERS)
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequest("There are too many parameters.")
    for pair in pairs:
        raw_name, _, raw_value = pair.partition(b"=")
        name, value = decode(raw_name), decode(raw_value)
        seen = values.setdefault(name, [])
        # Even an empty or equal one: two parties that read different occurrences must not be played off (§3.2).
        if seen and name not in REPEATABLE and name:
            raise InvalidRequest("A parameter is repeated.")
        seen.append(value)
    return Form({name: [v for v in found if v] for name, found in values.items()})


def decode(raw: bytes) -> str:
    """Form-decode one name or value (RFC 6749 Appendix B). Raises InvalidRequest."""
    plain = raw.replace(b"+", b" ")
    if b"%" in plain:
        if _BAD_PERCENT.search(plain):
            raise InvalidRequest("The body is not form-encoded: a percent sign is not followed by two hex digits.")
        plain = unquote_to_bytes(plain)
    try:
        text = plain.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not form-encoded UTF-8.") from None
    if "\0" in text:
        # PostgreSQL has no text with NUL, and no protocol value here needs one.
        raise InvalidRequest("A parameter contains a NUL character.")
    return text
