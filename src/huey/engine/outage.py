"""What one process says about a storage that is away: one line when that begins and one when it is over, whichever part notices (C15)."""

from __future__ import annotations

import threading

from huey.clock import SECOND, Clock, Micros
from huey.logs import SafeLogger

log = SafeLogger("huey.consumer")


class Outage:
    """The parts of a process for which the storage is away just now. Callable from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
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
        """*part* could not reach the storage. Told for the first part only."""
        with self._lock:
            is_first = not self._parts
            self._parts.add(part)
            if is_first:
                self._since, self._written = self._clock.monotonic(), 0
        if is_first:
            log.error("storage is away, claims stop until it is back; running tasks go on: %s", why)

    def ends(self, part: str, written: int = 0) -> None:
        """*part* reached it, and wrote that many finishes that had waited. Told when it was the last part."""
        with self._lock:
            if part not in self._parts:
                return
            self._parts.discard(part)
            self._written += written
            is_over = not self._parts
        if is_over:
            took = (self._clock.monotonic() - self._since) / SECOND
            log.info("storage is back after %.1f s: %d finished tasks written", took, self._written)
