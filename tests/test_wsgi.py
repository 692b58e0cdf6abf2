"""A request as gunicorn would read it, and answers as clients read them."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser, wsgi
from gunicorn.http.errors import ParseException
from hypothesis import example, given
from hypothesis import strategies as st

from authserver.http_request import Head, Incoming, Refused, read_head
from authserver.wsgi import Answer, environ_of, refusal

CLIENT, SERVER = ("10.0.0.1", 4711), ("10.0.0.2", 8000)
COMPARED = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "CONTENT_TYPE")
COMPARED += ("CONTENT_LENGTH", "REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT")

names = st.sampled_from(
    b"Content-Type content-type Authorization X-A X_A x-a X-Forwarded-For SCRIPT_NAME Connection Cookie !x "
    b"Content_Length Accept".split()
)
values = st.sampled_from(
    [b"", b" ", b"a", b"\tb c\t", b"close", b"keep-alive", b"keep-alive, close", b"a,b", b"\xff", b"a:b"]
) | st.binary(max_size=6)
targets = st.sampled_from(
    b"/ // /oauth/token /a%2fb%00 /%zz /a?b=c /? /a?b?c /\xff * http://x/a?b http://x /a;b /a:b /a//b /../a x /a#b "
    b"http://x?y //x/y".split()
) | st.binary(min_size=1, max_size=8).map(lambda data: b"/" + data)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Whole requests; most are ones that are read."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"QUERY", b"get", b"P!"]))
    fields = [(b"Host", b"x"), *draw(st.lists(st.tuples(names, values), max_size=5))]
    body = draw(st.binary(max_size=5))
    if body or draw(st.booleans()):
        fields.append((b"Content-Length", b"%d" % len(body)))
    lines = [name + b":" + draw(st.sampled_from([b"", b" "])) + value for name, value in draw(st.permutations(fields))]
    version = draw(st.sampled_from([b"1.1", b"1.0"]))
    return b"\r\n".join([method + b" " + draw(targets) + b" HTTP/" + version, *lines, b"", body])


def read_by_gunicorn(data: bytes) -> tuple[dict[str, Any], bytes, bytes] | None:
    """The environment, the body and what follows; None if it is refused."""
    config = Config()
    config.set("forwarder_headers", "")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            parser = get_parser(config, [data], CLIENT)
            request = next(parser)
        except (ParseException, StopIteration):
            return None
        _, environ = wsgi.create(request, ours, CLIENT, SERVER, config)
        environ["PATH_INFO"] = environ["PATH_INFO"] or "/"  # RFC 9110 §4.2.3
        body = environ["wsgi.input"].read()
        return environ, body, parser.unreader.take_buffered()


@given(requests())
@example(b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\nX_A: 3\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\nab")
def test_what_is_read_is_what_gunicorn_reads(data: bytes) -> None:
    incoming = Incoming()
    incoming.add(data)
    try:
        whole = incoming.take()
    except Refused:
        return  # more is refused here
    theirs = read_by_gunicorn(data)
    if theirs is None:
        return  # say, an Upgrade, or a method in lower case: the application refuses it
    assert whole is not None
    head, body, rest = whole
    environ = environ_of(head, body, CLIENT, SERVER)
    compared = {*COMPARED, *(name for name in {*environ, *theirs[0]} if name.startswith("HTTP_"))}
    assert {name: environ.get(name) for name in compared} == {name: theirs[0].get(name) for name in compared}
    assert (environ["wsgi.input"].read(), rest) == theirs[1:]


def head(method: str = "GET", version: int = 1) -> Head:
    return read_head(f"{method} / HTTP/1.{version}\r\nHost: x".encode())


class Given:
    """Bytes in a socket, as the standard library's reader of answers wants them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """What a client reads: status, fields, body; nothing may be left."""
    response = http.client.HTTPResponse(Given(data), method=method)  # type: ignore[arg-type]
    stream = response.fp
    response.begin()
    body = response.read()
    assert stream.closed or stream.read() == b""
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "503 Service Unavailable"]),
    st.lists(st.text("abc é\t", max_size=9), max_size=4),
    st.lists(st.binary(max_size=9), max_size=4),
    st.booleans(),
)
def test_a_client_reads_what_the_application_said(
    method: str, status: str, given_values: list[str], pieces: list[bytes], stays_open: bool
) -> None:
    answer, body = Answer(head(method)), b"".join(pieces)
    fields = [(f"X-{number}", value) for number, value in enumerate(given_values)]
    answer.start_response(status, [*fields, ("Content-Length", str(len(body))), ("Transfer-Encoding", "chunked")])
    answer.take(pieces)
    code, found, received = read(answer.encoded(stays_open=stays_open), method)
    assert code == answer.status_code == int(status[:3])
    assert {name: found[name.lower()].strip() for name, _ in fields} == {n: v.strip() for n, v in fields}
    assert received == (b"" if method == "HEAD" or code in (204, 304) else body)
    assert answer.sent == len(received)
    assert found.get("content-length") == (None if code == 204 else str(len(body)))
    assert found.get("connection") == (None if stays_open else "close")
    assert "transfer-encoding" not in found


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\u20ac"])
def test_no_value_makes_another_header(value: str) -> None:
    answer = Answer(head())
    answer.start_response("200 OK", [("X", value)])
    with pytest.raises(ValueError):  # noqa: PT011 - of two kinds
        answer.encoded(stays_open=True)


@pytest.mark.parametrize("length", ["0", "1", "99"])
def test_a_wrong_length_is_not_passed_on(length: str) -> None:
    answer = Answer(head())
    answer.start_response("200 OK", [("content-length", length)])
    answer.take([b"abc"])
    assert read(answer.encoded(stays_open=True))[2] == b"abc"


@pytest.mark.parametrize(
    ("method", "status", "length", "body", "told"),
    [
        ("GET", "304 Not Modified", None, b"", None),
        ("GET", "304 Not Modified", "7", b"", "7"),
        ("HEAD", "200 OK", None, b"", None),
        ("HEAD", "200 OK", None, b"abc", "3"),
        ("HEAD", "200 OK", "7", b"", "7"),
        ("GET", "200 OK", None, b"", "0"),
    ],
)
def test_a_length_is_told_only_if_it_is_the_one_that_a_get_would_have(
    method: str, status: str, length: str | None, body: bytes, told: str | None
) -> None:
    answer = Answer(head(method))
    answer.start_response(status, [("Content-Length", length)] if length else [])
    answer.take([body])
    assert read(answer.encoded(stays_open=True), method)[1].get("content-length") == told


def test_an_error_takes_the_place_of_what_was_begun() -> None:
    answer = Answer(head())
    answer.start_response("200 OK", [("X", "y")])(b"half")
    with pytest.raises(AssertionError):
        answer.start_response("200 OK", [])
    answer.start_response("500 No", [], (ValueError, ValueError(), None))
    answer.take([b"all"])
    status, found, body = read(answer.encoded(stays_open=True))
    assert (status, body, "x" in found) == (500, b"all", False)


def test_what_is_iterated_is_closed_even_if_it_breaks_off() -> None:
    class Broken:
        closed = False

        def __iter__(self) -> Any:
            yield b"a"
            raise OSError

        def close(self) -> None:
            self.closed = True

    pieces = Broken()
    with pytest.raises(OSError):  # noqa: PT011 - of that kind
        Answer(head()).take(pieces)
    assert pieces.closed


def test_a_refusal_is_an_answer_after_which_the_connection_closes() -> None:
    status, found, body = read(refusal(HTTPStatus.LENGTH_REQUIRED))
    assert status == HTTPStatus.LENGTH_REQUIRED
    assert json.loads(body) == {"error": "invalid_request", "error_description": "Length Required."}
    assert (found["connection"], found["content-type"]) == ("close", "application/json")
    assert abs(parsedate_to_datetime(found["date"]).timestamp() - time.time()) < 60
    assert json.loads(read(refusal(HTTPStatus.INTERNAL_SERVER_ERROR))[2])["error"] == "server_error"


def test_a_client_of_http_1_0_is_told_that_the_connection_stays() -> None:
    answer = Answer(head(version=0))
    answer.start_response("200 OK", [])
    assert read(answer.encoded(stays_open=True))[1]["connection"] == "keep-alive"


def test_a_socket_of_unix_has_no_addresses() -> None:
    environ = environ_of(head(), b"", "", "/run/authserver.sock")
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("", "")
