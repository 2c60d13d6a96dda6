"""Clocks and random numbers, passed in from outside.

Nothing else in huey asks the machine for the time or a random number: every part is given a Clock and an Rng, so tests control both. Wall
time is an integer: microseconds since 1970 in UTC (``Micros``). Durations are seconds, as float.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Protocol

Micros = int
"""A point in time: microseconds since 1970-01-01 00:00 UTC."""

SECOND: Micros = 1_000_000

FOREVER: Micros = 2**62
"""A time that never comes."""


def micros(seconds: float) -> Micros:
    """Return *seconds* as microseconds, rounded to the nearest."""
    return round(seconds * SECOND)


class Clock(Protocol):
    """The clocks that a part may read."""

    def now(self) -> Micros:
        """Return the wall time in microseconds UTC. It may jump back or ahead."""

    def monotonic(self) -> Micros:
        """Return the microseconds since the machine started, not counting suspension. Never steps back; the same for all processes."""

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*."""


class Rng(Protocol):
    """The random numbers that a part may draw."""

    def random(self) -> float:
        """Return a number in [0, 1)."""

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of k random bits."""


class SystemClock:
    """The clocks of this machine."""

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
"""A different object in each process: comparing it is cheaper than asking for the pid."""


def _new_process() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_new_process)


_DRAWN = 512
"""Steps that are drawn at a time; drawing them one by one would cost a system call each."""
_STEP = 56
"""Bits of a step."""
_FIRST = 1 << 79
"""From here on a number has twenty hex digits without padding."""


class Ids:
    """A generator of task ids: 32 hex digits, made of 48 bits of milliseconds and 78 random bits.

    Ids of one process and millisecond are in order, so that tasks enqueued together keep theirs: each is the previous one plus a step of 56
    random bits. An id does not help to guess another. A forked child draws new numbers.
    """

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._now = clock.now
        self._rng = rng
        self._process: object = None
        self._moment, self._head = -1, ""
        self._steps: Iterator[int] = iter(())
        self._numbers: Iterator[int] = iter(())
        """The numbers of this millisecond. An iterator implemented in C gives each number to one thread only."""
        self._last = 0

    def __call__(self) -> str:
        moment = self._now() // 1000
        if moment != self._moment or self._process is not _process:
            self._begin(moment)
        try:
            self._last = number = next(self._numbers)
        except StopIteration:
            self._go_on()
            return self()
        return self._head + hex(number)[2:]

    def many(self, wanted: int) -> list[str]:
        """Return *wanted* ids of this millisecond, in order."""
        moment = self._now() // 1000
        if moment != self._moment or self._process is not _process:
            self._begin(moment)
        head, numbers = self._head, list(islice(self._numbers, wanted))
        while len(numbers) < wanted:
            self._last = numbers[-1] if numbers else self._last
            self._go_on()
            numbers += islice(self._numbers, wanted - len(numbers))
        self._last = numbers[-1] if numbers else self._last
        return [head + hex(number)[2:] for number in numbers]

    def _begin(self, moment: int) -> None:
        if self._process is not _process:
            self._process, self._steps = _process, iter(())
        first, second = next(self._steps, 0), next(self._steps, 0)
        if not second:
            self._steps = self._drawn()
            first, second = next(self._steps), next(self._steps)
        self._moment, self._head = moment, f"{moment:012x}"
        self._numbers = accumulate(self._steps, initial=_FIRST | first << 22 | second >> 34)

    def _go_on(self) -> None:
        """Draw more steps within the same millisecond."""
        if self._last + (_DRAWN << _STEP) >> 80:
            self._begin(self._moment)
            return
        self._steps = self._drawn()
        self._numbers = accumulate(self._steps, initial=self._last + next(self._steps))

    def _drawn(self) -> Iterator[int]:
        numbers = memoryview(self._rng.getrandbits(64 * _DRAWN).to_bytes(8 * _DRAWN, "little")).cast("Q")
        return iter([number >> 64 - _STEP for number in numbers])
