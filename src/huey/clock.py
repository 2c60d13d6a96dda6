"""Time and chance, given from outside.

Nothing else in huey asks the machine for the time or for a random number: every part is handed a Clock and an Rng, so that a test can
turn both. Wall time is an integer: microseconds since 1970 in UTC (``Micros``). Durations are seconds, as float.
"""

from __future__ import annotations

import os
import random
import time
from itertools import count, islice
from typing import Protocol

Micros = int
"""A point in time: microseconds since 1970-01-01 00:00 UTC."""

SECOND: Micros = 1_000_000

FOREVER: Micros = 2**62
"""A time that never comes."""


def micros(seconds: float) -> Micros:
    """Seconds as microseconds, rounded to the nearest."""
    return round(seconds * SECOND)


class Clock(Protocol):
    """What a part may ask about time."""

    def now(self) -> Micros:
        """Wall time, microseconds UTC. May step back or ahead."""

    def monotonic(self) -> Micros:
        """Microseconds since the machine started, its sleep not counted. Never steps back; the same for all processes."""

    def sleep(self, seconds: float) -> None:
        """Wait that long."""


class Rng(Protocol):
    """What a part may ask of chance."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of k random bits."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Micros:
        return time.time_ns() // 1000

    def monotonic(self) -> Micros:
        return time.clock_gettime_ns(_MONOTONIC) // 1000

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


_MONOTONIC = time.CLOCK_MONOTONIC

system_clock = SystemClock()
system_rng: Rng = random.SystemRandom()


_process = object()
"""Another object in each process: a cheaper look than asking for the pid."""


def _new_process() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_new_process)


_FIRST = 1 << 44
"""From here on a number has twelve hex digits by itself."""


class Ids:
    """Makes task ids: 32 hex digits in order of time (48 bits ms, 32 bits of chance per process, 48 bits counter).

    The random part is drawn anew in a forked child, so two processes never share it.
    """

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._now = clock.now
        self._rng = rng
        self._process: object = None
        self._salt = ""
        self._numbers = count()

    def __call__(self) -> str:
        return self._head() + hex(next(self._numbers))[2:]

    def many(self, wanted: int) -> list[str]:
        """So many ids of this moment, in order."""
        head = self._head()
        return [head + hex(number)[2:] for number in islice(self._numbers, wanted)]

    def _head(self) -> str:
        if self._process is not _process:
            self._process = _process
            self._salt = f"{self._rng.getrandbits(32):08x}"
            self._numbers = count(_FIRST + self._rng.getrandbits(32))
        return f"{self._now() // 1000:012x}{self._salt}"
