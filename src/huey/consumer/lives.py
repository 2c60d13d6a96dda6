"""Looks after the threads of this process that serve a consumer: what has ended is started again in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from huey.engine.stamps import LOOK
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

MOST = 5
"""Looks within ``PERIOD`` seconds that may find threads ended. With more of them this process is not to be mended."""
PERIOD = 60.0
PULSE_STILL = 10
"""Looks of a thread without a pulse, though Python runs: the pulse stands still alone."""


class NotMended(Exception):
    """Threads end faster than they are started again."""


class Lives:
    """*revive*: functions that start threads which have ended, and return their names."""

    def __init__(self, clock: Clock, revive: Sequence[Callable[[], list[str]]]) -> None:
        self._clock = clock
        self._revive = revive
        self._ends: list[Micros] = []

    def look(self) -> None:
        """Start what has ended. NotMended: this process cannot go on."""
        names = [name for revive in self._revive for name in self._revived(revive)]
        if not names:
            return
        now = self._clock.monotonic()
        self._ends = [*(end for end in self._ends if now - end < micros(PERIOD)), now]
        if len(self._ends) > MOST:
            raise NotMended(f"its threads end again and again, the last time {', '.join(names)}")
        log.critical("threads of this worker have ended, they are started again: %s", ", ".join(names))

    def _revived(self, revive: Callable[[], list[str]]) -> list[str]:
        try:
            return revive()
        except RuntimeError as error:  # No thread can be started.
            raise NotMended(f"a thread has ended and cannot be started again: {error}") from error


class StandingStill:
    """Counts successive looks at a number that should have grown. *seconds*: how long it may stay the same; 0: for ever."""

    def __init__(self, seconds: float) -> None:
        self._limit = ceil(seconds / LOOK)
        self._last: int | None = None
        self._count = 0

    def look(self, number: int) -> bool:
        """True, once, when it has stood still for too long."""
        self._count = self._count + 1 if number == self._last else 0
        self._last = number
        return bool(self._limit) and self._count == self._limit
