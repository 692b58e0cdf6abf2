"""Signals that ask a command to stop: noted at once, and raised only where nothing is half begun.

A process that has started others must stop them whenever it is asked to. Were the signal raised just anywhere, it
could fall between the start of a process and the note that it was started, or into the cleaning up.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked for a stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number  # as a shell reports it


class _Noted:
    number: int | None = None
    raises = False


def _note(number: int, _frame: FrameType | None) -> None:
    if _Noted.number is None:
        _Noted.number = number
    if _Noted.raises:
        _Noted.raises = False
        raise Stopped(number)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Note INT, TERM and HUP from now on, unless the caller ignores them (nohup). Raises Stopped at the end."""
    _Noted.number = None
    previous = {number: signal.getsignal(number) for number in _STOP}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        # Also instead of an error: Ctrl-C reaches the processes that work for this one, and they fail of it.
        if _Noted.number is not None:
            raise Stopped(_Noted.number) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """For the waits within `stop_signals`: raise Stopped when a signal comes, or if one has come already."""
    _Noted.raises = True
    try:
        if _Noted.number is not None:
            raise Stopped(_Noted.number)
        yield
    finally:
        _Noted.raises = False
