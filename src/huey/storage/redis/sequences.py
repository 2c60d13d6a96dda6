"""Numbers for enqueues, by which the server recognizes one that is sent again because its reply was lost.

The enqueues of a sequence are sent one after another, with growing numbers, and the server keeps the last number of each sequence. An
enqueue with that or a lower number was executed before, even if its task has ended since. So a sequence must never have two enqueues in
flight on different connections: each call, and each bulk call, has a sequence to itself.
"""

from __future__ import annotations

import os
from collections import deque

from huey.runtime.clock import Clock, Micros, Rng


class EnqueueSequence:
    """A source of growing numbers. They are times of its clock, so the server can drop sequences that were not used for long."""

    def __init__(self, id: str, clock: Clock) -> None:
        self.id = id
        self._clock = clock
        self._last: Micros = 0

    def number(self) -> Micros:
        """Return the number of the next enqueue."""
        self._last = max(self._last + 1, self._clock.now())
        return self._last


class EnqueueSequences:
    """The sequences of one storage, each lent for one call. A forked child gets new ones."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._free: deque[EnqueueSequence] = deque()
        self._pid = os.getpid()

    def take(self) -> EnqueueSequence:
        """Return a sequence that is not in use."""
        if self._pid != os.getpid():
            self._free, self._pid = deque(), os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            return EnqueueSequence(f"{self._pid}-{self._rng.getrandbits(64):x}", self._clock)

    def release(self, sequence: EnqueueSequence) -> None:
        """Take back a sequence whose last enqueue is done or given up."""
        self._free.append(sequence)
