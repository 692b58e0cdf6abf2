"""Threads that take turns at watching, so that work seldom goes from one thread to another.

One thread at a time has the watch: it looks for work and does it itself. Only before it waits for long, for a database
or another host, does it pass the watch on; it finishes its work beside the others and is then idle, or watches again.
To wake another thread costs more than what most requests do.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

# A thread that works so long without passing the watch on has met something that nobody thought of; in seconds.
_STUCK = 0.5
_LOOK = 1.0  # seconds
_END = 2.0  # seconds

_this_thread = threading.local()

Turn = SimpleQueue[None]
"""A thread that takes part: what wakes it, and who it is."""


def pass_on() -> None:
    """Call this before waiting for the database: another thread has the watch meanwhile, if this one had it."""
    mine = getattr(_this_thread, "pass_on", None)
    if mine is not None:
        mine()


def settle_and_pass_on() -> None:
    """Call this before waiting for another host: what earlier work left to be done need not wait for that, too."""
    settle = getattr(_this_thread, "settle", None)
    if settle is not None:
        settle()
    pass_on()


class Watch:
    """So many threads, which do work; and the main thread, which does none and watches while no other can."""

    def __init__(
        self,
        number: int,
        look: Callable[[float], None],
        act: Callable[[Any], None],
        interrupt: Callable[[], None],
        settle: Callable[[], bool] = lambda: False,
    ) -> None:
        """`look` waits for so many seconds at the most and puts the work that it finds; `interrupt` makes it return.

        `act` does a piece of work; `settle` does what several pieces left to be done for all of them, and gives whether
        there was anything. What any of them raises is raised in the main thread: with a thread fewer each time, a
        process would in the end answer nobody, and look alive.
        """
        self._look_for, self._act, self._interrupt, self._settle = look, act, interrupt, settle
        self._lock = threading.Lock()
        self._main: Turn = SimpleQueue()
        # The rest is changed under the lock. Who was idle last is woken first: its memory and connections are warm.
        self._watcher: Turn | None = self._main
        self._acts_since = math.inf
        self._idle: list[Turn] = []
        self._work: deque[Any] = deque()
        self._looking = threading.Lock()
        self._failure: BaseException | None = None
        self._ended = False
        self._turns: list[Turn] = [SimpleQueue() for _ in range(number)]
        for n, turn in enumerate(self._turns):
            threading.Thread(target=self._run, args=(turn,), name=f"request-{n}", daemon=True).start()

    def put(self, work: Any) -> None:
        """Add work, in `look`."""
        self._work.append(work)

    @property
    def has_work(self) -> bool:
        """Whether there is more to do."""
        return bool(self._work)

    def stand_in(self, timeout: float) -> None:
        """For the main thread to call again and again: wait, or watch while no other thread can; in seconds."""
        if self._failure is not None:
            raise self._failure
        with self._lock:
            if self._acts_since + _STUCK < time.monotonic():
                self._watcher = None
            successor = self._successor() if self._watcher in (None, self._main) else None
        if successor is self._main:
            self._look(timeout)
            return
        if successor is not None:
            successor.put(None)
        with suppress(Empty):
            self._main.get(timeout=timeout)

    def wake_main(self) -> None:
        """End the main thread's wait. For signal handlers, too."""
        self._main.put(None)

    def shutdown(self, wait: bool = False) -> None:  # noqa: ARG002 - gunicorn names it
        """Let the threads end when they have done what they do, and none look any more. gunicorn calls this."""
        self._ended = True
        for turn in self._turns:
            turn.put(None)
        if self._watcher is not self._main:
            self._interrupt()
            self._looking.acquire(timeout=_END)

    def _successor(self) -> Turn:
        self._acts_since = math.inf
        self._watcher = self._idle.pop() if self._idle else self._main
        return self._watcher

    def _pass_on(self, turn: Turn) -> None:
        with self._lock:
            if self._watcher is not turn:
                return
            successor = self._successor()
        successor.put(None)

    def _run(self, turn: Turn) -> None:
        _this_thread.pass_on, _this_thread.settle = partial(self._pass_on, turn), self._settle
        try:
            while not self._ended:
                work = self._next(turn)
                if work is not None:
                    self._act(work)
        except BaseException as error:  # noqa: BLE001 - it ends the process, by the main thread
            self._failure = error
            self._ended = True
            self.wake_main()

    def _next(self, turn: Turn) -> Any:
        """Work; or nothing, after a look or a rest that may have brought some."""
        with self._lock:
            watches = self._watcher is turn
            if self._work:
                if watches:
                    self._acts_since = time.monotonic()
                return self._work.popleft()
        if self._settle():
            return None  # and perhaps waited, and passed the watch on
        with self._lock:
            watches = self._watcher is turn
            if self._work:
                return None
            if watches:
                self._acts_since = math.inf
            else:
                self._idle.append(turn)
        if watches:
            self._look(_LOOK)
        else:
            turn.get()
        return None

    def _look(self, timeout: float) -> None:
        with self._looking:
            if not self._ended:
                self._look_for(timeout)
