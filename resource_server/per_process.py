"""State that must not cross a fork: sockets, locks, caches."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process makes for itself, on first use.

    A fork may happen while another thread holds a lock, so this takes none: `dict.setdefault` is atomic, and
    a value made twice in a race of first callers is dropped unused.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def __call__(self) -> T:
        """Return this process's value."""
        pid = os.getpid()
        if (value := self._made.get(pid)) is not None:
            return value
        value = self._made.setdefault(pid, self._make())
        for parent in self._made.keys() - {pid}:
            self._made.pop(parent, None)
        return value

    def discard(self) -> T | None:
        """Forget this process's value and return it, so that the caller can close it."""
        return self._made.pop(os.getpid(), None)
