"""What a request says and where it ends: whatever the bytes, and in whatever pieces they come."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.http_request import MAX_BODY, MAX_HEAD, Incoming, Refused, read_head

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
                head, body, rest = whole
                found.append((head, body))
                incoming = Incoming()
                incoming.add(rest)
        except Refused as refusal:
            return found, refusal.status
    return found, None


@given(pieces, st.lists(st.integers(0, 200), max_size=6))
def test_the_cuts_between_the_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, cuts) == outcome(data, [])


@given(st.integers(0, MAX_BODY), st.integers(0, 30), st.binary(max_size=50))
def test_a_body_is_as_long_as_announced_and_the_rest_is_the_next_request(length: int, zeros: int, after: bytes) -> None:
    body = b"\r\n\r\nx" * (length // 5) + b"y" * (length % 5)
    incoming = Incoming()
    incoming.add(HEAD + b"Content-Length: " + b"0" * zeros + b"%d\r\n\r\n" % length + body + after)
    assert (incoming.take() or ())[1:] == (body, after)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET / HTTP/1.1\r\nHost:a\r\n b", 400),
        (HEAD + b"Content-Type: application/x-www-form-urlencoded;\r\ncontent-type: text/plain", 400),
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
        (b"GET x:80 HTTP/1.1\r\nHost: a", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: a", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a", 400),
        (b"GET http://user@a/ HTTP/1.1\r\nHost: a", 400),
        (b"G" * 33 + b" / HTTP/1.1\r\nHost: a", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a", 414),
        (HEAD + b"X: " + b"a" * 9000, 431),
        (HEAD + b"\r\n".join(b"X-%d: a" % n for n in range(64)), 431),
    ],
)
def test_a_head_that_leaves_a_doubt_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refused) as refusal:
        read_head(head)
    assert refusal.value.status == status


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.0", b"\r\nGET / HTTP/1.1\r\nhost:x", b"GET http://x/ HTTP/1.1\r\nHost:"]
)
def test_a_plain_head_has_no_body(head: bytes) -> None:
    assert read_head(head).length == 0


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%2fb?c=d?e", "/a%2fb", "c=d?e"),
        (b"//a/b", "//a/b", ""),
        (b"*", "*", ""),
        (b"HTTP://x:1/a?b", "/a", "b"),
        (b"https://x", "/", ""),
        (b"http://x?a", "/", "a"),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, path: str, query: str) -> None:
    head = read_head(b"GET " + target + b" HTTP/1.1\r\nHost: x")
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("version", "connection", "stays_open"),
    [
        (1, b"", True),
        (1, b"close", False),
        (1, b"x, CLOSE", False),
        (1, b"keep-alive", True),
        (0, b"", False),
        (0, b"Keep-Alive", True),
        (0, b"keep-alive, close", False),
    ],
)
def test_a_connection_stays_open_as_the_client_says(version: int, connection: bytes, stays_open: bool) -> None:
    head = b"GET / HTTP/1.%d\r\nHost: x\r\n" % version + (b"Connection: " + connection if connection else b"X: y")
    assert read_head(head).stays_open is stays_open


def test_no_credential_is_in_a_representation() -> None:
    assert "c2VjcmV0" not in repr(read_head(HEAD + b"Authorization: Basic c2VjcmV0"))


def test_an_expectation_is_told_once() -> None:
    incoming = Incoming()
    incoming.add(HEAD + b"EXPECT:100-Continue\r\nContent-Length: 1\r\n\r\n")
    assert incoming.take() is None
    assert [incoming.must_be_told_to_go_on() for _ in range(2)] == [True, False]
    incoming.add(b"x")
    assert (incoming.take() or ())[1:] == (b"x", b"")


def test_a_head_without_end_is_refused() -> None:
    incoming = Incoming()
    incoming.add(b"x" * MAX_HEAD)
    assert incoming.take() is None
    incoming.add(b"x")
    with pytest.raises(Refused) as refusal:
        incoming.take()
    assert refusal.value.status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
