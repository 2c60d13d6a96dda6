"""How many tasks a worker may hold: those its runners can start now, and up to ``PREFETCH_TIME`` seconds of work proven short. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from huey.storage.base import LARGEST_TURN

MOST_HELD = 3 * LARGEST_TURN
"""Tasks held at most: the runners work on those of one turn while the next one is written and claimed."""
PREFETCH_TIME = 0.05
"""Seconds of work, proven short, that may be claimed beyond what can start now."""
SHORT = 100e-6
"""Seconds. Waking a second thread for tasks shorter than this costs more than it gains."""


class Prefetch:
    """The limits on what is claimed, learned from how long tasks take and how much they weigh. *runners*: tasks that can run at a time."""

    __slots__ = ("_mean", "_runners", "batch_limit", "limit", "low_water")

    def __init__(self, runners: int) -> None:
        self._runners = runners
        self._mean: float | None = None
        self.limit = runners
        """Tasks that may be held."""
        self.low_water = 0
        """Waiting tasks at which the next turn should start, so that the runners never run dry."""
        self.batch_limit = LARGEST_TURN
        """Tasks that one turn may ask for: fewer while they are heavy."""

    @property
    def is_short(self) -> bool:
        """True if tasks take so little time that one thread gets through them faster than it wakes another."""
        return self._mean is not None and self._mean < SHORT

    @property
    def refill_at(self) -> int:
        """Waiting tasks at which more are claimed. 0 while tasks are heavy: those of one turn fill the memory that they may take."""
        return 0 if self.batch_limit < LARGEST_TURN else self.low_water

    def capacity(self, held: int) -> int:
        """Return how many tasks to claim while *held* tasks wait or run."""
        return min(self.batch_limit, self.limit - held)

    def observe(self, durations: Sequence[float]) -> None:
        """Learn from runs that took *durations* seconds. The limit at most doubles, and falls at once."""
        mean = sum(durations) / len(durations)
        self._mean = mean if self._mean is None else max(mean, (self._mean + mean) / 2)
        count = self._runners
        allowed = count + int(PREFETCH_TIME / max(self._mean, 1e-6)) * count
        self.limit = max(count, min(allowed, 2 * self.limit, MOST_HELD))
        self.low_water = (self.limit - count) // 2

    def observe_claim(self, claimed: int, hit_byte_limit: bool) -> None:
        """Adapt the batch limit after a turn. One that was cut off by the size of its tasks sets it to what it *claimed*; a full one below
        the usual limit raises it a little."""
        if hit_byte_limit:
            self.batch_limit = max(1, claimed)
        elif claimed == self.batch_limit < LARGEST_TURN:
            self.batch_limit = min(LARGEST_TURN, self.batch_limit + 1 + self.batch_limit // 8)

    def reset(self) -> None:
        """Claim no more than can start now, until runs prove short again."""
        self.limit, self.low_water = self._runners, 0
