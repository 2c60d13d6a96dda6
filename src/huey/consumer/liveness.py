"""Whether the threads that serve a consumer go on: one that has ended is started again, one that stalls is reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import ceil

from huey.engine.outage import Outage
from huey.engine.stamps import CHECK_INTERVAL, OWN_THREADS, Board, Standstill
from huey.runtime import host
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

MAX_RESTARTS = 5
"""Checks within ``RESTART_WINDOW_S`` that may find ended threads; with more of them the process cannot be repaired."""
RESTART_WINDOW_S = 60.0
PULSE_STALL_CHECKS = 10
"""Checks without a new pulse, although Python runs, after which the pulse thread itself is taken for stalled."""


class ThreadsUnrecoverable(Exception):
    """Threads end faster than they can be started again."""


class ThreadRestarter:
    """Starts ended threads again. *revive*: functions that do so for one group of threads and return the names of those that had ended."""

    def __init__(self, clock: Clock, revive: Sequence[Callable[[], list[str]]]) -> None:
        self._clock = clock
        self._revive = revive
        self._restarts: list[Micros] = []

    def check(self) -> None:
        """Start ended threads again. ThreadsUnrecoverable: this process cannot go on."""
        names = [name for revive in self._revive for name in self._revived(revive)]
        if not names:
            return
        now = self._clock.monotonic()
        self._restarts = [*(at for at in self._restarts if now - at < micros(RESTART_WINDOW_S)), now]
        if len(self._restarts) > MAX_RESTARTS:
            raise ThreadsUnrecoverable(f"its threads keep ending, most recently {', '.join(names)}")
        log.critical("threads of this worker ended unexpectedly and were restarted: %s", ", ".join(names))

    def _revived(self, revive: Callable[[], list[str]]) -> list[str]:
        try:
            return revive()
        except RuntimeError as error:  # The system cannot start a thread.
            raise ThreadsUnrecoverable(f"a thread ended and cannot be restarted: {error}") from error


class StallCounter:
    """Counts successive checks of a number that should have grown. *seconds*: how long it may stay the same; 0: forever."""

    def __init__(self, seconds: float) -> None:
        self._limit = ceil(seconds / CHECK_INTERVAL)
        self._last: int | None = None
        self._count = 0

    def check(self, number: int) -> bool:
        """Return True, once, when *number* has stayed the same for too long."""
        self._count = self._count + 1 if number == self._last else 0
        self._last = number
        return bool(self._limit) and self._count == self._limit


class OwnWatchdog:
    """The watchdog of a consumer inside a program: there is no supervisor, and the program must live on.

    It checks, in a thread of its own, whether the others make progress. *seconds*: how long they may stall; 0: forever. *stop* is called
    once, with the reason.
    """

    def __init__(self, clock: Clock, seconds: float, board: Board, outage: Outage, stop: Callable[[str], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._board = board
        self._outage = outage
        self._stop = stop
        self._standstill = Standstill(seconds)
        self._syncs: set[int] = set()
        self._sleepers: set[tuple[str, str]] = set()
        self._has_stopped = False

    def check(self, restarter: ThreadRestarter) -> None:
        """Check once; call it every second. If this thread does not get to run, neither does Python or the machine: that is no stall."""
        if self._has_stopped:
            return
        try:
            restarter.check()
        except ThreadsUnrecoverable as error:
            self._has_stopped = True
            return self._stop(str(error))
        if self._is_excused():
            return self._standstill.forget()
        if stalled := self._standstill.check(self._clock.monotonic(), self._board.stamps()):
            self._has_stopped = True
            names = ", ".join(OWN_THREADS[thread] for thread in stalled)
            self._stop(f"no sign of life of its {names} for {self._seconds:g} s")

    def _is_excused(self) -> bool:
        """Return True if the storage is unavailable, the disk is slow, or a debugger holds the process."""
        before, self._syncs = self._syncs, host.syncs()
        me = os.getpid()
        asleep, self._sleepers = self._sleepers, host.sleepers(me) if self._standstill.is_counting else set()
        return bool(before & self._syncs or asleep & self._sleepers) or self._outage.is_on_besides("engine") or host.is_traced(me)
