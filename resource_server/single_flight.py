"""Single flight: threads that want the same answer at the same time share one call."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from resource_server.deadline import Deadline
from resource_server.errors import UnavailableError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Calls under way, by key. Nothing is kept once a call has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[bytes, Future[T]] = {}

    def share(self, key: bytes, call: Callable[[], T], deadline: Deadline) -> T:
        """Return the result of `call`, made by this thread or by one that is already at it for `key`.

        When a call that was only shared fails, this thread tries once more, again in company: a hiccup must
        not fail everyone who happened to wait, and a dead server must not get a call from each of them.
        Raises what `call` raises, `UnavailableError` when the deadline passes while waiting.
        """
        for _ in range(2):
            try:
                return self._join_or_lead(key, call, deadline)
            except _SharedFailureError as failure:
                shared = UnavailableError(failure.reason, failure.retry_after)
        raise shared

    def _join_or_lead(self, key: bytes, call: Callable[[], T], deadline: Deadline) -> T:
        with self._lock:
            flight = self._flights.get(key)
            lead = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        return self._lead(key, call, flight) if lead else _join(flight, deadline)

    def _lead(self, key: bytes, call: Callable[[], T], flight: Future[T]) -> T:
        failure = _SharedFailureError("the shared call was cut short", 1)
        try:
            result = call()
        except UnavailableError as error:
            failure = _SharedFailureError(str(error), error.retry_after)
            raise
        else:
            self._land(key)
            flight.set_result(result)
            return result
        finally:
            # also when this thread is being ended from outside: those who wait must learn of it
            if not flight.done():
                self._land(key)
                flight.set_exception(failure)

    def _land(self, key: bytes) -> None:
        with self._lock:
            self._flights.pop(key, None)


class _SharedFailureError(Exception):
    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


def _join(flight: Future[T], deadline: Deadline) -> T:
    try:
        return flight.result(timeout=max(0.0, deadline.remaining()))
    except TimeoutError:
        failure = UnavailableError("deadline passed while sharing a call")
    raise failure
