"""Stopping and reloading gunicorn under load fails no request.

A request counts as sent when its connection was taken before the stop: all requests on keep-alive connections, and
those on connections that were open, empty, when the signal came. A connect that is refused, or a connection that is
opened after the signal and reset before any answer, is a refused connect: clients go to another replica. Where a
server has said `Connection: close`, the next request needs a new connection, which may be refused.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from importlib.resources import files

import psutil
import pytest
import requests
import urllib3.exceptions

PATIENCE = 30.0  # seconds; a limit, never a pace
IDLE = 0.7  # seconds for which a stopping server keeps a connection open at least: it looks once a second
SOON = 15.0  # seconds: less than AUTHSERVER_GRACEFUL_TIMEOUT, which a server would take that waits


def was_refused(error: BaseException) -> bool:
    """Whether requests failed to connect, and not after that."""
    reason = error.args[0] if error.args else None
    return isinstance(getattr(reason, "reason", None), urllib3.exceptions.NewConnectionError)


@pytest.fixture
def ask(load):
    """Make requests on one keep-alive session for ever; each that finds a server must be answered 200."""

    def make(party):
        def act(session):
            try:
                answer = party.token(session)
            except requests.ConnectionError as error:
                if not was_refused(error):
                    raise
                load.count("refused")
                time.sleep(0.01)  # as a client that looks for another server would
                return
            assert answer.status_code == 200, answer.text
            load.count("answered")

        return act

    return make


def term(server) -> None:
    server.process.send_signal(signal.SIGTERM)


def test_term_under_load_fails_no_request(start_gunicorn, serving_url, ask, load, wait_until):
    server = start_gunicorn(serving_url, WORKERS="2", THREADS="4")
    load.start(ask(server.register()), threads=8)
    wait_until(lambda: load.counts.get("answered", 0) > 200, "answers before the stop")
    term(server)
    wait_until(lambda: load.failures or server.process.poll() is not None, "the end of the process")
    load.end()
    assert server.process.returncode == 0


def test_term_answers_what_is_sent_on_open_connections(start_gunicorn, serving_url, wait_until):
    for _ in range(5):
        server = start_gunicorn(serving_url)
        party = server.register()
        connections = [server.connect() for _ in range(20)]
        halves = [server.connect() for _ in range(3)]
        request = party.raw("token", "grant_type=client_credentials")
        for half in halves:
            half.sendall(request[:-10])
        stopped = time.monotonic()
        term(server)
        wait_until(lambda: "Handling signal: term" in server.logged(), "the signal")
        for connection in connections:
            connection.sendall(request)
        for half in halves:
            half.sendall(request[-10:])
        if time.monotonic() - stopped < IDLE:
            break
        # The machine stood still for so long that the server has rightly closed what was idle.
        server.process.wait(PATIENCE)
    for connection in connections + halves:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        connection.close()
    assert server.process.wait(PATIENCE) == 0


def test_term_answers_who_connected_behind_clients_that_have_gone(start_gunicorn, serving_url, paused, wait_until):
    server = start_gunicorn(serving_url)
    request = server.register().raw("token", "grant_type=client_credentials")
    (worker,) = server.workers()
    with paused(worker):
        for _ in range(10):
            server.connect().close()
        connection = server.connect()
        connection.sendall(request)
        # By the time it runs on, it has been told to stop: none of them has been accepted before.
        os.kill(worker, signal.SIGTERM)
        term(server)
        wait_until(lambda: "Handling signal: term" in server.logged(), "the signal")
    with connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(PATIENCE) == 0


def test_a_connection_that_is_seen_in_the_moment_of_the_stop_is_taken_once(make_worker):
    """It killed the worker, and with it all requests at hand."""
    worker = make_worker()
    address = worker.sockets[0].getsockname()
    worker.method_queue.defer(lambda: None)  # of two events the one that was there first is dispatched first
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        worker.alive = False
        worker.set_accept_enabled(False)
        assert worker.nr_conns == 1
        connection.shutdown(socket.SHUT_WR)
        while worker.nr_conns:
            worker.wait_for_and_dispatch_events(1.0)
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE)


def test_a_worker_may_be_told_twice_to_stop(make_worker):
    """As happens to one that comes to its limit of connections in the moment of the stop."""
    worker = make_worker()
    address = worker.sockets[0].getsockname()
    worker.alive = False
    for enabled in (True, False, False):
        worker.set_accept_enabled(enabled)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE)


def test_a_stop_that_begins_while_a_worker_lets_connections_in_leaves_nothing_behind(make_worker, monkeypatch):
    """Another thread, which answers the last request that this worker may, can begin it between any two looks."""
    worker = make_worker()
    worker.set_accept_enabled(False)
    worker.wait_for_and_dispatch_events(0)
    looks = iter([True])
    monkeypatch.setattr(
        type(worker), "alive", property(lambda _worker: next(looks, False), lambda *_: None), raising=False
    )
    for enabled in (True, False):
        worker.set_accept_enabled(enabled)
    assert [key.fd for key in worker.poller.get_map().values()] == [worker.method_queue.fileno()]


def test_a_connection_that_a_thread_gives_back_during_the_stop_is_not_kept_for_long(make_worker, wait_until):
    """It had the time of keep-alive, and the stop took until its own limit."""
    worker = make_worker(keepalive=3600)
    with socket.create_connection(worker.sockets[0].getsockname(), timeout=PATIENCE):
        worker.wait_for_and_dispatch_events(1.0)
        [(conn, wait)] = worker._waiting.items()
        worker.alive = False
        worker.set_accept_enabled(False)
        # As a thread saw it that was still to give it back when the stop began.
        wait.deadline = time.monotonic() + 3600
        worker._take_back(conn, wait, stays_open=True)
        wait_until(lambda: worker.wait_for_and_dispatch_events(0.1) or worker.nr_conns == 0, "its end", SOON)


def test_term_does_not_wait_for_idle_connections(start_gunicorn, serving_url):
    server = start_gunicorn(serving_url)
    with requests.Session() as session, server.connect():
        session.get(f"{server.url}/health", timeout=PATIENCE)
        term(server)
        assert server.process.wait(SOON) == 0


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize(
    "hook",
    [
        # Until it has handlers of its own, a new process has those of its parent, which only note a signal.
        "def post_fork(server, worker): wait_while(server.SIG_QUEUE.empty)",
        # Then it begins a stop before it has begun to work.
        "def post_worker_init(worker): wait_while(lambda: worker.alive)",
    ],
)
def test_a_worker_that_is_told_to_stop_while_it_starts_does(
    start_gunicorn, serving_url, tmp_path, wait_until, hook, stop
):
    """It went on, and the stop took until its own limit."""
    configuration, begun = tmp_path / "configuration.py", tmp_path / "begun"
    configuration.write_text(
        f"exec(open({str(files('authserver') / 'gunicorn_conf.py')!r}).read())\n"
        "import pathlib, time\n"
        "def wait_while(condition):\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n"
        "    while condition(): time.sleep(0.01)\n"
        f"{hook}\n"
    )
    server = start_gunicorn(serving_url, arguments=("gunicorn", "-c", str(configuration)), ready=False)
    wait_until(begun.exists, "a worker that starts")
    server.process.send_signal(stop)
    assert server.process.wait(SOON) == 0
    assert "Traceback" not in server.logged()


def test_workers_whose_master_was_killed_end_soon(start_gunicorn, serving_url, wait_until):
    """Else a new server could not listen, and who connected meanwhile would wait in vain."""
    server = start_gunicorn(serving_url, WORKERS="2")
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    workers = [psutil.Process(worker) for worker in server.workers()]

    def have_ended():
        return not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)

    try:
        with requests.Session() as session:
            session.get(f"{server.url}/health", timeout=PATIENCE)
            server.process.kill()
            wait_until(have_ended, "the workers' end", SOON)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    finally:
        for worker in workers:
            if worker.is_running():
                worker.kill()


def test_a_killed_worker_is_replaced_and_the_other_goes_on(start_gunicorn, serving_url, wait_until):
    """As the kernel does for want of memory."""
    server = start_gunicorn(serving_url, WORKERS="2", THREADS="4")
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    party, before = server.register(), server.workers()
    os.kill(killed := min(before), signal.SIGKILL)
    wait_until(lambda: killed not in server.workers() and len(server.workers()) == 2, "a new worker")
    for _ in range(20):
        assert party.token().status_code == 200
    assert len(server.workers() & before) == 1


def test_hup_under_load_fails_no_request_and_replaces_the_workers(start_gunicorn, serving_url, ask, load, wait_until):
    server = start_gunicorn(serving_url, WORKERS="2", THREADS="4")
    before = server.workers()
    load.start(ask(server.register()), threads=8)
    wait_until(lambda: load.counts.get("answered", 0) > 200, "answers before the reload")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: load.failures or not server.workers() & before, "the end of the old workers")
    answered = load.counts["answered"]
    wait_until(lambda: load.failures or load.counts["answered"] > answered + 200, "answers of the new workers")
    load.end()
    assert "refused" not in load.counts
    assert len(server.workers()) == 2


def test_hup_with_a_setting_that_has_become_wrong_changes_nothing(start_gunicorn, serving_url, tmp_path, wait_until):
    file = tmp_path / "token"
    first, second = "first-" + "0" * 40, "second-" + "0" * 40
    file.write_text(first)
    server = start_gunicorn(serving_url, INITIAL_ACCESS_TOKEN="", INITIAL_ACCESS_TOKEN_FILE=str(file))

    def registers(token):
        return requests.post(
            f"{server.url}/clients/register",
            headers={"Authorization": f"Bearer {token}"},
            json={"scope": "read"},
            timeout=PATIENCE,
        ).status_code

    def replaced(act):
        before = server.workers()
        act()
        wait_until(lambda: (now := server.workers()) and not now & before, "the replacement of the worker")
        assert server.process.poll() is None

    def hup():
        server.process.send_signal(signal.SIGHUP)

    def kill():
        os.kill(*server.workers(), signal.SIGKILL)

    file.write_text("short")
    replaced(hup)
    wait_until(lambda: "AUTHSERVER_INITIAL_ACCESS_TOKEN" in server.logged(), "the log line")
    assert '"not reloaded, the settings of before are in force: AUTHSERVER_INITIAL_ACCESS_TOKEN' in server.logged()
    assert registers(first) == 201
    replaced(kill)  # its successor does not read for itself, either
    assert registers(first) == 201
    file.write_text(second)
    replaced(kill)
    assert registers(second) == 401
    replaced(hup)
    assert registers(first) == 401
    assert registers(second) == 201


def test_hup_with_an_audit_file_that_has_no_directory_any_more_changes_nothing(
    start_gunicorn, serving_url, tmp_path, wait_until
):
    """An event that cannot be written stops nothing: it ended the server, and left its workers to find that out."""
    file = tmp_path / "log" / "audit"
    file.parent.mkdir()
    server = start_gunicorn(serving_url, AUDIT_FILE=str(file))
    before = server.workers()
    file.unlink()
    file.parent.rmdir()
    server.process.send_signal(signal.SIGHUP)

    def has_ended():
        return server.process.poll() is not None

    def is_replaced():
        return has_ended() or ((now := server.workers()) and not now & before)

    wait_until(is_replaced, "the replacement of the worker")
    assert not has_ended()
    assert server.register().token().status_code == 200
    assert '"not reloaded, the settings of before are in force: AUTHSERVER_AUDIT_FILE' in server.logged()
    file.parent.mkdir()
    assert server.register().token().status_code == 200
    assert "token.issued" in file.read_text()


def test_usr2_under_load_fails_no_request(start_gunicorn, serving_url, ask, load, wait_until):
    """A second master on the same sockets, with the code as it is by then; TERM to the first."""
    server = start_gunicorn(serving_url, WORKERS="2", THREADS="4")
    load.start(ask(server.register()), threads=8)
    wait_until(lambda: load.counts.get("answered", 0) > 200, "answers of the first")
    server.process.send_signal(signal.SIGUSR2)
    wait_until(server.successor, "the second master with a worker")
    second = server.successor()
    try:
        term(server)
        wait_until(lambda: load.failures or server.process.poll() is not None, "the end of the first")
        answered = load.counts["answered"]
        wait_until(lambda: load.failures or load.counts["answered"] > answered + 200, "answers of the second")
        load.end()
        assert "refused" not in load.counts
    finally:
        load.stopped.set()
        second.terminate()
        second.wait(PATIENCE)


def test_workers_that_have_answered_enough_are_replaced_and_no_request_fails(
    start_gunicorn, serving_url, ask, load, wait_until
):
    """gunicorn's --max-requests, with which some bound what a process may leak."""
    server = start_gunicorn(
        serving_url,
        arguments=("gunicorn", "-c", "python:authserver.gunicorn_conf", "--max-requests", "100"),
        WORKERS="2",
    )
    before = server.workers()
    load.start(ask(server.register()), threads=4)
    wait_until(lambda: load.failures or not server.workers() & before, "the end of the first workers")
    answered = load.counts["answered"]
    wait_until(lambda: load.failures or load.counts["answered"] > answered + 200, "answers of the next workers")
    load.end()
    assert "refused" not in load.counts
