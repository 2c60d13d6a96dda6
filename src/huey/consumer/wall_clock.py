"""The clock on the consumer's wall: how far it is ahead of UTC, kept where revocations until a wall time are judged and asked about."""

from __future__ import annotations

from huey.runtime.clock import Clock, Micros
from huey.runtime.times import wall_of
from huey.storage.base import Storage

GLANCE = 5.0
"""Seconds between two looks at the offset of a clock that shows local time."""


class WallClock:
    """*is_local*: it shows this machine's local time; else UTC."""

    def __init__(self, storage: Storage, clock: Clock, is_local: bool) -> None:
        self._storage = storage
        self._clock = clock
        self._is_local = is_local
        self._noted: Micros | None = None

    def note(self) -> None:
        """Tell the storage how far this clock is ahead of UTC, unless it knows."""
        now = self._clock.now()
        offset = wall_of(now, self._is_local) - now
        if offset == self._noted:
            return
        self._storage.offset = offset
        text = str(offset).encode()
        if (self._storage.peek("setting", "offset") or b"0") != text:
            self._storage.put("setting", "offset", text)
        self._noted = offset

    def look(self) -> float:
        """Note it when it has changed; seconds until the next look."""
        self.note()
        return GLANCE
