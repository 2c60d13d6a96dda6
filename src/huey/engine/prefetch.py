"""What a worker claims and starts: how many tasks it holds, suspects one at a time, and tasks that no worker could run so far."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from huey.exceptions import StorageError
from huey.runtime.clock import Clock, Micros, micros
from huey.storage.base import LARGEST_TURN, Storage
from huey.storage.rows import Missing, Worker
from huey.task.lifecycle import UNKNOWN_DELAY
from huey.task.record import Lease

MOST_HELD = 3 * LARGEST_TURN
"""Maximum number of tasks held: the runners work on those of one turn while the next one is written and claimed."""
PREFETCH_TIME = 0.05
"""Seconds of work, if earlier runs were short, that may be claimed beyond what can start now."""
SHORT = 100e-6
"""Seconds below which waking a second thread for a task costs more than it gains."""


class Prefetch:
    """How many tasks a worker may hold: those its runners can start now, and up to ``PREFETCH_TIME`` seconds of work proven short.

    Learned from how long tasks take and how much they weigh. *runners*: tasks that can run at a time.
    """

    __slots__ = ("_mean", "_runners", "batch_limit", "limit", "low_water")

    def __init__(self, runners: int) -> None:
        self._runners = runners
        self._mean: float | None = None
        self.limit = runners
        """The number of tasks that may be held."""
        self.low_water = 0
        """The number of waiting tasks at which the next turn should start, so that the runners always have work."""
        self.batch_limit = LARGEST_TURN
        """The number of tasks that one turn may claim: fewer while tasks are large."""

    @property
    def is_short(self) -> bool:
        """True if tasks are so short that one thread runs them faster than it can wake another thread."""
        return self._mean is not None and self._mean < SHORT

    @property
    def refill_at(self) -> int:
        """The number of waiting tasks at which more are claimed; 0 while tasks are large, because one turn then fills the memory limit."""
        return 0 if self.batch_limit < LARGEST_TURN else self.low_water

    def capacity(self, held: int) -> int:
        """Return how many tasks to claim while *held* tasks wait or run."""
        return min(self.batch_limit, self.limit - held)

    def observe(self, durations: Sequence[float]) -> None:
        """Adapt the limit to runs that took *durations* seconds. It at most doubles per call, but falls at once."""
        mean = sum(durations) / len(durations)
        self._mean = mean if self._mean is None else max(mean, (self._mean + mean) / 2)
        count = self._runners
        allowed = count + int(PREFETCH_TIME / max(self._mean, 1e-6)) * count
        self.limit = max(count, min(allowed, 2 * self.limit, MOST_HELD))
        self.low_water = (self.limit - count) // 2

    def observe_claim(self, claimed: int, hit_byte_limit: bool) -> None:
        """Adapt the batch limit after a turn. If the size of the tasks cut the turn short, set it to the number *claimed*; if a turn was
        full below the usual limit, raise it a little."""
        if hit_byte_limit:
            self.batch_limit = max(1, claimed)
        elif claimed == self.batch_limit < LARGEST_TURN:
            self.batch_limit = min(LARGEST_TURN, self.batch_limit + 1 + self.batch_limit // 8)

    def reset(self) -> None:
        """Claim no more than can start now, until runs turn out to be short again."""
        self.limit, self.low_water = self._runners, 0


LONGEST_SUSPECT_WAIT = 1.0
"""Seconds that a suspect waits for the other tasks of its worker to end; after that it runs beside them."""
ALONE = 10.0
"""Seconds that a suspect has a worker to itself; after that other tasks may start beside it."""

Run = tuple[str, int]
"""Id and token of a lease."""


class Suspects:
    """Tasks whose worker died while they ran: each runs alone, so that it can take no other task with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: Micros = 0
        self._alone: Run = ("", 0)
        self._alone_since: Micros = 0
        self.waiting: list[Lease] = []

    def add(self, leases: Sequence[Lease]) -> None:
        """Add *leases* to the suspects that wait."""
        self.waiting += leases
        self._since = self._clock.monotonic()

    def may_start(self, running: Collection[Run]) -> bool:
        """Return whether a suspect may start: nothing is *running*, or the running tasks have kept it waiting for too long."""
        if not self.waiting:
            return False
        return not running or self._clock.monotonic() - self._since > micros(LONGEST_SUSPECT_WAIT)

    def runs_alone(self, running: Collection[Run]) -> bool:
        """Return whether a suspect is among the *running* tasks and has not used up its time alone."""
        return self._alone in running and self._clock.monotonic() - self._alone_since < micros(ALONE)

    def start_one(self) -> Lease:
        """Take the first waiting suspect, which runs alone from now on. Call it only if one waits."""
        lease = self.waiting.pop(0)
        self._alone, self._alone_since = lease[:2], self._clock.monotonic()
        return lease

    def take_all(self, *, but: int = 0) -> list[Lease]:
        """Take all waiting suspects *but* the first ones, to release them."""
        taken, self.waiting = self.waiting[but:], self.waiting[:but]
        return taken


MOST = 32
"""Maximum number of tasks that one search claims; if it finds this many, the next search starts at once."""
KINDS = 500
"""Maximum number of names that one search asks for."""


class Search:
    """Find tasks that no worker could run so far but this one can: at its start, and every few seconds. The search of one worker.
    *can_run*: returns whether tasks that wait for a function or class can be run here."""

    def __init__(self, storage: Storage, worker: Worker, clock: Clock, can_run: Callable[[Missing], bool]) -> None:
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self._can_run = can_run
        self._next: Micros = 0

    def claim_due(self, capacity: Callable[[], int], start: Callable[[Sequence[Lease]], None], failed: Callable[[object], None]) -> bool:
        """Search if it is due, and start tasks up to *capacity*. Return False during an outage, after calling *failed*."""
        if self._clock.monotonic() < self._next or (want := capacity()) <= 0:
            return True
        try:
            start(self._claim(want))
        except StorageError as error:
            failed(error)
            return False
        return True

    def _claim(self, capacity: int) -> list[Lease]:
        self._next = self._clock.monotonic() + micros(UNKNOWN_DELAY)
        mine = [missing for missing in self._storage.missing() if self._can_run(missing)][:KINDS]
        if not mine:
            return []
        want = min(capacity, MOST)
        leases = self._storage.claim_missing(self._worker, mine, want)
        if len(leases) == want:
            self._next = 0
        return leases
