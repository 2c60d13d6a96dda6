"""A worker pool: a supervisor's workers for one queue, with the janitor, the recovery and the quarantine workers of that queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from huey.client.build import build_executor
from huey.consumer.janitor import Janitor
from huey.consumer.process_table import Child, make_worker
from huey.consumer.recovery import Recovery
from huey.runtime.clock import Micros, micros

if TYPE_CHECKING:
    from huey.api import Huey

IDLE_TIMEOUT_S = 2.0
"""How long a quarantine worker stays without a suspect."""


MAX_QUARANTINE_WORKERS = 16
"""Most quarantine workers for tasks that ran in an event loop: there may be thousands, and each needs a process."""


class WorkerPool:
    """The workers of one queue. *workers*: how many of its tasks run at the same time."""

    def __init__(self, huey: Huey, worker_type: str, workers: int) -> None:
        self.huey = huey
        self.workers = workers
        self.processes, self.runners = (workers, 1) if worker_type == "process" else (1, workers)
        """Number of worker processes, and of runners in each."""
        self.quarantine_workers = min(workers, MAX_QUARANTINE_WORKERS) if worker_type == "async" else workers
        """Most quarantine workers at the same time."""
        # A worker of this queue, since it holds reclaimed tasks there.
        me = make_worker(f"{huey.rng.getrandbits(128):032x}", "supervisor")
        execution = build_executor(huey.client.context, huey.client.overrides)
        self.janitor = Janitor(huey.storage, me, huey.clock, execution.finalize, execution.declared)
        self.recovery = Recovery(huey.storage, me, huey.clock, execution.finalize, execution.may_retry, execution.declared)


class Quarantine:
    """Starts workers that run suspects, each alone in its process, and stops them when no suspects are left.

    *children* returns the current workers. *start* starts a quarantine worker for a queue and returns False if it cannot.
    """

    def __init__(self, pools: Mapping[str, WorkerPool], children: Callable[[], Sequence[Child]], start: Callable[[str], bool]) -> None:
        self._pools = pools
        self._children = children
        self._start = start

    def run_once(self, now: Micros) -> None:
        """Start the quarantine workers that are needed, and stop those that have been idle."""
        for queue, pool in self._pools.items():
            self._adjust(queue, pool, now)

    def _adjust(self, queue: str, pool: WorkerPool, now: Micros) -> None:
        there = [it for it in self._children() if it.worker.kind == "quarantine" and it.queue == queue and not it.is_stopping]
        suspects = len(pool.huey.storage.find("suspect", limit=pool.quarantine_workers))
        busy = sum(bool(child.scoreboard.running()) for child in there)
        for _ in range(min(suspects + busy, pool.quarantine_workers) - len(there)):
            if not self._start(queue):
                break
        for child in there:
            if suspects or child.scoreboard.running():
                child.idle_since = None
            elif child.idle_since is None:
                child.idle_since = now
            elif now - child.idle_since > micros(IDLE_TIMEOUT_S):
                child.request_stop()
