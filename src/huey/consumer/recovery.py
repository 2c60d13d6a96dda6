"""What becomes of the tasks of a worker that died, when its supervisor lives.

The page says what ran when it died; why it died, the supervisor knows. From both follows an outcome for each task, and then it is as with
any other run: ``decide``, and one turn writes it.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from enum import Enum

from huey.engine.scoreboard import Running
from huey.exceptions import TaskTimeout
from huey.runtime.clock import SECOND, Clock
from huey.runtime.host import alive_here
from huey.runtime.logs import SafeLogger
from huey.storage.base import Storage
from huey.storage.rows import Worker
from huey.task import events
from huey.task.lifecycle import Cancelled, Finish, Outcome, Raised, Snoozed, WorkerDied, decide
from huey.task.record import Lease

log = SafeLogger("huey.consumer")


class ExitCause(Enum):
    """Why a worker process ended."""

    CRASH = "crash"
    """Nobody here wanted it: what ran may have done it."""
    LATE = "late"
    """Killed, since a task passed its time limit."""
    REVOKED = "revoked"
    """Killed, since the task that it ran was revoked."""
    STOP = "stop"
    """Killed, since running tasks did not end in time at a stop."""
    STUCK = "stood still"
    """Ended by a fault of ours: its own threads did not go on."""


class Recovery:
    """Deals with deaths. ``settle`` gives a final finish the error that its caller gets; ``declared`` tells a lease as it was signed."""

    def __init__(
        self,
        storage: Storage,
        me: Worker,
        clock: Clock,
        settle: Callable[[Finish], Finish],
        may_retry: Callable[[Lease, BaseException], bool] = lambda lease, error: True,
        declared: Callable[[Lease], Lease] = lambda lease: lease,
    ) -> None:
        self._may_retry = may_retry
        self._declared = declared
        self._storage = storage
        self._me = me
        self._clock = clock
        self._settle = settle

    def deal_with(self, dead: Worker, ran: Sequence[Running], cause: ExitCause, how: str = "") -> int:
        """Decide about all that *dead*, which ended by *how*, held; the number of tasks that ran. StorageError: not all is written yet,
        the same call goes on."""
        heir = self._me._replace(id=f"{dead.id}-heir", kind=dead.kind, supervisor=dead.supervisor)
        alive_here.add(heir.id)
        for row in self._storage.workers():
            if row.worker.id == dead.id:
                self._storage.reclaim(row, heir)
        # Asked for, not taken from the answer: an earlier call may have come as far as this.
        leases = [self._declared(lease) for lease in self._storage.leases(heir)]
        at = {(it.id, it.token): it for it in ran}
        running = [(lease, at[before]) for lease in leases if (before := (lease.id, lease.token - 1)) in at]
        started = {lease.id for lease, _ in running}
        if running:
            self._write(heir, [self._verdict(lease, it, self._outcome(dead, lease, it, cause, how), cause) for lease, it in running])
        others = [lease for lease in leases if lease.id not in started]
        self._write_lost(heir, [lease for lease in others if lease.is_at_most_once])
        self._storage.release(heir, [lease for lease in others if not lease.is_at_most_once])
        self._storage.deregister(heir)
        alive_here.discard(heir.id)
        return len(running)

    def _write_lost(self, heir: Worker, leases: Sequence[Lease]) -> None:
        """What is to run at most once and does not run now: it may have ended with its end not written yet, so it must not run again."""
        now = self._clock.now()
        finishes = [decide(lease, WorkerDied(is_suspect=False), now) for lease in leases]
        if finishes:
            self._write(heir, [self._settle(finish) for finish in finishes])

    def _verdict(self, lease: Lease, it: Running, outcome: Outcome, cause: ExitCause) -> Finish:
        now = self._clock.now()
        finish = decide(lease, outcome, now, (self._clock.monotonic() - it.began) / SECOND)
        log.log(
            logging.INFO if cause in (ExitCause.STOP, ExitCause.REVOKED, ExitCause.STUCK) else logging.WARNING,
            "task %s %s was running when its worker ended (%s): %s",
            *(lease.name, lease.id, cause.value, finish.state if finish.reason is None else f"{finish.state}, {finish.reason}"),
        )
        return self._settle(finish) if finish.error else finish

    def _outcome(self, dead: Worker, lease: Lease, it: Running, cause: ExitCause, how: str) -> Outcome:
        if cause is ExitCause.CRASH:
            return WorkerDied(is_suspect=True, alone=dead.kind == "quarantine", how=how)
        if cause is ExitCause.LATE and it.is_late(self._clock.monotonic()):
            limit = f"TaskTimeout('the task passed its time limit of {it.limit / SECOND:g} s and did not end when asked')"
            return Raised({"error": limit, "traceback": ""}, self._may_retry(lease, TaskTimeout()), reason="timeout")
        if cause is ExitCause.REVOKED and it.is_asked:
            revoked = "CancelExecution('the task was revoked while it ran, and did not end when asked')"
            return Cancelled("revoked", {"error": revoked, "traceback": ""})
        return Snoozed(0, "shutdown")

    def _write(self, heir: Worker, finishes: Sequence[Finish]) -> None:
        told = [text for finish in finishes for text in events.of_finish(finish)] if self._storage.is_followed() else []
        self._storage.turn(heir, finishes, want=0, events=told)


def how_it_ended(status: int) -> str:
    """How a process ended, in words, from what waitpid says."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
