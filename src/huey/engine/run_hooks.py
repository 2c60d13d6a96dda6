"""Who attends the runs of tasks: hooks and signal handlers, called by the runner around the body, in the documented order.

A run that somebody wants to see the end of is a *visit*: its runner waits, after the body, until the engine has written the end, and then
tells it, in the same thread: result stored, ``post_execute``, ``complete``. A task that nobody attends costs a look at empty lists.

What happens without a run (a scheduled task becomes ready, a revoked one is dropped) is told by a thread that begins with the first of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

from huey.engine.failures import CANCELED, LOCKED, REVOKED, TIMEOUT
from huey.engine.task_decoder import TaskDecoder
from huey.exceptions import CancelExecution, StorageError
from huey.hooks import POST, PRE, Hooks
from huey.runtime.clock import Micros
from huey.runtime.logs import SafeLogger
from huey.signals import (
    SIGNAL_CANCELED,
    SIGNAL_COMPLETE,
    SIGNAL_ENQUEUED,
    SIGNAL_ERROR,
    SIGNAL_EXECUTING,
    SIGNAL_EXPIRED,
    SIGNAL_INTERRUPTED,
    SIGNAL_LOCKED,
    SIGNAL_RATE_LIMITED,
    SIGNAL_RETRYING,
    SIGNAL_REVOKED,
    SIGNAL_SCHEDULED,
    SIGNAL_TIMEOUT,
    Signals,
)
from huey.storage.rows import TaskRow, Turn
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, NotDue, State
from huey.task.record import Lease
from huey.task.task import Task

log = SafeLogger("huey.consumer")

_ENDS = (
    SIGNAL_CANCELED,
    SIGNAL_COMPLETE,
    SIGNAL_ENQUEUED,
    SIGNAL_ERROR,
    SIGNAL_LOCKED,
    SIGNAL_RATE_LIMITED,
    SIGNAL_RETRYING,
    SIGNAL_SCHEDULED,
    SIGNAL_TIMEOUT,
)
"""Signals that the end of a run may send."""

_BY_REASON = {
    CANCELED: SIGNAL_CANCELED,
    REVOKED: SIGNAL_CANCELED,
    TIMEOUT: SIGNAL_TIMEOUT,
    LOCKED: SIGNAL_LOCKED,
    "rate limited": SIGNAL_RATE_LIMITED,
}
_SILENT = ("retry asked", "shutdown", "unknown task", "newer record")
"""Reasons for another run that are no failures."""


class TrackedRun:
    """One run that is attended."""

    __slots__ = ("context", "error", "finish", "is_barred", "is_refused", "lease", "task", "value", "written")

    def __init__(self, lease: Lease, task: Task) -> None:
        self.lease = lease
        self.task = task
        self.context: Context | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.finish: Finish | None = None
        self.is_barred = False
        """A hook does not want the body to run."""
        self.is_refused = False
        """The end was not written: the lease was lost."""
        self.written = threading.Event()


class RunHooks:
    """*find*: looks a task up in the storage."""

    def __init__(
        self, signals: Signals, hooks: Hooks, reviver: TaskDecoder | None = None, find: Callable[[str], TaskRow | None] | None = None
    ):
        self.signals = signals
        self.hooks = hooks
        self._reviver = reviver
        self._find = find
        self.visits: dict[int, TrackedRun] = {}
        """By runner: runs whose end somebody wants to know."""
        self._awaited: dict[tuple[str, int], TrackedRun] = {}
        self._teller: HookThread | None = None

    # -- the runners' side --------------------------------------------------------------------------------------------------------------

    def begin(self, slot: int, lease: Lease, task: Task) -> TrackedRun:
        """The body is about to run, unless the visit is barred."""
        visit = TrackedRun(lease, task)
        self.signals.handler_gate.wait(lease.id)
        if self.hooks.post or self.signals.wants(*_ENDS):
            self.visits[slot] = visit
        try:
            self.hooks.call(PRE, task)
        except CancelExecution:
            visit.is_barred = True
            return visit
        self.signals.emit(SIGNAL_EXECUTING, task)
        return visit

    def tell_unstarted(self, lease: Lease, outcome: NotDue | Cancelled) -> None:
        """The task waits until it is due, or has expired."""
        signal, due = (SIGNAL_SCHEDULED, outcome.due) if isinstance(outcome, NotDue) else (SIGNAL_EXPIRED, None)
        if self.signals.wants(signal):
            self.signals.emit(signal, self._told(lease, due))

    def await_end(self, slot: int, finish: Finish, context: Context | None = None) -> None:
        """The end of a visit is about to be handed to the engine. *context*: that of the run; its end is told in it too."""
        if (visit := self.visits.get(slot)) is not None:
            visit.finish, visit.context = finish, context
            self.signals.handler_gate.hold([visit.lease.id])
            self._awaited[finish.lease[:2]] = visit

    def see_off(self, slot: int) -> None:
        """Wait until the end is written, then tell it."""
        visit = self.visits.pop(slot)
        visit.written.wait()
        try:
            (visit.context or copy_context()).run(self._tell_end, visit)
        except BaseException:  # Hooks and handlers are guarded; what is left is an argument that cannot be rebuilt, or a fault of ours.
            log.exception("the end of task %s %s could not be told", visit.lease.name, visit.lease.id)
        finally:
            self.signals.handler_gate.release([visit.lease.id])

    def _tell_end(self, visit: TrackedRun) -> None:
        task, finish, emit = visit.task, visit.finish, self.signals.emit
        assert finish is not None
        if not visit.is_barred:
            self.hooks.call(POST, task, visit.value, visit.error)
        if visit.is_refused:
            # Somebody else has the task; what became of it is told there.
            return
        if finish.state == State.SUCCEEDED:
            emit(SIGNAL_COMPLETE, task)
            return
        reason = finish.reason or ""
        if reason in _BY_REASON:
            emit(_BY_REASON[reason], task)
        elif reason not in _SILENT and visit.error is not None:
            emit(SIGNAL_ERROR, task, visit.error)
        if finish.state == State.QUEUED and reason != "shutdown":
            emit(SIGNAL_RETRYING, task)
            again = self._told(visit.lease._replace(attempt=finish.attempt), finish.due)
            emit(SIGNAL_SCHEDULED if finish.due else SIGNAL_ENQUEUED, again)

    # -- the engine's side --------------------------------------------------------------------------------------------------------------

    @property
    def is_awaiting(self) -> bool:
        """A runner waits for an end to be written."""
        return bool(self._awaited)

    @property
    def wants_promotions(self) -> bool:
        """Somebody wants to know which scheduled tasks became ready."""
        return SIGNAL_ENQUEUED in self.signals.handlers

    def after(self, turn: Turn, finishes: Sequence[Finish]) -> None:
        """A turn has written *finishes*. Before what it brought is started."""
        if self._awaited:
            refused = set(turn.stale)
            for finish in finishes:
                if (visit := self._awaited.pop(finish.lease[:2], None)) is not None:
                    visit.finish, visit.is_refused = finish, finish.lease.id in refused
                    visit.written.set()
        if self.signals.handlers and (turn.cancelled or turn.promoted):
            self._pass_on(turn)

    def _pass_on(self, turn: Turn) -> None:
        if self._teller is None:
            self._teller = HookThread()
        if turn.promoted and self.wants_promotions:
            claimed = {lease.id: lease for lease in turn.leases}
            self.signals.handler_gate.hold(it.id for it in turn.promoted)
            for it in turn.promoted:
                self._teller.put(partial(self._tell_promotion, it.id, it.name, claimed.get(it.id)))
        for refusal in turn.cancelled:
            signal = SIGNAL_EXPIRED if refusal.reason == "expired" else SIGNAL_REVOKED
            if self.signals.wants(signal):
                self._teller.put(partial(self._tell_refusal, signal, refusal))

    def _tell_refusal(self, signal: str, refusal: CancelledAtClaim) -> None:
        self.signals.emit(signal, self._looked_up(refusal.id, refusal.name))

    def _tell_promotion(self, id: str, name: str, lease: Lease | None) -> None:
        try:
            self.signals.emit(SIGNAL_ENQUEUED, self._looked_up(id, name) if lease is None else self._told(lease))
        finally:
            self.signals.handler_gate.release([id])

    def _looked_up(self, id: str, name: str) -> Task:
        try:
            row = None if self._find is None else self._find(id)
        except StorageError as error:
            log.warning("task %s %s is told without its arguments: %s", name, id, error)
            row = None
        return self._told(row or Lease(id, 0, name, b"", 0, 0, None, 0, 0.0, 0, 0, 0, None, None))

    def _told(self, held: TaskRow | Lease, due: Micros | None = None) -> Task:
        assert self._reviver is not None
        return self._reviver.told(held, due)

    def interrupt(self, leases: Iterable[Lease]) -> None:
        """Tell that each of these runs is cut short."""
        if self.signals.wants(SIGNAL_INTERRUPTED):
            for lease in leases:
                self.signals.emit(SIGNAL_INTERRUPTED, self._told(lease))

    def close(self) -> None:
        """Tell what is left, and end the thread that does."""
        if self._teller is not None:
            self._teller.close()
            self._teller = None


class HookThread:
    """A thread that calls functions, one after the other."""

    def __init__(self) -> None:
        self._acts: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._thread = self._started()

    def put(self, act: Callable[[], Any]) -> None:
        self._acts.put(act)
        if not self._thread.is_alive():
            self._thread = self._started()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="Signals", daemon=True)
        thread.start()
        return thread

    def close(self, timeout: float = 5.0) -> None:
        """End after what is there; wait for that up to *timeout* seconds."""
        self._acts.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (act := self._acts.get()) is not None:
            try:
                act()
            except BaseException:  # The top of a loop: whatever it was, the next is told too.
                log.exception("a signal could not be told")
