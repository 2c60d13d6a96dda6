"""A clock that stands still until a test turns it."""

from __future__ import annotations

import threading
import time

from huey.runtime.clock import Micros, micros

NOON: Micros = 1_750_075_200_000_000
"""2025-06-16 12:00 UTC, a Monday."""


class FakeClock:
    """Wall time and monotonic time, moved by hand. Serves wherever a ``huey.runtime.clock.Clock`` is asked for, from any thread."""

    def __init__(self, now: Micros = NOON, monotonic: Micros = 1_000_000_000) -> None:
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def now(self) -> Micros:
        return self._now

    def monotonic(self) -> Micros:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Take hardly any time, but let it pass. Who waits for another thread leaves it a chance."""
        time.sleep(min(seconds, 0.001))
        self.forward(seconds)

    def forward(self, seconds: float) -> None:
        """Let *seconds* pass, on both clocks."""
        with self._lock:
            self._now += micros(seconds)
            self._monotonic += micros(seconds)

    def set(self, now: Micros) -> None:
        """Set the wall clock, ahead or back, as an operator does. The monotonic clock goes on as before."""
        with self._lock:
            self._now = now
