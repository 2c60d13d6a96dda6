"""The supervisor's watchdog, which replaces a worker whose own threads stall, unless the cause is outside of the worker.

Without it a stalled worker would keep its tasks forever, since the supervisor renews its lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Protocol

from huey.consumer.process_table import Child
from huey.engine.stamps import CHECK_INTERVAL, ENGINE, MAIN, OWN_THREADS, Standstill
from huey.runtime import host
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

REPLACEMENT_WINDOW_S = 60.0
"""Within this time each worker of a pool is replaced at most once."""
MAX_NAMED_TASKS = 5


class WatchedSupervisor(Protocol):
    """The part of the supervisor that the watchdog uses."""

    def replace(self, child: Child, at_once: bool) -> None:
        """Stop a worker: at once, or when its tasks have ended."""

    def reaches_storage(self, child: Child) -> bool:
        """Return True if the supervisor can write to the storage of the queue of *child*."""

    def worker_count(self, child: Child) -> int:
        """Return how many workers of the same queue and kind there should be."""

    def task_name(self, child: Child, id: str) -> str:
        """Return the name of a task that *child* runs."""


class Watchdog:
    """*seconds*: how long a thread may stall; 0: forever."""

    def __init__(self, supervisor: WatchedSupervisor, clock: Clock, seconds: float) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._seconds = seconds
        self._replaced: dict[tuple[str, str], list[Micros]] = {}

    def watch(self, child: Child) -> None:
        """Start to watch *child*."""
        child.standstill = Standstill(self._seconds)

    def check(self, children: Iterable[Child], is_away: bool) -> None:
        """Check all workers; call it every second. *is_away*: the supervisor itself cannot reach the storage, so workers are excused."""
        for child in children:
            child.scoreboard.count_check()
            if is_away or not child.scoreboard.is_ready or self._is_excused(child):
                child.standstill.forget()
                continue
            now = self._clock.monotonic()
            stalled = child.standstill.check(now, child.scoreboard.stamps(), child.scoreboard.pulse)
            if self._is_sleeping(child):
                child.standstill.forget()
                continue
            if child.is_stopping:
                # It stops its other threads one by one.
                stalled = [thread for thread in stalled if thread == ENGINE]
            if child.standstill.is_pulseless:
                self._log_gil(child)
            if stalled:
                self._replace_if_ours(child, stalled, now)

    def _replace_if_ours(self, child: Child, stalled: list[int], now: Micros) -> None:
        if not self._supervisor.reaches_storage(child):
            # The supervisor cannot write either: there is another cause, perhaps this worker's own write to a slow disk.
            child.standstill.forget()
        elif self._may_replace(child, now):
            self._log_stall(child, stalled)
            self._supervisor.replace(child, ENGINE in stalled or MAIN in stalled)

    def _is_excused(self, child: Child) -> bool:
        """Return True if a stall would not be the worker's own fault."""
        if child.scoreboard.is_at_disk or not any(child.scoreboard.stamps()):
            return True
        return host.is_stopped(child.pid) or host.is_traced(child.pid)

    def _is_sleeping(self, child: Child) -> bool:
        """Return True if a thread has been in uninterruptible sleep since the last check. A busy worker has one there now and then; that
        does not count."""
        before, child.sleepers = child.sleepers, host.sleepers(child.pid) if child.standstill.is_counting else set()
        return bool(before & child.sleepers)

    def _may_replace(self, child: Child, now: Micros) -> bool:
        before = self._replaced.setdefault((child.queue, child.worker.kind), [])
        before[:] = [at for at in before if now - at < micros(REPLACEMENT_WINDOW_S)]
        if len(before) >= max(1, self._supervisor.worker_count(child)):
            return False
        before.append(now)
        return True

    def _log_stall(self, child: Child, stalled: list[int]) -> None:
        log.critical(
            "worker %s (pid %d) has stalled: no response from its %s for %d s; replacing it, no task is to blame",
            *(child.worker.id, child.pid, ", ".join(OWN_THREADS[thread] for thread in stalled), ceil(self._seconds / CHECK_INTERVAL)),
        )

    def _log_gil(self, child: Child) -> None:
        running = child.scoreboard.running()[:MAX_NAMED_TASKS]
        names = ", ".join(f"{self._supervisor.task_name(child, task.id)} {task.id}" for task in running) or "none"
        log.warning(
            "worker %s (pid %d) has not run Python code for %d s: a task holds the GIL; leaving it alone. Running tasks: %s",
            *(child.worker.id, child.pid, child.standstill.still, names),
        )
