"""Kills workers whose task passed its time limit, or was revoked, and did not end when asked; the other tasks in such a process get time to
end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from huey.consumer.process_table import Child
from huey.consumer.recovery import ExitCause
from huey.engine.scoreboard import RunningTask
from huey.engine.stamps import STILL
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger
from huey.storage.base import Storage
from huey.task.lifecycle import State

log = SafeLogger("huey.consumer")

REVOKED_GRACE_S = 0.5
"""How long a revoked task may take to end after it was asked to."""
NEIGHBOUR_GRACE_S = 30.0
"""Longest time that the other tasks of a process get to end before it is killed."""


class ProcessTree(Protocol):
    """The part of the supervisor that the enforcer uses."""

    def all(self) -> list[Child]:
        """Return all workers."""

    def storage_of(self, child: Child) -> Storage:
        """Return the storage of the queue of *child*."""

    def try_storage(self, part: str, act: Callable[[], object]) -> bool:
        """Call *act*; return False if the storage is unavailable."""


class Enforcer:
    """Enforces time limits and revocations on the workers of a supervisor. *shutdown_timeout* None: no limit."""

    def __init__(self, supervisor: ProcessTree, clock: Clock, shutdown_timeout: float | None) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._neighbour_grace = min(shutdown_timeout or NEIGHBOUR_GRACE_S, NEIGHBOUR_GRACE_S)

    # -- time limits --------------------------------------------------------------------------------------------------------------------

    def enforce_time_limits(self, now: Micros) -> None:
        """Stop workers in which a task passed its limit and did not end when asked or within its grace period."""
        for child in self._supervisor.all():
            late = child.scoreboard.overdue(now)
            if not late:
                continue
            if _is_late(child):
                self._shorten_deadline(child, now, len(late))
            elif child.is_stopping or child.scoreboard.count == 1 or not self._peer_is_stopping(child):
                self._stop_late(child, now, late[0])

    def _peer_is_stopping(self, child: Child) -> bool:
        """Return whether another worker of the queue is being stopped for a late task. Then *child* has to wait, so that its pool does not
        stop as a whole."""
        return any(_is_late(other) and other.queue == child.queue for other in self._supervisor.all() if other is not child)

    def _stop_late(self, child: Child, now: Micros, task: RunningTask) -> None:
        log.warning("task %s passed its time limit and did not end when asked; killing its worker", task.id)
        # It claims nothing more, and its replacement starts at once. The other tasks in the process get time to end.
        child.request_stop()
        child.kill_by(now + micros(self._neighbour_grace if child.scoreboard.count > 1 else 0), ExitCause.LATE)
        self._shorten_deadline(child, now, 1)

    def _shorten_deadline(self, child: Child, now: Micros, late: int) -> None:
        """Kill *child* now if all tasks that it holds are late, or if nothing in it makes progress."""
        board = child.scoreboard
        if child.deadline and (board.held == late or child.standstill.still >= STILL or board.is_loop_held(now)):
            child.kill_by(now, ExitCause.LATE)

    # -- revocations --------------------------------------------------------------------------------------------------------------------

    def enforce_revocations(self, now: Micros) -> None:
        """Kill workers whose only task was revoked and did not end when asked. (Tasks in threads are only asked.)"""
        for child in self._supervisor.all():
            asked = [task for task in child.scoreboard.running() if task.is_asked] if child.scoreboard.count == 1 else []
            if not asked:
                child.asked_since = None
            elif child.asked_since is None:
                child.asked_since = now
            elif now - child.asked_since > micros(REVOKED_GRACE_S) and child.cause is not ExitCause.REVOKED:
                child.asked_since = now
                self._supervisor.try_storage("revoked", lambda child=child, task=asked[0]: self._kill_revoked(child, task))  # type: ignore[misc]

    def _kill_revoked(self, child: Child, task: RunningTask) -> None:
        # The scoreboard may be slightly behind; the storage is authoritative.
        row = self._supervisor.storage_of(child).get(task.id)
        if row is None or row.token != task.token or row.state != State.RUNNING or (row.revoked_until or 0) <= self._clock.now():
            child.asked_since = None
            return
        log.warning("task %s was revoked and did not end when asked; killing its worker", task.id)
        child.kill(ExitCause.REVOKED)


def _is_late(child: Child) -> bool:
    """Return whether *child* is being stopped for a late task."""
    return child.deadline is not None and child.deadline[1] is ExitCause.LATE
