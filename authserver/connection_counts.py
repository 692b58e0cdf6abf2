"""How many connections each worker process has, for the others to see.

The kernel gives a new connection to the worker that asks first. When many come at once one worker may take them all;
clients keep them open, and the other cores have nothing to do.
"""

from __future__ import annotations

import mmap

_PLACES = 256
_NONE = 2**31 - 1
# A worker that has so many more than another lets that one have the next.
_MORE = 2
# A worker that does not take what was left to it for so many times, and has as many as before, hangs.
_IN_VAIN = 50


class Place:
    """One worker's count among all. What others read in the moment of a change may be late, and does no harm."""

    def __init__(self, counts: memoryview[int], index: int | None) -> None:
        """`index` is None where no place was free: then none of the others' counts matters."""
        self._counts, self.index = counts, index
        self._least, self._in_vain = _NONE, 0

    def tell(self, count: int | None) -> None:
        """Have so many connections; None: and take no more."""
        if self.index is not None:
            self._counts[self.index] = _NONE if count is None else count

    def another_has_fewer(self) -> bool:
        """Whether another worker, one that does not hang, should have the next connection."""
        if self.index is None:
            return False
        least = min(self._counts)
        if least != self._least:
            self._least, self._in_vain = least, 0
        return self._in_vain < _IN_VAIN and least + _MORE <= self._counts[self.index]

    def left_in_vain(self) -> None:
        """Note that the other worker did not take a connection that was left to it."""
        self._in_vain += 1


class ConnectionCounts:
    """Memory shared by the workers that are forked after it was made; the parent gives them their places."""

    def __init__(self) -> None:
        self._counts: memoryview[int] = memoryview(mmap.mmap(-1, 4 * _PLACES)).cast("i")
        for index in range(_PLACES):
            self._counts[index] = _NONE
        self._free = list(range(_PLACES))

    def take_place(self) -> Place:
        """Give a place for a worker to come."""
        return Place(self._counts, self._free.pop() if self._free else None)

    def give_back(self, place: Place) -> None:
        """Take the place of a worker that has ended, however it did."""
        if place.index is not None:
            place.tell(None)
            self._free.append(place.index)
            place.index = None
