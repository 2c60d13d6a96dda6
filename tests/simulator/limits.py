"""Which tasks their limits block, as the contract says it: the best of a key are ready, as many as may start beside those that run, and in
this window of their rate."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

from huey.runtime.clock import Micros
from huey.storage.base import RATE_AHEAD
from tests.simulator.entry import Entry
from tests.simulator.rules import demand


class Window:
    """The last window of a rate, and how many tasks were claimed in it."""

    def __init__(self, start: Micros, length: Micros) -> None:
        self.start = start
        self.end = start + length
        self.used = 0


class Limits:
    """The limits of one queue. All tasks of one key have the same; I10: none is exceeded."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}

    def ready(self, open: Collection[Entry]) -> list[Entry]:
        """Return those of the open tasks that are due and not blocked."""
        ready = [entry for entry in open if entry.key is None and entry.is_ready]
        running = Counter(entry.key for entry in open if entry.key is not None and entry.holder is not None)
        for key, entries in due_by_key(open).items():
            ready += entries[: max(0, self._room(key, entries[0], running[key]))]
        return ready

    def _room(self, key: str, entry: Entry, running: int) -> int:
        most, rate = entry.terms.max_running, entry.terms.rate
        room = RATE_AHEAD if most is None else most - running
        window = self._windows.get(key)
        return room if rate is None else min(room, rate[0] - (0 if window is None else window.used))

    def end_windows(self, open: Collection[Entry], now: Micros, *, awaited: bool) -> None:
        """Windows that are over end: those that tasks wait for before a claim, the others when the storage is pruned."""
        over = [key for key, window in self._windows.items() if window.end <= now]
        if over:
            waited_for = {entry.key for entry in self.blocked(open)}
            for key in [key for key in over if (key in waited_for) == awaited]:
                del self._windows[key]

    def blocked(self, open: Collection[Entry]) -> list[Entry]:
        """Return those of the open tasks that are due and not ready."""
        limited = [entry for entry in open if entry.key is not None]
        ready = {entry.record.id for entry in self.ready(limited)} if limited else set()
        return [entry for entry in limited if entry.is_ready and entry.record.id not in ready]

    def claimed(self, entry: Entry, open: Collection[Entry], now: Micros) -> None:
        """*entry* was claimed: no more of its key run than may, and no more have started in this window."""
        key, most, rate = entry.key, entry.terms.max_running, entry.terms.rate
        if key is None:
            return
        count = sum(other.holder is not None and other.key == key for other in open)
        demand(most is None or count <= most, "I10", f"{entry.record.id} was claimed, {count} of {key} run, {most} may")
        if rate is not None:
            start = now - now % rate[1]
            if key not in self._windows or self._windows[key].start < start:
                self._windows[key] = Window(start, rate[1])
            window = self._windows[key]
            window.used, entry.spent = window.used + 1, window.start
            demand(window.used <= rate[0], "I10", f"{entry.record.id} is the {window.used}th of {key} in its window, {rate[0]} may start")

    def released(self, entry: Entry) -> None:
        """*entry* did not start after all."""
        window = self._windows.get(entry.key or "")
        if window is not None and window.start == entry.spent:
            window.used -= 1


def due_by_key(open: Collection[Entry]) -> dict[str, list[Entry]]:
    """Return the tasks with limits that are due, best first."""
    due = defaultdict[str, list[Entry]](list)
    for entry in open:
        if entry.key is not None and entry.is_ready:
            due[entry.key].append(entry)
    for entries in due.values():
        entries.sort(key=lambda entry: entry.rank[0][1:] + entry.rank[1:])
    return due
