"""Clients that are slow, silent, or say less than they announced."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
import requests

TIMEOUT = 2  # AUTHSERVER_REQUEST_TIMEOUT, seconds
FORM = "grant_type=client_credentials"
# Seconds within which those are answered who wait for nobody. A thread that waited would take TIMEOUT each time, and
# there are four for dozens of clients that would hold one.
AT_ONCE = 5.0


@pytest.fixture(scope="module")
def server(start_gunicorn, serving_url):
    return start_gunicorn(serving_url, THREADS="4", REQUEST_TIMEOUT=str(TIMEOUT))


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


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def status(received: bytes) -> bytes:
    return received[9:12]


CHUNKED = "Transfer-Encoding: chunked\r\n"


def test_t25_a_chunked_body_is_refused(server, party):
    with server.connect() as connection:
        connection.sendall(party.raw("token", chunks(FORM), CHUNKED, length=-1) + b"GET /health HTTP/1.1\r\n\r\n")
        received = everything(connection)
        assert status(received) == b"411"
        assert b"\r\nConnection: close\r\n" in received
        assert received.count(b"HTTP/1.1 ") == 1, "what follows is no request"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"400"),
        ("Transfer-Encoding: identity\r\n", b"501"),
        ("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", b"400"),
        ("Transfer-Encoding: gzip, chunked\r\n", b"501"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"501"),
        ("Transfer-Encoding : chunked\r\n", b"400"),
        ("X: a\nTransfer-Encoding: chunked\r\n", b"400"),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", b"400"),
        ("Content-Length: 3, 3\r\n", b"400"),
        ("Content-Length: +3\r\n", b"400"),
        ("Content-Length: 0x3\r\n", b"400"),
        ("Content-Length: \r\n", b"400"),
        ("Content-Length: 99999999999999999999\r\n", b"413"),
        ("Content-Length: 65537\r\n", b"413"),
        ("Expect: miracles\r\n", b"417"),
        ("Host: y\r\n", b"400"),
    ],
)
def test_t25_what_could_end_in_two_places_is_refused_and_nothing_is_read_on(server, head, expected):
    with server.connect() as connection:
        connection.sendall(f"POST /oauth/token HTTP/1.1\r\nHost: x\r\n{head}\r\nabc".encode())
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        received = everything(connection)
        assert status(received) == expected
        assert b"\r\nConnection: close\r\n" in received
        assert b"\r\nDate: " in received, "RFC 9110 §6.6.1"
        assert received.count(b"HTTP/1.1 ") == 1


def test_t25_a_request_without_host_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert status(everything(connection)) == b"400"


def test_t25_a_length_with_leading_zeros_is_a_length(server, party):
    with server.connect() as connection:
        connection.sendall(party.raw("token", FORM, f"Content-Length: {len(FORM):020}\r\n", length=-1))
        assert status(answer(connection)) == b"200"


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


def test_t25_a_request_line_over_the_limit_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"GET /health?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(everything(connection)) == b"414"


def test_t25_a_body_over_the_limit_is_refused_unread(server, party):
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(8)]
        start = time.monotonic()
        for connection in connections:
            connection.sendall(party.raw("token", FORM, length=10_000_000))
        for connection in connections:
            assert status(answer(connection)) == b"413"
        assert time.monotonic() - start < AT_ONCE


@pytest.mark.parametrize(
    ("many", "sent"),
    [
        pytest.param(150, lambda _request: b"", id="nothing"),
        pytest.param(50, lambda request: request[:30], id="half a head"),
        pytest.param(50, lambda request: request[:-5], id="half a body"),
        pytest.param(
            50, lambda request: request.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")[:-5], id="told"
        ),
        pytest.param(
            50, lambda request: request.replace(b"Content-Length: ", b"Content-Length: 00000000")[:-5], id="zeros"
        ),
        pytest.param(
            50,
            lambda request: (
                request.replace(b"Content-Length: 29", CHUNKED.strip().encode())[:-29] + b"ff\r\n\r\n\r\n\r\n"
            ),
            id="an empty line in a chunk",
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
        assert time.monotonic() - start < AT_ONCE


def test_t25_a_client_that_does_not_close_does_not_hold_up_others(server, party):
    start = time.monotonic()
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(server.connect())
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status(answer(connection)) == b"200"
        assert party.token().status_code == 200
        assert time.monotonic() - start < AT_ONCE


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
    assert TIMEOUT / 2 < took < 30, "its body would last for minutes"


@pytest.fixture
def deaf(server):
    """Connect as a client that takes little in: `deaf()`. To it the kernel sends a few bytes, and keeps few more."""
    with ExitStack() as stack:

        def connect() -> socket.socket:
            client = stack.enter_context(socket.socket())
            client.settimeout(30)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88)
            host, port = server.url.removeprefix("http://").split(":")
            client.connect((host, int(port)))
            return client

        yield connect


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_t25_a_client_that_does_not_read_its_answers_does_not_hold_a_thread(server, party, deaf):
    token = party.token().json()["access_token"]
    for _ in range(20):
        client = deaf()
        client.setblocking(False)
        # It may be cut while it is still sending.
        with suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
            while client.send(get("/.well-known/oauth-authorization-server") * 1000):
                pass
    start = time.monotonic()
    for _ in range(5):
        assert party.introspect(token).json()["active"] is True
    assert time.monotonic() - start < AT_ONCE


def test_t25_a_client_that_does_not_read_a_long_answer_does_not_hold_a_thread(server, party, deaf, wait_until):
    token, cuts = party.token().json()["access_token"], server.logged().count("connection cut")
    clients = [deaf() for _ in range(40)]
    for client in clients:
        # Of one of them the kernel takes a part.
        client.sendall(get("/openapi.json") * 5)
    start = time.monotonic()
    for _ in range(5):
        assert party.introspect(token).json()["active"] is True
    assert time.monotonic() - start < TIMEOUT / 2
    wait_until(lambda: server.logged().count("connection cut") >= cuts + len(clients), "all to be cut in the end")


def test_t25_a_client_that_reads_a_long_answer_slowly_gets_it_whole_and_the_next(server, deaf):
    whole = requests.get(f"{server.url}/openapi.json", timeout=30).content
    client, received = deaf(), b""
    # The kernel has room for what comes before, and then for a part.
    client.sendall(get("/.well-known/oauth-authorization-server") * 3 + get("/openapi.json"))
    while not received.endswith(whole) and (data := client.recv(2000)):
        received += data
        time.sleep(0.01)
    assert received.count(b"HTTP/1.1 200 ") == 4
    assert received.endswith(whole)
    client.sendall(get("/health"))
    assert status(answer(client)) == b"200"


def resident(server) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in server.workers())


def test_t25_what_clients_send_and_do_not_finish_takes_bounded_memory(server, party):
    before = resident(server)
    body = b"x" * 65_000
    with ExitStack() as stack:
        for _ in range(600):
            connection = stack.enter_context(server.connect())
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(party.raw("token", "", length=65_536) + body)
        assert party.token().status_code == 200
        assert resident(server) - before < 30_000_000


def test_t25_a_body_without_end_is_not_read(server, party):
    before = resident(server)
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(server.connect())
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(party.raw("token", "ffffffff\r\n", CHUNKED, length=-1) + b"x" * 3_000_000)
        assert party.token().status_code == 200
        assert resident(server) - before < 20_000_000


def test_t25_half_requests_at_the_limit_of_connections_do_not_keep_others_out(start_gunicorn, serving_url, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-connections 50")
    server = start_gunicorn(serving_url, THREADS="4")
    with ExitStack() as stack:
        for _ in range(220):
            stack.enter_context(server.connect()).sendall(b"G")
        start = time.monotonic()
        for _ in range(3):
            with server.connect() as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert status(everything(connection)) == b"200"
        assert time.monotonic() - start < 8, "four times 5 s, if they were waited for"


def test_t25_half_a_head_has_less_time_than_a_whole_request(start_gunicorn, serving_url):
    server = start_gunicorn(serving_url, THREADS="4", REQUEST_TIMEOUT="60")
    with server.connect() as connection:
        start = time.monotonic()
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert answer(connection) == b""
        assert 4 < time.monotonic() - start < 30


@pytest.mark.parametrize("variable", ["SCRIPT_NAME", "PATH_INFO"])
def test_no_header_and_no_variable_moves_the_path(start_gunicorn, serving_url, monkeypatch, variable):
    monkeypatch.setenv(variable, "/oauth")
    server = start_gunicorn(serving_url, FORWARDED_ALLOW_IPS="*")
    for path, expected in {"/health": b"200", "/oauth/health": b"404"}.items():
        with server.connect() as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\n{variable}: /oauth\r\nConnection: close\r\n\r\n".encode()
            )
            assert status(everything(connection)) == expected
