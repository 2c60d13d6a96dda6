"""Log an outage of the storage once per process, with a line when it begins and a line when it is over, whichever part notices.

If the supervisor cannot reach the storage either, only the supervisor logs the outage, not each of its workers.
"""

from __future__ import annotations

import threading

from huey.engine.scoreboard import REACHES, REPORTS, Scoreboard
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

SUPERVISOR_GRACE = 10.0
"""Seconds that a worker waits for its supervisor to find out."""


class Outage:
    """The parts of a process that cannot reach the storage now. May be used from any thread. *board*: shows the outage to the supervisor;
    None without one."""

    def __init__(self, clock: Clock, board: Scoreboard | None = None) -> None:
        self._clock = clock
        self._board = board
        self._is_logged = self._is_left_to_supervisor = False
        self._lock = threading.Lock()
        self._parts: set[str] = set()
        self._since: Micros = 0
        self._written = 0

    def is_on_besides(self, part: str) -> bool:
        """Return whether any part but *part* cannot reach the storage."""
        with self._lock:
            return bool(self._parts - {part})

    @property
    def is_on(self) -> bool:
        """True while a part cannot reach the storage."""
        return bool(self._parts)

    def begins(self, part: str, reason: object) -> None:
        """Record that *part* cannot reach the storage, and log it once."""
        with self._lock:
            if not self._parts:
                self._since, self._written = self._clock.monotonic(), 0
                self._is_logged = self._is_left_to_supervisor = False
                if self._board is not None:
                    self._board.set_outage(True)
            self._parts.add(part)
            is_news = not self._is_logged and self._must_log()
            self._is_logged = self._is_logged or is_news
        if is_news:
            log.error("storage unavailable; claiming stops until it is back, running tasks continue: %s", reason)

    def _must_log(self) -> bool:
        if self._board is None:
            return True
        supervisor = self._board.supervisor_state
        self._is_left_to_supervisor = self._is_left_to_supervisor or supervisor == REPORTS
        if self._is_left_to_supervisor:
            return False
        return supervisor == REACHES or self._clock.monotonic() - self._since > micros(SUPERVISOR_GRACE)

    def ends(self, part: str, written: int = 0) -> None:
        """Record that *part* reached the storage again and wrote *written* delayed finishes; log it when no other part is left."""
        with self._lock:
            if part not in self._parts:
                return
            self._parts.discard(part)
            self._written += written
            is_over = not self._parts
            if is_over and self._board is not None:
                self._board.set_outage(False)
        if is_over and self._is_logged:
            seconds = (self._clock.monotonic() - self._since) / SECOND
            log.info("storage is back after %.1f s%s", seconds, f": {self._written} finished tasks written" if self._written else "")
        elif is_over and self._written:
            log.info("wrote %d finished tasks that were waiting for the storage", self._written)
