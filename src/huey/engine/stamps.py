"""Liveness of a worker's own threads, for its watchdog.

Each thread stamps its slot of a board with the time by which it will stamp again. If that time passes without a new stamp, the thread is
stuck; one that waits for its next minute is not. The board is the scoreboard under a supervisor, otherwise an object of this process.
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
"""Seconds between checks of a board, and between pulses."""
GAP = 3.0
"""Seconds between two checks from which on the watchdog itself was stuck, so that it cannot judge."""
STILL = 3
"""How many checks without a pulse mean that no Python code runs in the worker."""


class Board(Protocol):
    """The board on which threads stamp."""

    def stamp(self, thread: int, until: Micros) -> None:
        """Record that a thread is alive and will stamp again by *until*; 0: it has ended."""

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
        """Record that the thread is alive and will stamp again within *within* seconds."""
        self._board.stamp(self._thread, self._clock.monotonic() + micros(within))

    def leave(self) -> None:
        """Record that the thread has ended normally."""
        self._board.stamp(self._thread, 0)


class Standstill:
    """Counts successive checks, one per second, at which a thread was stuck while Python code ran. *seconds*: how many are too many; 0: no
    limit."""

    def __init__(self, seconds: float) -> None:
        self._limit = ceil(seconds / CHECK_INTERVAL)
        self._last_check: Micros | None = None
        self._stamps: Sequence[Micros] = ()
        self._counts = [0] * len(OWN_THREADS)
        self._pulse = -1
        self.still = 0
        """The number of checks since the last pulse."""

    def forget(self) -> None:
        """Discard earlier checks."""
        self._last_check = None
        self._stamps = ()
        self._counts = [0] * len(OWN_THREADS)
        self.still = 0

    def check(self, now: Micros, stamps: Sequence[Micros], pulse: int | None = None) -> list[int]:
        """Return the threads that have been stuck for too long. *pulse*: that of another process; None for this process."""
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
        """True if a thread may be stuck, according to the last check."""
        return any(self._counts)

    @property
    def is_pulseless(self) -> bool:
        """True at the check at which the number of checks without a pulse becomes too large."""
        return bool(self._limit) and self.still == max(self._limit, STILL)
