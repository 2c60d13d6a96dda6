"""How often, and for how long, a call tries again that met a file which another process keeps busy."""

from __future__ import annotations

from typing import Protocol

from huey.runtime.clock import SECOND, Clock, Micros, Rng, micros

FIRST_GAP_S = 400e-6
LONGEST_GAP_S = 4e-3
SHORTEST_GAP_S = 50e-6
"""SQLite's own busy handler sleeps up to 100 ms and starves whole processes; short random gaps are fair."""
SLOW_GAP_S = 25e-3
"""After a second of waiting the file is not just contended, but held: retries need not keep a core busy."""


class Retrier(Protocol):
    """Decides whether a call that met a busy file tries again."""

    def again(self) -> bool:
        """Sleep a little before another try. Returns False when there is no time left for one."""


class BusyRetry:
    """Retries of one call for *seconds*, counted from *since*, or from the first retry."""

    def __init__(self, clock: Clock, rng: Rng, seconds: float, since: Micros | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self._limit = micros(seconds)
        self._since = since
        self._gap = FIRST_GAP_S

    def again(self) -> bool:
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited > self._limit:
            return False
        self._clock.sleep(SHORTEST_GAP_S + self._rng.random() * (self._gap - SHORTEST_GAP_S))
        self._gap = min(self._gap * 1.5, LONGEST_GAP_S if waited < SECOND else SLOW_GAP_S)
        return True
