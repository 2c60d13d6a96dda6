"""Suspects that one worker holds: tasks whose worker died while they ran. Each runs alone, so that it can take no other task with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from huey.runtime.clock import Clock, Micros, micros
from huey.task.record import Lease

LONGEST_SUSPECT_WAIT = 1.0
"""Seconds that a suspect waits for the other tasks of its worker to end; then it runs beside them."""
ALONE = 10.0
"""Seconds that a suspect has a worker for itself; then others may start beside it."""

Run = tuple[str, int]
"""Id and token of a lease."""


class Suspects:
    """Those that wait to run, and the one that runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: Micros = 0
        self._alone: Run = ("", 0)
        self._alone_since: Micros = 0
        self.waiting: list[Lease] = []

    def add(self, leases: Sequence[Lease]) -> None:
        """Let *leases* wait until they may run."""
        self.waiting += leases
        self._since = self._clock.monotonic()

    def may_start(self, running: Collection[Run]) -> bool:
        """Return whether one may start: nothing else is *running*, or what is has kept it waiting for too long."""
        if not self.waiting:
            return False
        return not running or self._clock.monotonic() - self._since > micros(LONGEST_SUSPECT_WAIT)

    def runs_alone(self, running: Collection[Run]) -> bool:
        """Return whether one is among what is *running*, and has not yet had its time alone."""
        return self._alone in running and self._clock.monotonic() - self._alone_since < micros(ALONE)

    def start_one(self) -> Lease:
        """Take the first; it runs alone from now on. Only while some wait."""
        lease = self.waiting.pop(0)
        self._alone, self._alone_since = lease[:2], self._clock.monotonic()
        return lease

    def take_all(self) -> list[Lease]:
        """Take those that wait, to give them back."""
        taken, self.waiting = self.waiting, []
        return taken
