"""Liveness of a worker's own threads, for its watchdog.

Each thread stamps its slot of a board: "I am alive, and will stamp again by then". A thread whose time has passed while its stamp did not
change stands still; one that waits for its next minute does not. The board is the scoreboard under a supervisor, otherwise an object of
this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Protocol

from huey.runtime.clock import Clock, Micros, micros

OWN_THREADS = ("main thread", "engine", "time limits", "scheduler", "heartbeat", "janitor")
"""The slots of a board."""
MAIN, ENGINE, TIME_LIMITS, SCHEDULER, HEARTBEAT, JANITOR = range(len(OWN_THREADS))

CHECK_INTERVAL = 1.0
"""Seconds between two checks of a board, and between two pulses."""
GAP = 3.0
"""Seconds between two checks that are too many: the watchdog itself stood still, so it cannot judge."""
STILL = 3
"""Checks without a pulse that mean that no Python code runs there."""


class Board(Protocol):
    """Where threads stamp."""

    def stamp(self, thread: int, until: Micros) -> None:
        """A thread is alive and stamps again by *until*; 0: it has ended."""

    def stamps(self) -> Sequence[Micros]:
        """Return the last stamp of each thread."""


class LocalBoard:
    """A board for the threads of one process."""

    def __init__(self) -> None:
        self._stamps = [0] * len(OWN_THREADS)

    def stamp(self, thread: int, until: Micros) -> None:
        self._stamps[thread] = until

    def stamps(self) -> Sequence[Micros]:
        return tuple(self._stamps)


class Stamp:
    """The slot of one thread on a board."""

    def __init__(self, board: Board, thread: int, clock: Clock) -> None:
        self._board = board
        self._thread = thread
        self._clock = clock

    def show(self, within: float = 0.0) -> None:
        """The thread is alive, and is about to wait for up to *within* seconds."""
        self._board.stamp(self._thread, self._clock.monotonic() + micros(within))

    def leave(self) -> None:
        """The thread ends as it should."""
        self._board.stamp(self._thread, 0)


class Standstill:
    """Counts successive checks, one a second, at which a thread stood still while Python code ran. *seconds*: how many are too many; 0:
    none are."""

    def __init__(self, seconds: float) -> None:
        self._limit = ceil(seconds / CHECK_INTERVAL)
        self._last_check: Micros | None = None
        self._stamps: Sequence[Micros] = ()
        self._counts = [0] * len(OWN_THREADS)
        self._pulse = -1
        self.still = 0
        """Checks since the last pulse."""

    def forget(self) -> None:
        """Discard earlier checks."""
        self._last_check = None
        self._stamps = ()
        self._counts = [0] * len(OWN_THREADS)
        self.still = 0

    def check(self, now: Micros, stamps: Sequence[Micros], pulse: int | None = None) -> list[int]:
        """Return the threads that stand still. *pulse*: that of another process; None: this process, which runs."""
        if self._last_check is None or now - self._last_check > micros(GAP):
            self.forget()
        self.still = self.still + 1 if pulse is not None and pulse == self._pulse and self._last_check is not None else 0
        before, self._stamps, self._pulse, self._last_check = self._stamps, stamps, -1 if pulse is None else pulse, now
        if self.still >= STILL or len(before) != len(stamps):
            self._counts = [0] * len(OWN_THREADS)
            return []
        for thread, until in enumerate(stamps):
            stands = until and until == before[thread] and now > until
            self._counts[thread] = self._counts[thread] + 1 if stands else 0
        return [thread for thread, count in enumerate(self._counts) if self._limit and count >= self._limit]

    @property
    def is_counting(self) -> bool:
        """True if a thread may stand still, by the last check."""
        return any(self._counts)

    @property
    def is_pulseless(self) -> bool:
        """True at the first check after which there were too many without a pulse."""
        return bool(self._limit) and self.still == max(self._limit, STILL)
