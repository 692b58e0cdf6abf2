"""Whether to wait for an answer at once, or first to let another thread go on.

A database on this machine answers sooner than another thread wakes up, unless it has to wait itself, as for its disk.
So each statement is given a moment, unless its answers have lately taken longer; such a one is tried now and then.
"""

from __future__ import annotations

import select
from collections.abc import Callable

_MOMENT = 1  # millisecond
_WEIGHT = 1 / 16
_HOPELESS = 0.5
_TRY_AGAIN = 32


class Patience:
    """What is known of the statements of one database, by all threads together."""

    def __init__(self, before_waiting: Callable[[], None]) -> None:
        """`before_waiting` lets another thread go on."""
        self.before_waiting = before_waiting
        # By statement: of its late answers a sliding mean, and how often it has been given no moment since the last.
        # A number that two threads change at once, and that only one did, does no harm.
        self._late: dict[str, float] = {}
        self._passed_over: dict[str, int] = {}

    def wait(self, statement: str, answer: select.poll) -> bool:
        """Wait for the answer to a statement for a moment, or not at all, and let another go on if there is none.

        Gives whether it has come.
        """
        late = self._late.get(statement, 0.0)
        if late > _HOPELESS:
            passed_over = self._passed_over.get(statement, 0)
            self._passed_over[statement] = (passed_over + 1) % _TRY_AGAIN
            if passed_over:
                self.before_waiting()
                return False
        came = bool(answer.poll(_MOMENT))
        self._late[statement] = late + ((not came) - late) * _WEIGHT
        if not came:
            self.before_waiting()
        return came
