"""Clients that are slow, silent, or say less than they announced."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

TIMEOUT = 1  # AUTHSERVER_REQUEST_TIMEOUT, seconds
FORM = "grant_type=client_credentials"
NOTICED = 1.5  # seconds: the worker looks about once a second


@pytest.fixture(scope="module")
def server(start_gunicorn, migrated_database):
    return start_gunicorn(migrated_database, THREADS="4", REQUEST_TIMEOUT=str(TIMEOUT))


@pytest.fixture
def party(server, database_url):
    return server.register()


def chunks(form: str) -> str:
    return "".join(f"{len(part):x}\r\n{part}\r\n" for part in (form[:7], form[7:])) + "0\r\n\r\n"


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes, or one whole answer."""
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            if end and f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n":
                break
    return received


def status(received: bytes) -> bytes:
    return received[9:12]


def test_t25_a_chunked_body_is_read_whole(server, party):
    with server.connect() as connection:
        request = party.raw("token", chunks(FORM), "Transfer-Encoding: chunked\r\n", length=-1)
        for byte in (request[:-9], request[-9:-3], request[-3:]):
            connection.sendall(byte)
        assert status(answer(connection)) == b"200"
        connection.sendall(request)  # and nothing of it is left over
        assert status(answer(connection)) == b"200"


@pytest.mark.parametrize(
    "body",
    [
        "zz\r\ngrant_type=client_credentials\r\n0\r\n\r\n",
        "5\r\ngrant_type=client_credentials\r\n0\r\n\r\n",
        "-1\r\n\r\n0\r\n\r\n",
        "1d\r\ngrant_type=client_credentials\r\n",
    ],
)
def test_t25_a_broken_chunked_body_is_refused(server, party, body):
    with server.connect() as connection:
        connection.sendall(party.raw("token", body, "Transfer-Encoding: chunked\r\n", length=-1))
        connection.shutdown(socket.SHUT_WR)
        received = answer(connection)
        assert b"access_token" not in received
        assert status(received) in (b"400", b"")


def test_t25_two_lengths_are_refused(server, party):
    with server.connect() as connection:
        connection.sendall(party.raw("token", chunks(FORM), "Transfer-Encoding: chunked\r\n"))
        assert status(answer(connection)) == b"400"


def test_t25_a_body_shorter_than_announced_grants_nothing(server, party):
    with server.connect() as connection:
        connection.sendall(party.raw("token", FORM, length=len(FORM) + 10))
        connection.shutdown(socket.SHUT_WR)
        assert status(answer(connection)) == b"400"
    with server.connect() as connection:
        connection.sendall(party.raw("token", FORM, length=len(FORM) + 10))
        assert answer(connection) == b"", "cut when its time is over"


def test_t25_a_revocation_that_was_not_sent_whole_does_not_happen(server, party):
    token = party.token().json()["access_token"]
    with server.connect() as connection:
        connection.sendall(party.raw("revoke", f"token={token}", length=len(token) + 10))
        connection.shutdown(socket.SHUT_WR)
        assert status(answer(connection)) == b"400"
    assert party.introspect(token).json()["active"] is True


def test_t25_a_client_that_waits_to_be_told_to_go_on_is_told_once(server, party):
    request = party.raw("token", FORM, "Expect: 100-continue\r\n")
    with server.connect() as connection:
        connection.sendall(request[: -len(FORM)])
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(FORM.encode())
        assert status(answer(connection)) == b"200"


def test_t25_requests_sent_at_once_are_answered_in_order(server, party):
    with server.connect() as connection:
        connection.sendall(party.raw("token", FORM) + party.raw("introspect", "token=x") + b"GET /health HTTP/1.1\r\n")
        connection.sendall(b"Host: x\r\nConnection: close\r\n\r\n")
        received = b""
        while data := connection.recv(65536):
            received += data
    assert received.count(b"HTTP/1.1 200 ") == 3
    assert received.index(b"access_token") < received.index(b'"active"') < received.index(b'"ok"')


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (f"X-Long: {'x' * 9000}\r\n", b"431"),
        ("".join(f"X-{number}: x\r\n" for number in range(100)), b"431"),
        (f"X-Longer: {'x' * 200_000}\r\n", b"431"),
        ("bad header\r\n", b"400"),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", b"400"),
    ],
)
def test_t25_headers_over_the_limits_are_refused(server, party, head, expected):
    with server.connect() as connection:
        with suppress(ConnectionResetError, BrokenPipeError):  # it need not read on
            connection.sendall(party.raw("token", FORM, head))
        received = answer(connection)
        assert status(received) == expected
        assert b'"error": "invalid_request"' in received


def test_t25_a_body_over_the_limit_is_refused_unread(server, party):
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(8)]
        start = time.monotonic()
        for connection in connections:
            connection.sendall(party.raw("token", FORM, length=10_000_000))
        for connection in connections:
            assert status(answer(connection)) == b"413"
        assert time.monotonic() - start < TIMEOUT + NOTICED


@pytest.mark.parametrize(
    ("many", "sent"),
    [
        pytest.param(150, lambda _request: b"", id="nothing"),
        pytest.param(50, lambda request: request[:30], id="half a head"),
        pytest.param(50, lambda request: request[:-5], id="half a body"),
        pytest.param(
            50, lambda request: request.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")[:-5], id="told"
        ),
    ],
)
def test_t25_connections_that_wait_do_not_starve_working_ones(server, party, many, sent):
    token = party.token().json()["access_token"]
    with ExitStack() as stack:
        for _ in range(many):
            stack.enter_context(server.connect()).sendall(sent(party.raw("token", FORM)))
        start = time.monotonic()
        for _ in range(10):
            assert party.introspect(token).json()["active"] is True
        assert time.monotonic() - start < TIMEOUT


def test_t25_a_client_that_does_not_close_does_not_hold_up_others(server, party):
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(server.connect())
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status(answer(connection)) == b"200"
        start = time.monotonic()
        assert party.token().status_code == 200
        assert time.monotonic() - start < 1


def test_t25_a_client_that_drips_is_cut(server, party):
    request = party.raw("token", FORM, length=10_000)
    with server.connect() as connection:
        stop = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                for byte in request:
                    connection.sendall(bytes([byte]))
                    if stop.wait(0.02):
                        return
                while not stop.wait(0.02):
                    connection.sendall(b"x")

        start = time.monotonic()
        thread = threading.Thread(target=drip)
        thread.start()
        received = answer(connection)
        took = time.monotonic() - start
        stop.set()
        thread.join()
    assert received == b""
    assert TIMEOUT / 2 < took < TIMEOUT + NOTICED + 1
