"""Keep the partitioned tables flat: make partitions ahead of need, drop those in which everything has expired."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from authserver.store.partitions import DefaultHasRows, Partition, Partitions

HOUR = 3600
# Longer than any token lives (one day at most), with two days for someone to notice that maintenance has stopped.
AHEAD = 72 * HOUR
# A partition outlives its last token by this much, for clocks that disagree.
SKEW = 600


def missing_ranges(existing: Sequence[Partition], now: int, width: int, ahead: int = AHEAD) -> list[tuple[int, int]]:
    """The ranges, aligned to `width` seconds, that are yet to be made between now and `ahead` seconds from now.

    Where `width` was changed, the ranges that exist stay as they are and only the space between them is filled.
    """
    missing = []
    lower = now - now % width
    taken = sorted((p.lower, p.upper) for p in existing if p.upper > lower)
    while lower < now + ahead:
        upper = lower - lower % width + width
        cover = next(((low, up) for low, up in taken if low < upper and up > lower), None)
        if cover is None:
            missing.append((lower, upper))
        elif cover[0] > lower:
            missing.append((lower, cover[0]))
            upper = cover[1]
        else:
            upper = cover[1]
        lower = upper
    return missing


def maintain(tables: Sequence[Partitions], now: int, width: int, tell: Callable[[str], None]) -> None:
    """Move the partitions ahead and drop the expired ones, telling each step. `width` is in seconds.

    Safe to repeat and to run from several places at once. Raises Busy, Unavailable.
    """
    with tables[0].lock(lambda: tell("waiting for another run to finish")):
        # First for all tables what issuing and revoking need.
        for partitions in tables:
            _create(partitions, now, width, tell)
        for partitions in tables:
            _drop(partitions, now, tell)
            if deleted := partitions.delete_expired_default(now - SKEW):
                tell(f"deleted {deleted} expired rows from the default partition")


def _create(partitions: Partitions, now: int, width: int, tell: Callable[[str], None]) -> None:
    for lower, upper in missing_ranges(partitions.list(), now, width):
        try:
            tell(f"created {partitions.create(lower, upper).name}")
        except DefaultHasRows:
            tell(f"left out {lower}..{upper}: rows of that time are in the default partition until they expire")


def _drop(partitions: Partitions, now: int, tell: Callable[[str], None]) -> None:
    for partition in [partition for partition in partitions.list() if partition.upper + SKEW <= now]:
        partitions.drop(partition)
        tell(f"dropped {partition.name}")
