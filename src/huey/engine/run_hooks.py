"""Call hooks and signal handlers around runs, in the runner's thread and the documented order.

A run with post-execute hooks or completion handlers is *tracked*: after the body its runner waits until the engine has committed the
finish, and then calls them in the same thread: result stored, ``post_execute``, ``complete``. For a run without any, this costs only a
check of empty containers.

Signals without a run (a scheduled task becomes ready, a revoked one is cancelled) are emitted by a thread, which the first of them starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

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
from huey.task import reasons
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, NotDue, State
from huey.task.record import Lease, Record
from huey.task.task import HEADERS, Task
from huey.task.workflow import Opened, QueuedRecord

log = SafeLogger("huey.consumer")

_FINAL_SIGNALS = (
    SIGNAL_CANCELED, SIGNAL_COMPLETE, SIGNAL_ENQUEUED, SIGNAL_ERROR, SIGNAL_LOCKED, SIGNAL_RATE_LIMITED, SIGNAL_RETRYING, SIGNAL_SCHEDULED,
    SIGNAL_TIMEOUT,
)  # fmt: skip
"""Signals that the end of a run may emit."""

_BY_REASON = {
    reasons.CANCELED: SIGNAL_CANCELED,
    reasons.REVOKED: SIGNAL_CANCELED,
    reasons.TIMEOUT: SIGNAL_TIMEOUT,
    reasons.LOCKED: SIGNAL_LOCKED,
    reasons.RATE_LIMITED: SIGNAL_RATE_LIMITED,
}
_SIGNALS_AT_CLAIM = {reasons.EXPIRED: SIGNAL_EXPIRED, reasons.REVOKED: SIGNAL_REVOKED}


class TrackedRun:
    """A run whose runner waits until its finish is committed."""

    __slots__ = ("committed", "context", "error", "finish", "is_skipped", "is_stale", "lease", "opened", "task", "value")

    def __init__(self, lease: Lease, task: Task) -> None:
        self.lease = lease
        self.task = task
        self.context: Context | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.finish: Finish | None = None
        self.is_skipped = False
        """Whether a pre-execute hook has cancelled it."""
        self.is_stale = False
        """Whether the finish was not written, because the lease was lost."""
        self.committed = threading.Event()
        self.opened: OpenedTasks | None = None

    @property
    def handler(self) -> QueuedRecord | None:
        """The handler of its failure, which is enqueued with its finish."""
        finish = self.finish
        return None if finish is None or finish.error is None or finish.follow_ups is None else finish.follow_ups.tasks[0]


class OpenedTasks:
    """The tasks that one turn let be queued. Their signals come after those of all *ends* of other tasks in that turn. *cancelled*: those
    of them that it cancelled as well, since they were revoked or expired."""

    def __init__(self, tasks: Sequence[Opened], ends: int, cancelled: Mapping[str, CancelledAtClaim]) -> None:
        self.tasks = tasks
        self.cancelled = cancelled
        self._ends_left = ends
        self._lock = threading.Lock()

    def is_last(self) -> bool:
        """Note that the signals of an end were emitted; return whether it was the last."""
        with self._lock:
            self._ends_left -= 1
            return self._ends_left == 0


class RunHooks:
    """Calls the hooks and handlers of one consumer. *find*: looks a task up in the storage; *find_elsewhere*: in another of its queues."""

    def __init__(
        self,
        signals: Signals,
        hooks: Hooks,
        decoder: TaskDecoder | None = None,
        find: Callable[[str], TaskRow | None] | None = None,
        find_elsewhere: Callable[[str, str], TaskRow | None] | None = None,
    ):
        self.signals = signals
        self.hooks = hooks
        self._decoder = decoder
        self._find = find
        self._find_elsewhere = find_elsewhere
        self.tracked: dict[int, TrackedRun] = {}
        """By runner."""
        self._awaited: dict[tuple[str, int], TrackedRun] = {}
        self._hook_thread: HookThread | None = None

    # -- the runners' side --------------------------------------------------------------------------------------------------------------

    def before_run(self, slot: int, lease: Lease, task: Task) -> TrackedRun:
        """Call the pre-execute hooks and emit ``executing``, unless a hook skips the run."""
        run = TrackedRun(lease, task)
        self.signals.handler_gate.wait(lease.id)
        if self.hooks.post or self.signals.wants(*_FINAL_SIGNALS):
            self.tracked[slot] = run
        try:
            self.hooks.call(PRE, task)
        except CancelExecution:
            run.is_skipped = True
            return run
        self.signals.emit(SIGNAL_EXECUTING, task)
        return run

    def not_started(self, lease: Lease, outcome: NotDue | Cancelled) -> None:
        """Emit the signal of a task that is not due yet, or has expired."""
        signal, due = (SIGNAL_SCHEDULED, outcome.due) if isinstance(outcome, NotDue) else (SIGNAL_EXPIRED, None)
        if self.signals.wants(signal):
            self.signals.emit(signal, self._decode(lease, due))

    def await_commit(self, slot: int, finish: Finish, context: Context | None = None) -> None:
        """Register a tracked run whose *finish* is about to be passed to the engine. *context*: that of the run, in which hooks and
        handlers are called."""
        if (run := self.tracked.get(slot)) is not None:
            run.finish, run.context = finish, context
            self.signals.handler_gate.hold([run.lease.id, *([] if run.handler is None else [run.handler.record.id])])
            self._awaited[finish.lease[:2]] = run

    def after_commit(self, slot: int) -> None:
        """Wait until the finish is committed, then call the post-execute hooks and emit the signals for the task's end."""
        run = self.tracked.pop(slot)
        run.committed.wait()
        try:
            (run.context or copy_context()).run(self._emit_end, run)
        except BaseException:  # Hooks and handlers are guarded; what remains is an undecodable argument, or a bug in huey.
            log.exception("cannot call the hooks and signal handlers for the end of task %s %s", run.lease.name, run.lease.id)
        finally:
            self.signals.handler_gate.release([run.lease.id, *([] if run.handler is None else [run.handler.record.id])])
            if run.opened is not None:
                self._emit_opened(run.opened)

    def _emit_end(self, run: TrackedRun) -> None:
        task, finish, emit = run.task, run.finish, self.signals.emit
        assert finish is not None
        if not run.is_skipped:
            self.hooks.call(POST, task, run.value, run.error)
        if run.is_stale:
            # Another worker has the task, and emits its signals.
            return
        if finish.state == State.SUCCEEDED:
            emit(SIGNAL_COMPLETE, task)
            return
        reason = finish.reason or ""
        if reason in _BY_REASON:
            emit(_BY_REASON[reason], task)
        elif reason not in reasons.WITHOUT_ERROR_SIGNAL and run.error is not None:
            emit(SIGNAL_ERROR, task, run.error)
        if run.handler is not None:
            emit(SIGNAL_ENQUEUED, self._decode(run.handler.record))
        if finish.state == State.QUEUED and reason != reasons.SHUTDOWN:
            emit(SIGNAL_RETRYING, task)
            again = self._decode(run.lease._replace(attempt=finish.attempt), finish.due)
            emit(SIGNAL_SCHEDULED if finish.due else SIGNAL_ENQUEUED, again)

    # -- the engine's side --------------------------------------------------------------------------------------------------------------

    @property
    def is_awaiting(self) -> bool:
        """True while a runner waits for a finish to be committed."""
        return bool(self._awaited)

    @property
    def wants_promotions(self) -> bool:
        """True if a handler wants to know which scheduled tasks became ready."""
        return SIGNAL_ENQUEUED in self.signals.handlers

    def on_turn(self, turn: Turn, finishes: Sequence[Finish]) -> None:
        """Release the runners whose *finishes* a turn has written, and emit the signals of tasks that it promoted or cancelled. Called
        before the claimed tasks start."""
        awaited = self._awaited
        runs = [(awaited.pop(finish.lease[:2]), finish) for finish in finishes if finish.lease[:2] in awaited] if awaited else []
        opened, by_thread = None, bool(turn.cancelled) or not runs
        if turn.opened and self.signals.handlers:
            ids = {it.id for it in turn.opened}
            opened = OpenedTasks(turn.opened, len(runs) + by_thread, {it.id: it for it in turn.cancelled if it.id in ids})
            turn = turn._replace(cancelled=[it for it in turn.cancelled if it.id not in ids])
            self.signals.handler_gate.hold(ids)
        stale = set(turn.stale)
        for run, finish in runs:
            run.finish, run.is_stale, run.opened = finish, finish.lease.id in stale, opened
            run.committed.set()
        if self.signals.handlers and (turn.cancelled or turn.promoted):
            self._emit_claim(turn)
        if opened is not None and by_thread:
            self._thread.put(partial(self._emit_opened, opened))

    @property
    def _thread(self) -> HookThread:
        if self._hook_thread is None:
            self._hook_thread = HookThread()
        return self._hook_thread

    def _emit_opened(self, opened: OpenedTasks) -> None:
        for it in opened.tasks if opened.is_last() else ():
            try:
                row = None if self._find_elsewhere is None else self._find_elsewhere(it.queue, it.id)
                task = self._decode(row or _unread(it.id, it.name), None if row is None else row.due)
                self.signals.emit(SIGNAL_ENQUEUED, task)
                if it.is_scheduled:
                    self.signals.emit(SIGNAL_SCHEDULED, task)
                if (cancelled := opened.cancelled.get(it.id)) is not None:
                    self._emit_cancelled(_SIGNALS_AT_CLAIM[cancelled.reason], cancelled)
            finally:
                self.signals.handler_gate.release([it.id])

    def _emit_claim(self, turn: Turn) -> None:
        if turn.promoted and self.wants_promotions:
            claimed = {lease.id: lease for lease in turn.leases}
            self.signals.handler_gate.hold(it.id for it in turn.promoted)
            for it in turn.promoted:
                self._thread.put(partial(self._emit_promotion, it.id, it.name, claimed.get(it.id)))
        for cancelled in turn.cancelled:
            signal = _SIGNALS_AT_CLAIM[cancelled.reason]
            if self.signals.wants(signal):
                self._thread.put(partial(self._emit_cancelled, signal, cancelled))

    def _emit_cancelled(self, signal: str, cancelled: CancelledAtClaim) -> None:
        self.signals.emit(signal, self._task_by_id(cancelled.id, cancelled.name))

    def _emit_promotion(self, id: str, name: str, lease: Lease | None) -> None:
        try:
            self.signals.emit(SIGNAL_ENQUEUED, self._task_by_id(id, name) if lease is None else self._decode(lease))
        finally:
            self.signals.handler_gate.release([id])

    def _task_by_id(self, id: str, name: str) -> Task:
        try:
            row = None if self._find is None else self._find(id)
        except StorageError as error:
            log.warning("signal handlers get task %s %s without its arguments: %s", name, id, error)
            row = None
        return self._decode(row or _unread(id, name))

    def _decode(self, stored: TaskRow | Lease | Record, due: Micros | None = None) -> Task:
        assert self._decoder is not None
        return self._decoder.decode_or_stub(stored, due)

    def emit_interrupted(self, leases: Iterable[Lease]) -> None:
        """Emit ``interrupted`` for each of *leases*: their runs are about to be requeued."""
        if self.signals.wants(SIGNAL_INTERRUPTED):
            for lease in leases:
                self.signals.emit(SIGNAL_INTERRUPTED, self._decode(lease))

    def close(self) -> None:
        """Call the remaining handlers, and end the thread that does so."""
        if self._hook_thread is not None:
            self._hook_thread.close()
            self._hook_thread = None


def _unread(id: str, name: str) -> Lease:
    """Return what is known of a task whose row is not found."""
    return Lease(id, 0, name, b"", 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


class HookThread:
    """A thread that calls functions one after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._thread = self._start()

    def put(self, call: Callable[[], Any]) -> None:
        """Queue *call* to be called; restart the thread if it has died."""
        self._calls.put(call)
        if not self._thread.is_alive():
            self._thread = self._start()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="Signals", daemon=True)
        thread.start()
        return thread

    def close(self, timeout: float = 5.0) -> None:
        """End the thread after the queued calls, and wait for that up to *timeout* seconds."""
        self._calls.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException:  # The top of a loop: after any error the next call must still run.
                log.exception("cannot emit a signal")


Gate = Callable[[Task], Any]
"""The replaced ``Huey._execute``."""


class Passage:
    """Run a task through ``Huey._execute``, if a subclass or an instrumentation has replaced that method."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """The exception that the body raised."""
        self.context: Context | None = None
        """The context in which it was raised, with the instrumentation's data about the run."""

    def fail(self, error: BaseException) -> None:
        """Record that the body raised *error*."""
        self.error, self.context = error, copy_context()

    def run(self, gate: Gate, task: Task) -> Any:
        """Run the body of *task* through *gate* and return its value; raise its exception, or that of the gate. Remove headers from the
        arguments."""
        task.passage = self
        if task.headers is not None:
            task.kwargs[HEADERS] = task.headers
        try:
            value = gate(task)
        finally:
            task.kwargs.pop(HEADERS, None)
        if self.error is not None:
            raise self.error
        return value
