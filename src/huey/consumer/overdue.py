"""Tasks that did not end when asked: past their time limit, or revoked. Their processes are ended, and their neighbours spared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from huey.consumer.processes import Child
from huey.consumer.recovery import ExitCause
from huey.engine.scoreboard import Running
from huey.engine.stamps import STILL
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger
from huey.storage.base import Storage
from huey.task.lifecycle import State

log = SafeLogger("huey.consumer")

ASKED = 0.5
"""Seconds that a revoked task gets to end after it was asked to."""
NEIGHBOURS = 30.0
"""Seconds, at most, that its neighbours get to end before their process is killed."""


class Tree(Protocol):
    """What is needed of the supervisor."""

    def all(self) -> list[Child]:
        """All workers."""

    def storage_of(self, child: Child) -> Storage:
        """That of its queue."""

    def try_storage(self, part: str, act: Callable[[], object]) -> bool:
        """Do something that needs the storage; False: it is away."""


class Overdue:
    """*patience*: the shutdown timeout; None: without limit."""

    def __init__(self, tree: Tree, clock: Clock, patience: float | None) -> None:
        self._tree = tree
        self._clock = clock
        self._neighbours = min(patience or NEIGHBOURS, NEIGHBOURS)

    # -- time limits --------------------------------------------------------------------------------------------------------------------

    def mind_limits(self, now: Micros) -> None:
        """End what passed its limit, and did not end when asked or within its grace."""
        for child in self._tree.all():
            late = [it for it in child.page.running() if it.is_overdue(now)]
            if not late:
                continue
            if child.due is not None and child.due[1] is ExitCause.LATE:
                self._hasten(child, now, len(late))
            elif child.is_leaving or child.page.count == 1 or not self._is_one_leaving(child):
                self._end_late(child, now, late[0])

    def _is_one_leaving(self, child: Child) -> bool:
        """Another worker of its place is on its way out for this: the task waits for its kill, so that not all neighbours stop at once."""
        return any(
            it.due is not None and it.due[1] is ExitCause.LATE and it.queue == child.queue for it in self._tree.all() if it is not child
        )

    def _end_late(self, child: Child, now: Micros, task: Running) -> None:
        log.warning("task %s passed its time limit and did not end when asked: its worker is killed", task.id)
        # It claims nothing more, and a new one is started at once. The others in that process get time to end.
        child.tell_to_stop()
        left = self._neighbours if child.page.count > 1 else 0
        due = now + micros(left)
        child.due = (min(due, child.due[0]) if child.due else due), ExitCause.LATE
        self._hasten(child, now, 1)

    def _hasten(self, child: Child, now: Micros, late: int) -> None:
        """Nobody is left to wait for: all that it still holds is late, or nothing in it goes on."""
        if child.due and (child.page.held == late or child.standstill.still >= STILL):
            child.due = min(now, child.due[0]), ExitCause.LATE

    # -- revocations --------------------------------------------------------------------------------------------------------------------

    def mind_revoked(self, now: Micros) -> None:
        """Where a task has its process for itself, that is killed when it does not end by itself. (Threads are only asked.)"""
        for child in self._tree.all():
            asked = [it for it in child.page.running() if it.is_asked] if child.page.count == 1 else []
            if not asked:
                child.asked_since = None
            elif child.asked_since is None:
                child.asked_since = now
            elif now - child.asked_since > micros(ASKED) and child.cause is not ExitCause.REVOKED:
                child.asked_since = now
                self._tree.try_storage("revoked", lambda child=child, it=asked[0]: self._end_revoked(child, it))  # type: ignore[misc]

    def _end_revoked(self, child: Child, it: Running) -> None:
        # The page may be a moment behind; the storage knows.
        row = self._tree.storage_of(child).get(it.id)
        if row is None or row.token != it.token or row.state != State.RUNNING or (row.revoked_until or 0) <= self._clock.now():
            child.asked_since = None
            return
        log.warning("task %s was revoked and did not end when asked: its worker is killed", it.id)
        child.kill(ExitCause.REVOKED)
