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
"""Tasks held at most: the runners work on those of one turn while the next one is written and claimed."""
PREFETCH_TIME = 0.05
"""Seconds of work, proven short, that may be claimed beyond what can start now."""
SHORT = 100e-6
"""Seconds. Waking a second thread for tasks shorter than this costs more than it gains."""


class Prefetch:
    """How many tasks a worker may hold: those its runners can start now, and up to ``PREFETCH_TIME`` seconds of work proven short.

    Learned from how long tasks take and how much they weigh. *runners*: tasks that can run at a time.
    """

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


LONGEST_SUSPECT_WAIT = 1.0
"""Seconds that a suspect waits for the other tasks of its worker to end; then it runs beside them."""
ALONE = 10.0
"""Seconds that a suspect has a worker for itself; then others may start beside it."""

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
        """Let *leases* wait until they may run."""
        self.waiting += leases
        self._since = self._clock.monotonic()

    def may_start(self, running: Collection[Run]) -> bool:
        """Return whether one may start: nothing else is *running*, or what is has kept it waiting for too long."""
        if not self.waiting:
            return False
        return not running or self._clock.monotonic() - self._since > micros(LONGEST_SUSPECT_WAIT)

    def runs_alone(self, running: Collection[Run]) -> bool:
        """Return whether one is among what is *running*, and has not yet had its time alone."""
        return self._alone in running and self._clock.monotonic() - self._alone_since < micros(ALONE)

    def start_one(self) -> Lease:
        """Take the first; it runs alone from now on. Only while some wait."""
        lease = self.waiting.pop(0)
        self._alone, self._alone_since = lease[:2], self._clock.monotonic()
        return lease

    def take_all(self) -> list[Lease]:
        """Take those that wait, to give them back."""
        taken, self.waiting = self.waiting, []
        return taken


MOST = 32
"""Tasks that one search claims at most; if it finds as many, the next search starts at once."""
KINDS = 500
"""Names that one search asks for at most."""


class Search:
    """Finds tasks that no worker could run so far and that this one can: at its start, and every few seconds. *can_run*: returns whether
    tasks that wait for something can be run here."""

    def __init__(self, storage: Storage, worker: Worker, clock: Clock, can_run: Callable[[Missing], bool]) -> None:
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self._can_run = can_run
        self._next: Micros = 0

    def claim_due(self, capacity: Callable[[], int], start: Callable[[Sequence[Lease]], None], failed: Callable[[object], None]) -> bool:
        """If a search is due, start as many tasks as there is *capacity* for. Return False during an outage, after calling *failed*."""
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
