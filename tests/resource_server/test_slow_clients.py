"""Clients of the example service that are slow, silent, or send what is no request."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import resource_server

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"
CLOSE = HEALTH + b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve on a port; give a function that connects, and the path of the log."""
    log = tmp_path_factory.mktemp("resource_server") / "log"
    environ = os.environ | {
        "PYTHONPATH": str(Path(resource_server.__file__).parents[1]),
        "OAUTH2_INTROSPECT_URL": "http://127.0.0.1:9/introspect",
        "OAUTH2_CLIENT_ID": "id",
        "OAUTH2_CLIENT_SECRET": "secret",
        "RESOURCE_SERVER_BIND": "127.0.0.1:0",
        "WEB_CONCURRENCY": "1",
        "SCRIPT_NAME": "/public",
        "GUNICORN_CMD_ARGS": "--log-level debug --worker-connections 100",
    }
    command = [sys.executable, "-m", "resource_server"]
    with log.open("w") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as process:
        try:
            port = int(wait_for(log, r"Listening at: http://127.0.0.1:(\d+)"))
            yield lambda: socket.create_connection(("127.0.0.1", port), timeout=60), log
        finally:
            process.terminate()
            assert process.wait(60) == 0


def wait_for(log, pattern):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@pytest.fixture
def connect(server):
    return server[0]


def everything(connection):
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


@pytest.mark.parametrize(
    ("sent", "many"),
    [
        pytest.param(b"", 90, id="nothing"),
        pytest.param(b"GET /health HTTP/1.1\r\nX:", 90, id="half a head"),
        pytest.param(b"\r\n\r\nGET /hea", 90, id="empty lines"),
        pytest.param(HEALTH + b"Content-Length: 5\r\n\r\n", 90, id="no body"),
        pytest.param(HEALTH + b"Transfer-Encoding: chunked\r\n\r\nff\r\n\r\n", 90, id="no end of a chunk"),
        pytest.param(CLOSE, 90, id="does not close"),
        pytest.param(b"G", 400, id="more than there is room for"),
    ],
)
def test_clients_that_wait_do_not_starve_others(connect, sent, many):
    with ExitStack() as stack:
        for _ in range(many):
            stack.enter_context(connect()).sendall(sent)
        start = time.monotonic()
        for _ in range(3):
            with connect() as connection:
                connection.sendall(CLOSE)
                assert everything(connection).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - start < 8, "at least 10 s, if they were waited for"


def test_half_a_head_is_cut(connect):
    with connect() as connection:
        start = time.monotonic()
        connection.sendall(HEALTH)
        assert everything(connection) == b""
        assert 4 < time.monotonic() - start < 20


def test_requests_sent_at_once_or_in_bits_are_answered_in_order(connect):
    with connect() as connection:
        connection.sendall(HEALTH + b"Content-Length: 5\r\n\r\nhello" + b"\r\nGET /public HTTP/1.1\r\nHost: x\r\n\r")
        connection.sendall(b"\n" + CLOSE)
        received = everything(connection)
    assert received.count(b"HTTP/1.1 200 ") == 3
    assert b"This is public" in received


def test_a_head_over_the_limit_is_refused(connect):
    with connect() as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(HEALTH + b"X: " + b"x" * 200_000)
        assert everything(connection).startswith(b"HTTP/1.1 431 ")


CANARY = "opaque-canary-of-another-vendor"
BAD = [
    f"GET /health HTTP/1.1\r\nHost: x\r\nExpect: {CANARY}\r\n\r\n",
    f"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {CANARY}\r\n\r\n",
    f"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: {CANARY}\r\n\r\n",
    f"GET /health?{CANARY} HTTP/1.1\r\nHost: x\r\nBearer {CANARY}: x\r\n\r\n",
    f"GET /health {CANARY}\r\nHost: x\r\n\r\n",
    f"{CANARY}\r\n\r\n",
    f"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CANARY}",
    f"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n\r\n",
    f"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX {CANARY}: x\r\n\r\n",
    f"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na{CANARY}\r\n0\r\n\r\n",
    f"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{CANARY}",
    f"GET /health HTTP/1.1\r\nHost: x\r\n\r\n{CANARY}\r\n\r\n",
]


@pytest.mark.parametrize("bad", BAD)
def test_s14_what_is_no_request_is_neither_quoted_nor_logged(server, bad):
    connect, log = server
    with connect() as connection:
        connection.sendall(bad.encode())
        connection.shutdown(socket.SHUT_WR)
        assert CANARY.encode() not in everything(connection)
    with connect() as connection:
        connection.sendall(CLOSE)
        everything(connection)
    assert CANARY not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("token", ["asat_7fffffffCANARY-CANARY_CANARY", "eyJCANARYCANARY.eyJCANARY.CANARY"])
def test_s14_a_token_in_the_path_is_not_logged(server, token):
    connect, log = server
    with connect() as connection:
        connection.sendall(f"GET /x/{token}?{token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert everything(connection).startswith(b"HTTP/1.1 404 ")
    assert wait_for(log, r'(/x/(?:asat_|eyJ)\\u2026")')
    assert "CANARY" not in log.read_text()


def test_no_header_and_no_variable_moves_the_path(connect):
    with connect() as connection:
        connection.sendall(b"GET /public/protected HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /public\r\n")
        connection.sendall(b"Connection: close\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 404 ")
