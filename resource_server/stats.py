"""What happened in this process, for those who operate it."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from resource_server.per_process import PerProcess

Listener = Callable[[str, str, float], None]


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand in this process; counts are since its start.

    `fresh` and `seconds_since_poll` (from the beginning of the last complete poll) are None without a
    revocation feed and before the first poll. `fallbacks` counts, by reason, the requests that had to be
    introspected because what is remembered could not be relied on.
    """

    fresh: bool | None = None
    seconds_since_poll: float | None = None
    problem: str = ""
    tombstones: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    jwks_fetches: Mapping[str, int] = field(default_factory=dict)
    polls: Mapping[str, int] = field(default_factory=dict)


class _Counts:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_name: Counter[tuple[str, str]] = Counter()


class Stats:
    """Counts by name and label. `listener` gets each count and measurement too: (name, label, amount)."""

    def __init__(self, listener: Listener = lambda _name, _label, _amount: None) -> None:
        self._counts, self._listener = PerProcess(_Counts), listener

    def count(self, name: str, label: str = "") -> None:
        """Count one more."""
        counts = self._counts()
        with counts.lock:
            counts.by_name[name, label] += 1
        self._listener(name, label, 1)

    def measure(self, name: str, value: float) -> None:
        """Tell the listener what something is now."""
        self._listener(name, "", value)

    def total(self, name: str) -> int:
        """Return the count without a label."""
        return self._counts().by_name[name, ""]

    def labelled(self, name: str) -> dict[str, int]:
        """Return the counts by label."""
        counts = self._counts()
        with counts.lock:
            return {label: amount for (each, label), amount in counts.by_name.items() if each == name}
