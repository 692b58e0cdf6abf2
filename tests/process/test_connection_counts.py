"""New connections go to the worker that has the fewest, and to any that answers when that one does not."""

from __future__ import annotations

import os
import resource
import socket
import statistics
from contextlib import ExitStack

import psutil
import pytest

from authserver.connection_counts import ConnectionCounts
from authserver.worker import Worker

BURST = 40
PATIENCE = 30.0  # seconds; a limit, never a pace


def connections_of(worker: int) -> int:
    """How many connections with clients a worker has."""
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(worker).net_connections("tcp"))


def ask(connection) -> None:
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_burst_is_shared_by_the_workers(start_gunicorn, serving_url, wait_until):
    """A worker that is not given the processor for a millisecond misses some: so the middle of several bursts."""
    server = start_gunicorn(serving_url, WORKERS="2")
    apart = []
    for _ in range(9):
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect()) for _ in range(BURST)]
            for connection in connections:
                ask(connection)
            counts = [connections_of(worker) for worker in server.workers()]
            assert sum(counts) == BURST
            apart.append(max(counts) - min(counts))
        wait_until(lambda: not any(connections_of(worker) for worker in server.workers()), "the end of the burst")
    assert statistics.median(apart) <= 4, apart


def test_what_is_left_to_a_worker_that_does_not_take_it_is_taken(start_gunicorn, serving_url, paused):
    server = start_gunicorn(serving_url, WORKERS="2")
    with paused(min(server.workers())), ExitStack() as stack:
        for _ in range(BURST):
            ask(stack.enter_context(server.connect()))


@pytest.fixture
def idle_place():
    """Another worker's, which has no connections."""
    place = Worker._counts.take_place()
    place.tell(0)
    yield place
    Worker._counts.give_back(place)


def test_nothing_is_left_to_workers_that_listen_for_themselves(make_worker, idle_place):
    """With gunicorn's `reuse_port` the kernel has given each connection to one worker: nobody else can take it."""
    worker = make_worker(reuse_port=True)
    with ExitStack() as stack:
        for number in range(1, 5):
            stack.enter_context(socket.create_connection(worker.sockets[0].getsockname(), timeout=PATIENCE))
            worker.wait_for_and_dispatch_events(1.0)
            assert worker.nr_conns == number


def test_a_worker_that_hangs_does_not_slow_the_others_down_for_long(make_worker, idle_place):
    """They would take one connection in a millisecond until gunicorn ends it, after half a minute."""
    worker = make_worker()
    address = worker.sockets[0].getsockname()
    with ExitStack() as stack:
        for number in range(1, 101):
            stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
            while worker.nr_conns < number:
                worker.wait_for_and_dispatch_events(1.0)
        stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
        worker.wait_for_and_dispatch_events(1.0)
        assert worker.nr_conns == 101
        idle_place.tell(1)  # it goes on
        assert worker._place.another_has_fewer()


def test_no_connection_is_cut_for_one_that_another_worker_took(make_worker, caplog):
    """The kernel says that there is no file descriptor before it looks whether there is a connection."""
    worker = make_worker()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_connection(worker.sockets[0].getsockname(), timeout=PATIENCE):
        worker.wait_for_and_dispatch_events(1.0)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            worker.accept(worker.sockets[0])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert worker.nr_conns == 1
    assert not caplog.records


def test_a_worker_that_has_taken_more_leaves_the_next():
    counts = ConnectionCounts()
    one, other = counts.take_place(), counts.take_place()
    one.tell(5)
    assert not one.another_has_fewer(), "the other does not take any yet"
    other.tell(4)
    assert not one.another_has_fewer()
    other.tell(3)
    assert one.another_has_fewer()
    assert not other.another_has_fewer()
    other.tell(None)
    assert not one.another_has_fewer()


def test_nothing_is_left_to_a_worker_that_has_ended():
    counts = ConnectionCounts()
    one, other = counts.take_place(), counts.take_place()
    one.tell(5)
    other.tell(0)
    counts.give_back(other)
    assert not one.another_has_fewer()
    counts.give_back(other)
    next_one = counts.take_place()
    next_one.tell(0)
    assert one.another_has_fewer()


def test_workers_that_have_no_place_take_what_comes():
    counts = ConnectionCounts()
    places = [counts.take_place()]
    while places[-1].index is not None:
        places.append(counts.take_place())
    first, *_, last = places
    first.tell(0)
    last.tell(1000)
    assert not last.another_has_fewer()
    assert not first.another_has_fewer()
    counts.give_back(last)
    counts.give_back(first)
    assert counts.take_place().index is not None
