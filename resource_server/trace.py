"""The trace that a request belongs to (W3C Trace Context), remembered while it is handled and passed on."""

import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

# §3.2.2: lower-case hexadecimal, and neither id is all zeros. A version after 00 may append more, behind a dash.
_FORM: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-"
    r"(?P<flags>[0-9a-f]{2})(?P<more>-[\x20-\x7e]*)?"
)
_SAMPLED: Final = 1
_LONGEST: Final = 512
_STATE: Final = re.compile(r"[\x20-\x7e]{1,512}")


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace: its id, whether it is recorded ("01") or not ("00"), and what vendors keep with it (§3.3)."""

    trace_id: str
    flags: str = "00"
    state: str = ""

    def headers(self) -> Mapping[str, str]:
        """The fields for one call to another server: each call is a span of its own (§3.4)."""
        fields = {"traceparent": f"00-{self.trace_id}-{secrets.token_hex(8)}-{self.flags}"}
        return {**fields, "tracestate": self.state} if self.state else fields


_current: ContextVar[Trace | None] = ContextVar("resource_server.trace", default=None)


def read_trace(traceparent: str, tracestate: str = "") -> Trace | None:
    """Read what came with a request; None for a `traceparent` that is none (§4.3: then both are ignored)."""
    match = _FORM.fullmatch(traceparent) if len(traceparent) <= _LONGEST else None
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["more"] is not None):
        return None
    # §3.2.2.5: of the flags only the one that is known is passed on
    flags = f"{int(match['flags'], 16) & _SAMPLED:02x}"
    return Trace(match["trace_id"], flags, tracestate if _STATE.fullmatch(tracestate) else "")


def begin(traceparent: str, tracestate: str = "") -> str:
    """Let this thread belong to the trace that a request names, or to a new one. Returns the trace's id."""
    trace = read_trace(traceparent, tracestate) or Trace(secrets.token_hex(16))
    _current.set(trace)
    return trace.trace_id


def current_headers() -> Mapping[str, str]:
    """The fields that pass this thread's trace on; none where no request is handled."""
    trace = _current.get()
    return trace.headers() if trace else {}
