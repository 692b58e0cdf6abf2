"""The `traceparent` header, by the letter of W3C Trace Context §3.2 and §4.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.observe.trace_context import is_trace_id, read_trace_id
from resource_server.trace import Trace, read_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = [
    f"00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-00",
    f"00-{TRACE}-{SPAN}-ff",
    f"01-{TRACE}-{SPAN}-01",
    f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
    f"01-{TRACE}-{SPAN}-01-",
]
BAD = [
    "",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01-",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-011",
    f"00-{TRACE}-{SPAN}",
    f"01-{TRACE}-{SPAN}-01.more",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN.upper()}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE[1:]}-{SPAN}-01",
    f" 00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01\n",
    f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
    f"01-{TRACE}-{SPAN}-01-{'x' * 600}",
    f"01-{TRACE}-{SPAN}-01-\x00",
    f"0\u0660-{TRACE}-{SPAN}-01",
]


@pytest.mark.parametrize("value", GOOD)
def test_good_ones_give_the_trace_id(value):
    assert read_trace_id(value) == TRACE
    trace = read_trace(value)
    assert trace is not None
    assert trace.trace_id == TRACE


@pytest.mark.parametrize("value", BAD)
def test_bad_ones_are_ignored(value):
    assert read_trace_id(value) is None
    assert read_trace(value) is None


hexadecimal = st.text("0123456789abcdef", min_size=1, max_size=40)


@given(st.one_of(st.text(), st.builds("{}-{}-{}-{}".format, hexadecimal, hexadecimal, hexadecimal, hexadecimal)))
def test_whatever_comes_the_outcome_is_a_trace_id_or_none(value):
    found = read_trace_id(value)
    assert found is None or (is_trace_id(found) and found in value)
    trace = read_trace(value)
    assert (trace.trace_id if trace else None) == found


@given(
    st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.integers(0, 255)
)
def test_what_is_made_by_the_letter_is_read(trace, span, flags):
    assert read_trace_id(f"00-{trace.hex()}-{span.hex()}-{flags:02x}") == trace.hex()
    read = read_trace(f"00-{trace.hex()}-{span.hex()}-{flags:02x}")
    assert read == Trace(trace.hex(), f"{flags & 1:02x}")
