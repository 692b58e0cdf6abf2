"""What clients get and the worker does when the application breaks off: a fault of ours that no test knows of."""

from __future__ import annotations

import pytest

SECRET = "ascs_of-a-client-that-nobody-may-see"
BROKEN = f"""
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise ValueError("{SECRET}")
    if path == "/ends":
        raise SystemExit("{SECRET}")
    if path == "/silent":
        return [b"whole"]
    start_response("200 OK", [("X", "a\\r\\nY: {SECRET}" if path == "/header" else "a")])
    if path == "/twice":
        start_response("200 OK", [])
    return [b"whole"] if path in ("/ready", "/header") else half()

def half():
    yield b"half"
    raise OSError("{SECRET}")
"""


@pytest.fixture(scope="module")
def server(start_gunicorn, serving_url, tmp_path_factory):
    directory = tmp_path_factory.mktemp("application")
    (directory / "broken.py").write_text(BROKEN)
    arguments = ("gunicorn", "-c", "python:authserver.gunicorn_conf", "--chdir", str(directory), "broken:app")
    return start_gunicorn(serving_url, arguments=arguments, THREADS="2")


def answered(server, method: str, path: str) -> bytes:
    """All that comes until the server closes, of a request with another one behind it."""
    with server.connect() as connection:
        for line in (f"{method} {path}", "GET /ready"):
            connection.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/raises", "/header", "/twice", "/half", "/silent"])
def test_a_client_gets_an_error_and_nothing_of_what_was_begun(server, method, path):
    head, _, body = answered(server, method, path).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"\r\nConnection: close\r\n" in head
    assert body.startswith(b'{"error": "server_error"') if method == "GET" else body == b""
    assert f'"method": "{method}", "path": "{path}", "status": 500, "bytes": {len(body)}' in server.logged()


def test_afterwards_the_same_worker_answers_and_has_told_no_secret(server):
    workers = server.workers()
    # More than there are threads.
    assert [answered(server, "GET", "/ends") for _ in range(3)] == [b""] * 3
    with server.connect() as connection:
        connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.workers() == workers
    assert SECRET[5:] not in server.logged()
