"""Statistics of a MemoryStorage. There is no lock here: the storage holds its lock around every call."""

from __future__ import annotations

from huey.runtime.clock import SECOND, Micros
from huey.storage.base import PRUNE
from huey.storage.stats import HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT, NOTHING, TOOK, Stat, add, measured, start_of, stat

Key = tuple[Micros, str, int]
"""Start, name, span: the order in which rows are listed."""


class Statistics:
    """The counts of one queue by time and task name."""

    def __init__(self) -> None:
        self.rows: dict[Key, list[int]] = {}

    def count(self, name: str, what: int, now: Micros, took: Micros = 0) -> None:
        one = [0] * TOOK
        one[what] = 1
        add(self._row(name, now, MINUTE), [*one, *measured([took])])

    def _row(self, name: str, at: Micros, span: int) -> list[int]:
        return self.rows.setdefault((start_of(at, span), name, span), list(NOTHING))

    def since(self, since: Micros) -> list[Stat]:
        return [
            stat(name, start, span, *numbers) for (start, name, span), numbers in sorted(self.rows.items()) if start + span * SECOND > since
        ]

    def prune(self, now: Micros) -> int:
        """Roll up old rows and remove very old ones, at most PRUNE of each."""
        minutes = self._until(now - MINUTES_KEPT, MINUTE)
        for start, name, span in minutes:
            add(self._row(name, start, HOUR), self.rows.pop((start, name, span)))
        hours = self._until(now - HOURS_KEPT, HOUR)
        for key in hours:
            del self.rows[key]
        return len(minutes) + len(hours)

    def _until(self, time: Micros, span: int) -> list[Key]:
        """Return the rows of that span that had begun by *time*, oldest first."""
        return sorted(key for key in self.rows if key[2] == span and key[0] <= time)[:PRUNE]
