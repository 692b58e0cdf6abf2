"""The thread that follows the revocation feed: one per process, begun when it is first needed."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from resource_server.deadline import Clock
from resource_server.follower import Follower
from resource_server.per_process import PerProcess

_log: Final = logging.getLogger(__name__)
_AFTER_AN_ACCIDENT: Final = 1.0


class Following:
    """Gives each process its follower, and keeps a thread polling for it.

    The thread begins with the first request, so none crosses a fork, and is begun anew should it have ended.
    """

    def __init__(
        self,
        make: Callable[[], Follower],
        *,
        clock: Clock = time.monotonic,
        jitter: Callable[[], float] = lambda: random.SystemRandom().uniform(0.9, 1.1),
    ) -> None:
        self._clock, self._jitter = clock, jitter
        self._runner = PerProcess(lambda: _Runner(make(), self._clock, self._jitter))

    def __call__(self) -> Follower:
        """Return this process's follower, at work."""
        runner = self._runner()
        runner.ensure()
        return runner.follower

    def peek(self) -> Follower:
        """Return this process's follower, at work or not."""
        return self._runner().follower

    def stop(self) -> None:
        """End this process's thread and forget what it knew."""
        if runner := self._runner.discard():
            runner.stop()


class _Runner:
    def __init__(self, follower: Follower, clock: Clock, jitter: Callable[[], float]) -> None:
        self.follower, self._clock, self._jitter = follower, clock, jitter
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def ensure(self) -> None:
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._start()

    def stop(self) -> None:
        self._stopped.set()
        if thread := self._thread:
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._stopped.is_set() or (self._thread and self._thread.is_alive()):
                return
            if self._thread:
                _log.error("the thread that follows the revocation feed had ended; another takes over")
            thread = threading.Thread(target=self._run, name="revocation-follower", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # no more threads to be had, or the interpreter is ending: requests are introspected
                _log.exception("the revocation feed cannot be followed")
                return
            self._thread = thread

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = self._clock()
            try:
                due = self.follower.poll()
            except Exception:  # noqa: BLE001 - whatever it was, the thread has to go on
                _log.exception("polling the revocation feed failed")
                due = self._clock() + _AFTER_AN_ACCIDENT
            # spread over time, so that processes that started together do not stay in step
            self._stopped.wait(max(0.0, began + (due - began) * self._jitter() - self._clock()))
