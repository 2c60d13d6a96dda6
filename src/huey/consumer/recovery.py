"""Recover the tasks of dead workers.

All takeovers go through `take_over`: a janitor uses it for workers that have lost their supervisor, a supervisor for its own children. The
supervisor knows more: the scoreboard shows which tasks were running, and the supervisor knows why the worker exited.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from enum import Enum

from huey.engine.scoreboard import RunningTask
from huey.exceptions import TaskTimeout
from huey.runtime.clock import SECOND, Clock
from huey.runtime.host import LOCAL_WORKER_IDS
from huey.runtime.logs import SafeLogger
from huey.storage.base import Storage
from huey.storage.rows import Worker
from huey.task import events, reasons
from huey.task.lifecycle import Cancelled, Finish, Outcome, Raised, Snoozed, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")


class ExitCause(Enum):
    """Why a worker process exited. The value is for log lines."""

    CRASH = "crash"
    """The supervisor did not cause it: a running task may have."""
    LATE = "time limit"
    """Killed because a task passed its time limit."""
    REVOKED = reasons.REVOKED
    """Killed because its task was revoked."""
    STOP = reasons.SHUTDOWN
    """Killed because running tasks did not end in time during a stop."""
    STUCK = "stalled"
    """Ended because its own threads made no progress; no task is to blame."""


def take_over(storage: Storage, successor: Worker, judge: Callable[[Lease], Finish | None]) -> None:
    """Finish every task that *successor* has reclaimed as *judge* decides, or release it if that returns None; then deregister *successor*.

    The leases are read from the storage, so a takeover that was interrupted is completed by the next call. Raise StorageError if part of it
    may not be written yet.
    """
    verdicts = [(lease, judge(lease)) for lease in storage.leases(successor)]
    finishes = [finish for _, finish in verdicts if finish is not None]
    if finishes:
        texts = [text for finish in finishes for text in events.of_finish(finish)]
        storage.turn(successor, finishes, want=0, events=texts)
    unrun = [lease for lease, finish in verdicts if finish is None]
    if unrun:
        storage.release(successor, unrun)
    storage.deregister(successor)


class Recovery:
    """Recovers the tasks of a supervisor's dead children. *settle* adds the error that callers get to a final finish; *declared* returns a
    lease with the constraints that were signed."""

    def __init__(
        self,
        storage: Storage,
        me: Worker,
        clock: Clock,
        settle: Callable[[Finish], Finish],
        may_retry: Callable[[Lease, BaseException], bool] = lambda lease, error: True,
        declared: Callable[[Lease], Lease] = lambda lease: lease,
    ) -> None:
        self._storage = storage
        self._me = me
        self._clock = clock
        self._settle = settle
        self._may_retry = may_retry
        self._declared = declared

    def recover_child(self, dead: Worker, ran: Sequence[RunningTask], cause: ExitCause, how: str = "") -> None:
        """Decide about all tasks that *dead* held, of which *ran* were running.

        *how*: how the process exited, such as ``signal 9 (SIGKILL)``. Raise StorageError if not everything is written yet; call again to
        continue.
        """
        successor = self._me._replace(id=f"{dead.id}-successor", kind=dead.kind, supervisor=dead.supervisor)
        LOCAL_WORKER_IDS.add(successor.id)
        for row in self._storage.workers():
            if row.worker.id == dead.id:
                self._storage.reclaim(row, successor)
        running = {(task.id, task.token): task for task in ran}

        def judge(lease: Lease) -> Finish | None:
            lease = self._declared(lease)
            # Reclaiming has raised the token by one.
            task = running.get((lease.id, lease.token - 1))
            if task is not None:
                return self._finish_for(lease, task, self._outcome(dead, lease, task, cause, how), cause)
            # It may have ended without its finish being written, so an at-most-once task must not run again.
            return self._settle(decide(lease, WorkerDied(is_suspect=False), self._clock.now())) if lease.is_at_most_once else None

        take_over(self._storage, successor, judge)
        LOCAL_WORKER_IDS.discard(successor.id)

    def _finish_for(self, lease: Lease, task: RunningTask, outcome: Outcome, cause: ExitCause) -> Finish:
        finish = decide(lease, outcome, self._clock.now(), (self._clock.monotonic() - task.began) / SECOND)
        level = logging.INFO if cause in (ExitCause.STOP, ExitCause.REVOKED, ExitCause.STUCK) else logging.WARNING
        state = finish.state if finish.reason is None else f"{finish.state} ({finish.reason})"
        log.log(level, "task %s %s was running when its worker exited (%s) and is now %s", lease.name, lease.id, cause.value, state)
        return self._settle(finish) if finish.error else finish

    def _outcome(self, dead: Worker, lease: Lease, task: RunningTask, cause: ExitCause, how: str) -> Outcome:
        if cause is ExitCause.CRASH:
            return WorkerDied(is_suspect=True, alone=dead.kind == "quarantine", how=how)
        if cause is ExitCause.LATE and task.is_late(self._clock.monotonic()):
            limit = f"TaskTimeout('the task passed its time limit of {task.limit / SECOND:g} s and did not end when asked')"
            return Raised({"error": limit, "traceback": ""}, self._may_retry(lease, TaskTimeout()), reason=reasons.TIMEOUT)
        if cause is ExitCause.REVOKED and task.is_asked:
            revoked = "CancelExecution('the task was revoked while it ran, and did not end when asked')"
            return Cancelled(reasons.REVOKED, {"error": revoked, "traceback": ""})
        return Snoozed(0, reasons.SHUTDOWN)


def exit_reason(status: int) -> str:
    """Return a status of ``waitpid`` as a noun phrase: ``exit code 3``, ``signal 9 (SIGKILL)``."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def describe_exit(status: int) -> str:
    """Return a status of ``waitpid`` as a predicate: ``exited with code 3``, ``was killed by signal 9 (SIGKILL)``."""
    reason = exit_reason(status)
    return f"was killed by {reason}" if reason.startswith("signal") else f"exited with {reason.removeprefix('exit ')}"
