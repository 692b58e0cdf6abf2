"""The time in log lines, held against the standard library's."""

from __future__ import annotations

import re
from datetime import datetime

from hypothesis import example, given
from hypothesis import strategies as st

from authserver.observe.timestamp import timestamp


@given(st.floats(0, 2**33))
@example(1795850349.9999)
@example(1795850350.0)
def test_a_time_reads_back_to_the_millisecond(seconds: float) -> None:
    line = timestamp(seconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line)
    assert -0.0001 < seconds - datetime.fromisoformat(line).timestamp() < 0.0011
