"""Take over the tasks of dead workers, and prune rows past their retention time. Any live consumer can do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huey.consumer.recovery import take_over
from huey.runtime import host
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.display import counted
from huey.runtime.host import LOCAL_WORKER_IDS
from huey.runtime.logs import SafeLogger
from huey.storage.base import LEASE, Storage
from huey.storage.flow_keeping import keep_members
from huey.storage.rows import Worker, WorkerRow
from huey.task.lifecycle import Finish, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")

JANITOR_INTERVAL_S = 1.0
PRUNE_INTERVAL_S = 60.0
PRUNE_BATCH = 500
"""A prune is complete when it removes fewer rows than this."""
MAX_OBSERVATION_GAP = 5 * SECOND
"""Longest time between two observations of the same lease that count as continuous."""
MISSING_TTL = 60 * SECOND
"""How long a worker whose process was missing is remembered; a live one renews its lease in less."""


class Janitor:
    """Watches the other workers of a queue. *settle* adds the error that callers get to a final finish; *declared* returns a lease with the
    constraints that were signed.

    The janitor holds reclaimed tasks as a worker of its own, one for each kind of dead worker, and always asks the storage which ones they
    are: a takeover that was interrupted by an error, a lost reply or its own death is completed by the next round, here or elsewhere.
    """

    def __init__(
        self,
        storage: Storage,
        worker: Worker,
        clock: Clock,
        settle: Callable[[Finish], Finish],
        declared: Callable[[Lease], Lease] = lambda lease: lease,
    ) -> None:
        self._storage = storage
        self._worker = worker
        self._successors: dict[str, Worker] = {}
        self._clock = clock
        self._settle = settle
        self._declared = declared
        self._next_prune: Micros = 0
        self._lease_observer = LeaseObserver(clock)
        self._missing: dict[str, tuple[Micros | None, Micros]] = {}
        """Workers whose process was not found here: the end of the lease at that time (None: it was renewed since), and that time."""

    def enter(self) -> None:
        """Record that this worker lives in this process."""
        LOCAL_WORKER_IDS.add(self._worker.id)

    def leave(self) -> None:
        """Undo `enter`."""
        LOCAL_WORKER_IDS.difference_update((self._worker.id, *self._successors))

    def run_once(self) -> float | None:
        """Take over from dead workers; prune once a minute. Return None, so that the next round follows after the usual interval."""
        for row in self._lease_observer.observe(self._storage.workers()):
            if row.worker.id in self._successors:
                self._finish_reclaimed(row.worker)
            elif row.worker.id != self._worker.id and self._is_dead(row):
                self._take_over(row)
        if self._clock.monotonic() >= self._next_prune:
            self._prune()
            self._next_prune = self._clock.monotonic() + micros(PRUNE_INTERVAL_S)
        return None

    def _prune(self) -> None:
        while True:
            keep_members(self._storage, self._clock.now())
            if self._storage.prune() < PRUNE_BATCH:
                return

    def _is_dead(self, row: WorkerRow) -> bool:
        """Return whether a worker is dead. One that renews its lease although its process is missing here lives on another machine."""
        id, now = row.worker.id, self._clock.monotonic()
        before, _ = self._missing.get(id, (row.until, now))
        if before != row.until:
            self._missing[id] = None, now
            return row.is_expired
        if not is_dead(row, self._worker):
            return False
        if not row.is_expired:
            self._missing = {old: seen for old, seen in self._missing.items() if now - seen[1] < MISSING_TTL} | {id: (row.until, now)}
        return True

    def _take_over(self, dead: WorkerRow) -> None:
        successor = self._successor_for(dead.worker)
        count = len(self._storage.reclaim(dead, successor))
        if dead.worker.id in self._missing:
            # It is no longer registered. If it registers again, even with the same end of its lease, it is alive.
            self._missing[dead.worker.id] = None, self._clock.monotonic()
        if count:
            who = dead.worker
            log.warning("worker %s (pid %d on %s) died; requeueing %s", who.id, who.pid, who.host, counted(count, "task"))
        self._finish_reclaimed(successor)

    def _successor_for(self, dead: Worker) -> Worker:
        """Return the worker that takes over the tasks of *dead*. It has the same kind, so that a takeover from it decides the same way."""
        successor = self._worker._replace(id=f"{self._worker.id}-{dead.kind}", kind=dead.kind)
        self._successors[successor.id] = successor
        LOCAL_WORKER_IDS.add(successor.id)
        return successor

    def _finish_reclaimed(self, successor: Worker) -> None:
        # A supervised worker that is found here died together with its supervisor: the whole group was killed, no task is to blame.
        died = WorkerDied(is_suspect=successor.kind == "solo")
        now = self._clock.now()

        def judge(lease: Lease) -> Finish:
            finish = decide(self._declared(lease), died, now)
            return self._settle(finish) if finish.error else finish

        take_over(self._storage, successor, judge)


class LeaseObserver:
    """Decides which leases have expired, by the clock of this process alone, so that no two clocks are compared and none has to be right.

    A lease has expired when the same end of it was observed for as long as a lease lasts. After a gap between observations the count starts
    again: while this process was suspended or the storage unavailable, the other worker may have been unable to renew, too.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[Micros, Micros]] = {}
        self._last: Micros = 0

    def observe(self, rows: Sequence[WorkerRow]) -> list[WorkerRow]:
        """Return *rows*, all workers that the storage has now, with ``is_expired`` as observed here."""
        now = self._clock.monotonic()
        before = self._seen if now - self._last <= MAX_OBSERVATION_GAP else {}
        self._last, self._seen = now, {}
        for row in rows:
            until, since = before.get(row.worker.id, (row.until, now))
            self._seen[row.worker.id] = row.until, since if until == row.until else now
        return [row._replace(is_expired=row.is_gone or now - self._seen[row.worker.id][1] >= LEASE) for row in rows]


def is_dead(row: WorkerRow, me: Worker) -> bool:
    """Return whether a worker is dead.

    On this machine the kernel knows: a live process keeps its tasks even if it is silent for long, unless it is suspended. Elsewhere the
    lease decides (``row.is_expired``). A supervised worker is dead only if its supervisor is dead too, because a live supervisor recovers
    its children itself.
    """
    other = row.worker
    if (other.host_scope, other.host) != (me.host_scope, me.host):
        return row.is_expired
    processes = [(other.pid, other.start_time)]
    if other.supervisor:
        pid, _, start_time = other.supervisor.partition(":")
        processes.append((int(pid), int(start_time)))
    if other.id not in LOCAL_WORKER_IDS:
        # A worker of this process, or of the program it ran before it replaced itself: exec keeps pid and start time.
        processes = [process for process in processes if process != (me.pid, me.start_time)]
    return all(_is_gone(pid, start_time, row) for pid, start_time in processes)


def _is_gone(pid: int, start_time: int, row: WorkerRow) -> bool:
    is_alive = host.is_alive(pid, start_time)
    if is_alive is None:
        return row.is_expired
    return not is_alive or (row.is_expired and host.is_stopped(pid))
