"""What is passed on to the authorization server with each call: the trace, a span of its own, nothing unchecked."""

from __future__ import annotations

import threading

from resource_server.trace import begin, current_headers

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_each_call_is_a_span_of_its_own_in_the_callers_trace():
    assert begin(f"00-{TRACE}-{SPAN}-ff", "vendor=1") == TRACE
    first, second = current_headers(), current_headers()
    assert first["traceparent"].startswith(f"00-{TRACE}-")
    assert first["traceparent"].endswith("-01"), "of the flags only the known one"
    assert len({first["traceparent"], second["traceparent"], f"00-{TRACE}-{SPAN}-01"}) == 3
    assert first["tracestate"] == "vendor=1"


def test_what_is_malformed_goes_nowhere():
    begin(f"00-{TRACE}-{SPAN}-01", "a=1\r\nX-Injected: 1")
    assert "tracestate" not in current_headers()
    begin("00-nonsense", "vendor=1")
    assert TRACE not in current_headers()["traceparent"]
    assert "tracestate" not in current_headers()


def test_another_thread_knows_nothing_of_it():
    begin(f"00-{TRACE}-{SPAN}-01")
    found = []
    thread = threading.Thread(target=lambda: found.append(dict(current_headers())))
    thread.start()
    thread.join()
    assert found == [{}]
