"""What tasks in memory share: unique keys, limits, locks, rates. No lock of threads here: the storage holds it around every verb."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import NamedTuple

from huey.runtime.clock import Micros, micros
from huey.storage.locks import Held, Holder
from huey.storage.memory.row import Row
from huey.task.lifecycle import State
from huey.task.record_options import WAITING, Constraints

Rank = tuple[int, Micros, str]


class Kept(NamedTuple):
    """A key that is held by the clock."""

    id: str
    expires: Micros


class Keys:
    """Unique keys, and ids that stay known."""

    def __init__(self) -> None:
        self.holders: dict[str, str] = {}
        """Key to id of the row that holds it."""
        self.kept: dict[tuple[str, str], Kept] = {}

    def duplicate_of(self, id: str, constraints: Constraints, now: Micros, gives_way: Callable[[str], bool]) -> str | None:
        """The id of the task because of which a new one is not put in: its own id, if that is known; None: nothing is in the way.
        *gives_way*: whether a task that holds a key lets others have it."""
        if constraints.id_ttl is not None and (known := self._kept("id", id, now)):
            return known
        if constraints.unique is None:
            return None
        if constraints.unique in self.holders and gives_way(self.holders[constraints.unique]):
            del self.holders[constraints.unique]
        return self.holders.get(constraints.unique) or self._kept("unique", constraints.unique, now)

    def _kept(self, kind: str, key: str, now: Micros) -> str | None:
        found = self.kept.get((kind, key))
        return found.id if found is not None and now < found.expires else None

    def note(self, row: Row, now: Micros) -> None:
        """A task was put in."""
        id, constraints = row.record.id, row.constraints
        if constraints.id_ttl is not None:
            self.kept["id", id] = Kept(id, (now if row.due is None else row.due) + micros(constraints.id_ttl))
        if constraints.unique is not None and not isinstance(constraints.unique_for, str):
            self.kept["unique", constraints.unique] = Kept(id, now + micros(constraints.unique_for))
        self.take([row])

    def take(self, rows: Iterable[Row]) -> None:
        """Let rows that wait have their keys, as far as those are free."""
        for row in sorted(rows, key=lambda row: row.record.id):
            if row.constraints.unique is not None and row.constraints.holds_key:
                self.holders.setdefault(row.constraints.unique, row.record.id)

    def forget(self, row: Row) -> None:
        """A task leaves no trace."""
        if row.constraints.unique is not None and self.holders.get(row.constraints.unique) == row.record.id:
            del self.holders[row.constraints.unique]
        self.kept.pop(("id", row.record.id), None)

    def release_keys(self, row: Row) -> None:
        """A task has ended, or started."""
        key = row.constraints.unique
        is_due = row.is_ended or row.constraints.unique_for == WAITING
        if key is not None and is_due and self.holders.get(key) == row.record.id:
            del self.holders[key]


class ConcurrencyLimit:
    """The tasks of one limit: those that run, those that are ready, and those that wait until they are among the best."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.open: set[str] = set()
        self.waiting: list[Rank] = []


class ConcurrencyLimits:
    """Limits by key. *make_ready* makes a row ready, *take_out* takes it back from what is ready."""

    def __init__(self, rows: dict[str, Row], make_ready: Callable[[Row], None], take_out: Callable[[Row], None]) -> None:
        self._rows = rows
        self._make_ready = make_ready
        self._take_out = take_out
        self._limits: dict[str, ConcurrencyLimit] = {}

    def _of(self, row: Row) -> ConcurrencyLimit | None:
        return (
            None
            if row.constraints.concurrency_key is None
            else self._limits.setdefault(row.constraints.concurrency_key, ConcurrencyLimit())
        )

    def is_open_to(self, row: Row) -> bool:
        """A row that is ready need not ask; one with a limit waits until it is let in."""
        return row.constraints.concurrency_key is None

    def enter(self, row: Row) -> None:
        """A due row waits to be let in."""
        gate = self._of(row)
        assert gate is not None
        row.state = State.BLOCKED
        heapq.heappush(gate.waiting, row.rank)
        self.level(row)

    def start(self, row: Row) -> None:
        """It was claimed."""
        if gate := self._of(row):
            gate.open.discard(row.record.id)
            gate.running.add(row.record.id)

    def stop(self, row: Row) -> None:
        """It is not claimed any more. Who ends it for good, levels."""
        if gate := self._of(row):
            gate.running.discard(row.record.id)

    def level(self, row: Row) -> None:
        """The best of the row's key are ready, as many as the limit leaves beside what runs; the others wait."""
        gate = self._of(row)
        if gate is None:
            return
        # The first one decides, or tasks with different numbers would let each other in and out for ever.
        room = self._rows[gate.waiting[0][2]].constraints.max_running - len(gate.running) if gate.waiting else 0
        while gate.waiting:
            best = gate.waiting[0]
            worst = max((self._rows[id].rank for id in gate.open), default=None)
            if len(gate.open) < room:
                heapq.heappop(gate.waiting)
                self._open(gate, self._rows[best[2]])
            elif worst is not None and (len(gate.open) > max(room, 0) or best < worst):
                self._close(gate, self._rows[worst[2]])
            else:
                return
        if not gate.running and not gate.open:
            del self._limits[row.constraints.concurrency_key or ""]

    def _open(self, gate: ConcurrencyLimit, row: Row) -> None:
        gate.open.add(row.record.id)
        row.state = State.QUEUED
        self._make_ready(row)

    def _close(self, gate: ConcurrencyLimit, row: Row) -> None:
        gate.open.discard(row.record.id)
        self._take_out(row)
        row.state = State.BLOCKED
        heapq.heappush(gate.waiting, row.rank)

    def clear_waiting(self) -> None:
        """Only what runs is counted any more."""
        for gate in self._limits.values():
            gate.open.clear()
            gate.waiting.clear()
        self._limits = {limit: gate for limit, gate in self._limits.items() if gate.running}

    def waiting(self) -> list[Row]:
        """All that wait, the best first."""
        ranks = sorted(rank for gate in self._limits.values() for rank in gate.waiting)
        return [self._rows[id] for _, _, id in ranks]


class Locks:
    """Locks by name. *is_live*: whether a holder still is, given the end of its own lease."""

    def __init__(self, is_live: Callable[[Holder, Micros], bool]) -> None:
        self._is_live = is_live
        self._taken = 0
        self.clear()

    def clear(self) -> None:
        """All are free; tokens go on growing."""
        self._held: dict[str, tuple[Held, Micros, Micros]] = {}
        """Each with the end of its holder's lease, and its own."""

    def find(self, name: str, now: Micros) -> Held | None:
        if name not in self._held:
            return None
        held, until, ends = self._held[name]
        return held if now < ends and self._is_live(held.holder, until) else None

    def take(self, name: str, holder: Holder, until: Micros, ends: Micros, now: Micros) -> int | None:
        if self.find(name, now) is not None or not self._is_live(holder, until):
            return None
        self._taken += 1
        self._held[name] = Held(name, self._taken, holder), until, ends
        return self._taken

    def renew(self, holder: Holder, until: Micros, now: Micros) -> int:
        names = [name for name in self._held if (held := self.find(name, now)) is not None and held.holder == holder]
        for name in names:
            held, _, ends = self._held[name]
            self._held[name] = held, until, ends
        return len(names)

    def free(self, name: str, now: Micros) -> bool:
        """True if it was held."""
        is_held = self.find(name, now) is not None
        self._held.pop(name, None)
        return is_held

    def names(self) -> list[str]:
        return list(self._held)

    def prune(self, now: Micros) -> int:
        """Forget those that nobody holds any more."""
        gone = [name for name in self._held if self.find(name, now) is None]
        for name in gone:
            del self._held[name]
        return len(gone)


class Rates:
    """Uses of each name in its last window."""

    def __init__(self) -> None:
        self.windows: dict[str, tuple[Micros, Micros, int]] = {}
        """Name to start and end of the window, and uses in it, those that were refused too."""

    def take(self, name: str, limit: int, per: Micros, now: Micros) -> bool:
        start = now - now % per
        last, end, used = self.windows.get(name, (start, start + per, 0))
        if last < start:
            last, end, used = start, start + per, 0
        self.windows[name] = last, end, used + 1
        return used < limit

    def usage(self, name: str, per: Micros, now: Micros) -> int:
        last, _, used = self.windows.get(name, (0, 0, 0))
        return used if last >= now - now % per else 0
