"""Numbers for enqueues, by which the server knows one again that is sent twice since its answer was lost.

A producer sends one enqueue after the other, each with a higher number, and the server keeps the last number of each: what comes with that
or a lower one was done already, although its task may have ended meanwhile. So a producer must never have two enqueues under way over
different connections: each call, and each bulk call, has a producer to itself while it lasts.
"""

from __future__ import annotations

import os
from collections import deque

from huey.runtime.clock import Clock, Micros, Rng


class EnqueueSequence:
    """One sender. Its numbers only grow; they are times of its clock, so that the server can forget who has sent nothing for long."""

    def __init__(self, id: str, clock: Clock) -> None:
        self.id = id
        self._clock = clock
        self._last: Micros = 0

    def number(self) -> Micros:
        """That of its next enqueue."""
        self._last = max(self._last + 1, self._clock.now())
        return self._last


class EnqueueSequences:
    """Those of one storage, lent for one call each. A forked child has others than its parent."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._free: deque[EnqueueSequence] = deque()
        self._pid = os.getpid()

    def take(self) -> EnqueueSequence:
        """A producer that nobody else uses meanwhile."""
        if self._pid != os.getpid():
            self._free, self._pid = deque(), os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            return EnqueueSequence(f"{self._pid}-{self._rng.getrandbits(64):x}", self._clock)

    def give_back(self, sequence: EnqueueSequence) -> None:
        """Its last enqueue was done, or given up."""
        self._free.append(sequence)
