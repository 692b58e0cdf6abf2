"""The turns that a worker's threads take, with a queue in place of its connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from authserver.watch import Watch, pass_on, settle_and_pass_on

WaitUntil = Callable[..., Any]


class Works:
    """What a worker does with its connections: work arrives, is found by who looks, and is done."""

    def __init__(self, threads: int) -> None:
        self.arriving: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.lookers: list[int] = []
        self.doers: list[int] = []
        self.left: dict[int, list[Callable[[], None]]] = {}
        self.settled: list[int] = []
        self.done = 0
        self.goes_on = True
        self.watch = Watch(threads, self.look, self.act, lambda: self.arriving.put(lambda: None), self.settle)

    def look(self, timeout: float) -> None:
        self.lookers.append(threading.get_ident())
        with suppress(Empty):
            self.watch.put(self.arriving.get(timeout=timeout))

    def act(self, work: Callable[[], None]) -> None:
        self.doers.append(threading.get_ident())
        work()
        self.done += 1

    def settle(self) -> bool:
        if not (mine := self.left.pop(threading.get_ident(), [])):
            return False
        for each in mine:
            each()
        self.settled.append(len(mine))
        return True

    def leave(self, rest: Callable[[], None] = lambda: None) -> None:
        """For work to call: there is something to be done when this thread has no more work."""
        self.left.setdefault(threading.get_ident(), []).append(rest)

    def arrive(self, work: Callable[[], None] = lambda: None, *, times: int = 1) -> None:
        for _ in range(times):
            self.arriving.put(work)

    def run(self) -> None:
        """What the main thread does."""
        while self.goes_on:
            self.watch.stand_in(0.05)
        self.watch.shutdown()


class Waiting:
    """Work that waits, having passed the watch on or not."""

    def __init__(self, *, passes_on: bool) -> None:
        self.passes_on, self.over = passes_on, threading.Event()

    def __call__(self) -> None:
        if self.passes_on:
            pass_on()
        assert self.over.wait(20)


@pytest.fixture
def start() -> Iterator[Callable[[int], Works]]:
    started: list[tuple[Works, threading.Thread]] = []

    def start(threads: int) -> Works:
        works = Works(threads)
        main = threading.Thread(target=works.run)
        main.start()
        started.append((works, main))
        return works

    yield start
    for works, main in started:
        works.goes_on = False
        main.join(20)
        assert not main.is_alive()


def test_who_watches_does_the_work_itself(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works = start(4)
    works.arrive(times=200)
    wait_until(lambda: works.done == 200, "all to be done")
    assert len(set(works.doers)) == 1


def test_while_one_waits_another_watches(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works, waiting = start(2), Waiting(passes_on=True)
    works.arrive(waiting)
    works.arrive(times=50)
    wait_until(lambda: works.done == 50, "all but one to be done")
    waiting.over.set()
    wait_until(lambda: works.done == 51, "the last")
    assert len(set(works.doers)) == 2


def test_a_thread_that_waited_does_not_look_while_another_does(
    start: Callable[[int], Works], wait_until: WaitUntil
) -> None:
    works, waiting = start(2), Waiting(passes_on=True)
    works.arrive(waiting)
    works.arrive()
    wait_until(lambda: works.done == 1, "the second")
    waited, watches = works.doers
    waiting.over.set()
    wait_until(lambda: works.done == 2, "the first")
    before = len(works.lookers)
    works.arrive(times=50)
    wait_until(lambda: works.done == 52, "the others")
    assert set(works.lookers[before:]) == {watches}
    assert waited != watches


def test_with_all_threads_waiting_work_is_found_and_kept(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works, waits = start(2), [Waiting(passes_on=True) for _ in range(2)]
    for waiting in waits:
        works.arrive(waiting)
    works.arrive(times=20)
    wait_until(works.arriving.empty, "the main thread to find the work")
    assert works.done == 0
    waits[0].over.set()
    wait_until(lambda: works.done == 21, "the thread that is free again")
    waits[1].over.set()
    wait_until(lambda: works.done == 22, "the other")


def test_who_does_not_pass_the_watch_on_loses_it(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works, stuck = start(2), Waiting(passes_on=False)
    works.arrive(stuck)
    works.arrive(times=20)
    wait_until(lambda: works.done == 20, "the other thread")
    stuck.over.set()
    wait_until(lambda: works.done == 21, "the one that was stuck")
    works.arrive(times=20)
    wait_until(lambda: works.done == 41, "work afterwards")


def test_who_has_no_more_work_settles_for_all_that_it_did(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works = start(2)

    def find_more() -> None:
        works.leave()
        for _ in range(9):
            works.watch.put(works.leave)

    works.arrive(find_more)
    wait_until(lambda: works.settled, "the first time")
    assert works.done == sum(works.settled) == 10
    assert works.settled == [10]


def test_who_does_not_watch_settles_too(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works, waiting = start(2), Waiting(passes_on=True)

    def wait_and_leave() -> None:
        waiting()
        works.leave()

    works.arrive(wait_and_leave)
    works.arrive()
    wait_until(lambda: works.done == 1, "the second")
    waiting.over.set()
    # Nothing arrives for who watches.
    wait_until(lambda: works.settled == [1], "the first")


def test_what_arrives_while_a_thread_settles_is_done(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works, waiting = start(1), Waiting(passes_on=True)
    works.arrive(lambda: works.leave(waiting))
    wait_until(lambda: works.done == 1, "the first")
    works.arrive(times=20)
    wait_until(works.arriving.empty, "the main thread to find the work")
    assert works.settled == []
    waiting.over.set()
    wait_until(lambda: works.done == 21, "the thread that has settled")
    assert works.settled == [1]


def test_who_waits_for_another_host_settles_first(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works, waiting = start(1), Waiting(passes_on=False)

    def wait_for_a_host() -> None:
        settle_and_pass_on()
        waiting()

    def find_more() -> None:
        works.leave()
        works.watch.put(wait_for_a_host)

    works.arrive(find_more)
    wait_until(lambda: works.settled == [1], "what was left")
    assert works.done == 1
    waiting.over.set()
    wait_until(lambda: works.done == 2, "the host")


def test_what_looking_raises_is_raised_in_the_main_thread() -> None:
    def look(_timeout: float) -> None:
        raise OSError("no more")

    watch = Watch(2, look, lambda _: None, lambda: None)

    def run() -> None:
        for _ in range(100):
            watch.stand_in(0.1)

    with pytest.raises(OSError, match="no more"):
        run()
    watch.shutdown()


def test_after_the_end_nobody_looks(start: Callable[[int], Works], wait_until: WaitUntil) -> None:
    works = start(3)
    works.arrive(times=3)
    wait_until(lambda: works.done == 3, "the work")
    works.goes_on = False
    wait_until(lambda: not [each for each in threading.enumerate() if each.name.startswith("request-")], "the end")
    found = len(works.lookers)
    works.arrive()
    assert not works.arriving.empty()
    assert len(works.lookers) == found


def test_a_thread_that_takes_no_part_passes_nothing_on() -> None:
    pass_on()
    settle_and_pass_on()


def test_what_ends_a_thread_is_raised_in_the_main_thread() -> None:
    def fail() -> None:
        raise MemoryError("no more")

    watch = Watch(2, lambda _timeout: watch.put(fail), lambda work: work(), lambda: None)

    def run() -> None:
        for _ in range(100):
            watch.stand_in(0.1)

    with pytest.raises(MemoryError, match="no more"):
        run()
    watch.shutdown()
