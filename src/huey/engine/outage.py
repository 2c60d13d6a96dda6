"""What one process says about a storage that is away: one line when that begins and one when it is over, whichever part notices (C15).

A worker leaves that to its supervisor, if that does not reach the storage either: an outage is told once, not by each process.
"""

from __future__ import annotations

import threading
from typing import Protocol

from huey.engine.scoreboard import REACHES, TELLS
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

PATIENCE = 10.0
"""Seconds that a worker waits for its supervisor to find out for itself."""


class Keeper(Protocol):
    """What a worker needs of its page."""

    @property
    def answer(self) -> int: ...

    def say_away(self, is_so: bool) -> None: ...


class Outage:
    """The parts of a process for which the storage is away just now. Callable from any thread. *keeper*: a supervisor that may tell it."""

    def __init__(self, clock: Clock, keeper: Keeper | None = None) -> None:
        self._clock = clock
        self._keeper = keeper
        self._is_told = self._is_left_to_keeper = False
        self._lock = threading.Lock()
        self._parts: set[str] = set()
        self._since: Micros = 0
        self._written = 0

    def is_on_beside(self, part: str) -> bool:
        """Another one than *part* cannot reach the storage."""
        with self._lock:
            return bool(self._parts - {part})

    @property
    def is_on(self) -> bool:
        """A part cannot reach the storage."""
        return bool(self._parts)

    def begins(self, part: str, why: object) -> None:
        """*part* could not reach the storage, or still cannot. Told once."""
        with self._lock:
            if not self._parts:
                self._since, self._written = self._clock.monotonic(), 0
                self._is_told = self._is_left_to_keeper = False
                if self._keeper is not None:
                    self._keeper.say_away(True)
            self._parts.add(part)
            is_news = not self._is_told and self._has_to_tell()
            self._is_told = self._is_told or is_news
        if is_news:
            log.error("storage is away, claims stop until it is back; running tasks go on: %s", why)

    def _has_to_tell(self) -> bool:
        if self._keeper is None:
            return True
        answer = self._keeper.answer
        self._is_left_to_keeper = self._is_left_to_keeper or answer == TELLS
        if self._is_left_to_keeper:
            return False
        return answer == REACHES or self._clock.monotonic() - self._since > micros(PATIENCE)

    def ends(self, part: str, written: int = 0) -> None:
        """*part* reached it, and wrote that many finishes that had waited. Told when it was the last part."""
        with self._lock:
            if part not in self._parts:
                return
            self._parts.discard(part)
            self._written += written
            is_over = not self._parts
            if is_over and self._keeper is not None:
                self._keeper.say_away(False)
        if is_over and self._is_told:
            took = (self._clock.monotonic() - self._since) / SECOND
            log.info("storage is back after %.1f s%s", took, f": {self._written} finished tasks written" if self._written else "")
        elif is_over and self._written:
            log.info("%d finished tasks written that had waited for the storage", self._written)
