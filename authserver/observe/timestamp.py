"""The time as it stands in log lines."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    second, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_second(second)}.{milliseconds:03d}+00:00"


@lru_cache(2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()
