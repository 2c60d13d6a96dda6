"""Signs of life of a worker's own threads, for whoever watches over them.

Each thread stamps its place on a board: "I go on, and I show that again by then". A thread whose time is over, and whose stamp stays the
same, stands still; one that waits for its next minute does not. The board is the page under a supervisor, else an object of this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Protocol

from huey.runtime.clock import Clock, Micros, micros

OWN_THREADS = ("main thread", "engine", "time limits", "scheduler", "heartbeat", "janitor")
"""The places of a board."""
MAIN, ENGINE, TIME_LIMITS, SCHEDULER, HEARTBEAT, JANITOR = range(len(OWN_THREADS))

LOOK = 1.0
"""Seconds between two looks at a board, and between two pulses."""
GAP = 3.0
"""Seconds between two looks that are too many: whoever looks stood still itself, so that it knows nothing."""
STILL = 3
"""Looks without a pulse: no Python runs there."""


class Board(Protocol):
    """Something to write stamps on."""

    def stamp(self, thread: int, until: Micros) -> None:
        """A thread goes on, and shows that again by then; 0: it is not there any more."""

    def stamps(self) -> Sequence[Micros]:
        """By thread: what it said last."""


class LocalBoard:
    """A board for the threads of one process."""

    def __init__(self) -> None:
        self._stamps = [0] * len(OWN_THREADS)

    def stamp(self, thread: int, until: Micros) -> None:
        self._stamps[thread] = until

    def stamps(self) -> Sequence[Micros]:
        return tuple(self._stamps)


class Stamp:
    """The place of one thread on a board."""

    def __init__(self, board: Board, thread: int, clock: Clock) -> None:
        self._board = board
        self._thread = thread
        self._clock = clock

    def show(self, within: float = 0.0) -> None:
        """It goes on, and is about to wait for up to *within* seconds."""
        self._board.stamp(self._thread, self._clock.monotonic() + micros(within))

    def leave(self) -> None:
        """It ends as it should."""
        self._board.stamp(self._thread, 0)


class Standstill:
    """Counts successive looks, one a second, at which a thread did not go on while Python ran. *seconds*: how many are too many; 0: any
    number is fine."""

    def __init__(self, seconds: float) -> None:
        self._limit = ceil(seconds / LOOK)
        self._last_look: Micros | None = None
        self._stamps: Sequence[Micros] = ()
        self._counts = [0] * len(OWN_THREADS)
        self._pulse = -1
        self.still = 0
        """Looks since the last pulse."""

    def forget(self) -> None:
        """What was seen says nothing: begin again."""
        self._last_look = None
        self._stamps = ()
        self._counts = [0] * len(OWN_THREADS)
        self.still = 0

    def look(self, now: Micros, stamps: Sequence[Micros], pulse: int | None = None) -> list[int]:
        """The threads that stand still, by this look. *pulse*: of another process; None: of this one, which runs."""
        if self._last_look is None or now - self._last_look > micros(GAP):
            self.forget()
        self.still = self.still + 1 if pulse is not None and pulse == self._pulse and self._last_look is not None else 0
        before, self._stamps, self._pulse, self._last_look = self._stamps, stamps, -1 if pulse is None else pulse, now
        if self.still >= STILL or len(before) != len(stamps):
            self._counts = [0] * len(OWN_THREADS)
            return []
        for thread, until in enumerate(stamps):
            stands = until and until == before[thread] and now > until
            self._counts[thread] = self._counts[thread] + 1 if stands else 0
        return [thread for thread, count in enumerate(self._counts) if self._limit and count >= self._limit]

    @property
    def is_counting(self) -> bool:
        """By the last look a thread may stand still."""
        return any(self._counts)

    @property
    def is_pulseless(self) -> bool:
        """No pulse for as many looks as are too many, by this look for the first time."""
        return bool(self._limit) and self.still == max(self._limit, STILL)
