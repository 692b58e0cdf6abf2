"""Where a request ends: whatever the bytes, and in whatever pieces they come."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.http_framing import MAX_BODY, MAX_HEAD, Incoming, Refused, read_head

HEAD = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\n"
pieces = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked"])
    | st.sampled_from([b"Host: x\r\n", HEAD, b"Expect: 100-continue\r\n", b"0", b"3", b"\r\n\r\n", b"abc", b"\x00"])
    | st.binary(max_size=5),
    max_size=12,
).map(b"".join)


def outcome(data: bytes, cuts: list[int]) -> object:
    """The requests in the bytes, sent in the pieces that the cuts leave, or the status of the refusal."""
    incoming, found, at = Incoming(), [], 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        rest, at = data[at:cut], cut
        try:
            incoming.add(rest)
            while whole := incoming.take():
                request, rest = whole
                found.append(request)
                incoming = Incoming()
                incoming.add(rest)
        except Refused as refusal:
            return found, refusal.status
    return found, None


@given(pieces, st.lists(st.integers(0, 200), max_size=6))
def test_the_cuts_between_the_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, cuts) == outcome(data, [])


@given(pieces)
def test_bytes_are_requests_or_refused(data: bytes) -> None:
    found, _status = outcome(data, [])
    for request in found:
        head, end, _body = request.partition(b"\r\n\r\n")
        assert end
        assert b"transfer-encoding" not in head.lower()
        assert b"\n" not in head.replace(b"\r\n", b"")


@given(st.integers(0, MAX_BODY), st.integers(0, 30), st.binary(max_size=50))
def test_a_body_is_as_long_as_announced_and_the_rest_is_the_next_request(length: int, zeros: int, after: bytes) -> None:
    body = b"\r\n\r\nx" * (length // 5) + b"y" * (length % 5)
    incoming = Incoming()
    incoming.add(HEAD + b"Content-Length: " + b"0" * zeros + b"%d\r\n\r\n" % length + body + after)
    request, rest = incoming.take() or (b"", b"")
    assert request.partition(b"\r\n\r\n")[2] == body
    assert rest == after


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET / HTTP/1.1\r\nHost:a\r\n b", 400),
        (b"GET  / HTTP/1.1\r\nHost: a", 400),
        (b"GET / HTTP/2.0\r\nHost: a", 400),
        (b"GET /", 400),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
        (HEAD + b"Transfer-Encoding: Chunked", 411),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
        (HEAD + b"Transfer-Encoding: xchunked", 501),
        (HEAD + b"Content-Length: \xb2", 400),
        (HEAD + b"Content-Length: 5_0", 400),
        (HEAD + b"Content-Length: " + b"9" * 6000, 413),
        (HEAD + b"Expect: 100-continue, x", 417),
    ],
)
def test_a_head_that_leaves_a_doubt_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refused) as refusal:
        read_head(head)
    assert refusal.value.status == status


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.0", b"\r\nGET / HTTP/1.1\r\nhost:x", b"GET http://x/\xff HTTP/1.1\r\nHost:"]
)
def test_a_plain_head_has_no_body(head: bytes) -> None:
    assert read_head(head).length == 0


def test_an_expectation_is_told_once_and_not_passed_on() -> None:
    incoming = Incoming()
    incoming.add(HEAD + b"EXPECT:100-Continue\r\nContent-Length: 1\r\n\r\n")
    assert incoming.take() is None
    assert [incoming.must_be_told_to_go_on() for _ in range(2)] == [True, False]
    incoming.add(b"x")
    assert incoming.take() == (HEAD + b"Content-Length: 1\r\n\r\nx", b"")


def test_a_head_without_end_is_refused() -> None:
    incoming = Incoming()
    incoming.add(b"x" * MAX_HEAD)
    assert incoming.take() is None
    incoming.add(b"x")
    with pytest.raises(Refused) as refusal:
        incoming.take()
    assert refusal.value.status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
