"""The trace that a request belongs to (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re

# §3.2.2: lower-case hexadecimal, and neither id is all zeros. A version after 00 may append more, behind a dash.
_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-[\x20-\x7e]*)?"
)
_LONGEST = 512
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


def read_trace_id(traceparent: str) -> str | None:
    """The trace id in the value of a `traceparent` header; None if it is not one (§4.3: then it is ignored)."""
    match = _FORM.fullmatch(traceparent) if len(traceparent) <= _LONGEST else None
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["more"] is not None):
        return None
    return match["trace_id"]


def is_trace_id(text: str) -> bool:
    """Whether a text could be a trace id."""
    return _TRACE_ID.fullmatch(text) is not None
