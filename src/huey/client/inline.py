"""Run tasks inline: claim, execute and finish them in the calling thread, without a consumer.

Used by tests of applications and by immediate mode. It does what an engine does, one task at a time: claim, run, ``decide``, and one turn
that writes the finish. The claimed tasks are leased by this process; if it dies, any consumer takes them over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from huey.client.build import build_executor, build_run_hooks
from huey.client.context import Overrides, QueueContext
from huey.engine.task_decoder import declaration
from huey.runtime import host
from huey.runtime.clock import Micros
from huey.runtime.current_run import Run
from huey.runtime.times import micros_to_wall, wall_to_micros
from huey.signals import SIGNAL_EXPIRED, SIGNAL_REVOKED
from huey.storage.rows import TaskIds, TaskName, Turn, Worker
from huey.task import reasons
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, State, decide
from huey.task.record import Lease, Record
from huey.task.task import Task

CLAIMED_AT_ONCE = 256
"""The largest number of tasks that one turn claims."""
ALL = 2**31 - 1
"""A limit larger than any list."""


_owner: ContextVar[InlineWorker | None] = ContextVar("huey_inline", default=None)
"""The worker that runs the task in which the caller is."""


class InlineWorker:
    """Claims tasks from one storage, runs them in the calling thread and writes their finishes. *build*: as `Producer.build`."""

    def __init__(self, context: QueueContext, overrides: Overrides, build: Callable[[Task], Record]) -> None:
        from huey.engine.progress_notes import ProgressNotes
        from huey.engine.time_limits import TimeLimits

        self._storage = context.storage
        self._clock = context.clock
        self._codec = context.codec
        self._decoder = context.decoder
        self._build = build
        self._overrides = overrides
        self._is_local = not context.policy.utc
        if self._is_local:
            now = self._clock.now()
            self._storage.offset = micros_to_wall(now, True) - now
        pid = os.getpid()
        id = f"{context.rng.getrandbits(128):032x}"
        self._me = Worker(id, os.uname().nodename, pid, host.pid_namespace(), host.process_start_time(pid) or 0)
        host.LOCAL_WORKER_IDS.add(id)
        self._notes = ProgressNotes(context.storage, context.clock)
        self._run_hooks = build_run_hooks(context)
        self._executor = build_executor(context, overrides, TimeLimits(context.clock), self._run_hooks, note=self._note)
        self._executor.values = {}
        self._held: dict[str, Lease] = {}
        self._free_slots: list[int] = []
        """Runner numbers that are free; a task that runs others in its body takes one more."""
        self._slots = 0
        self._one_at_a_time = threading.RLock()

    # -- claiming -----------------------------------------------------------------------------------------------------------------------

    def claim(self) -> Task | None:
        """Claim and return the next due task, or None if nothing is ready. Revoked and expired tasks are dropped on the way."""
        while True:
            turn = self._storage.turn(self._me, [], 1)
            self._emit_dropped(turn.cancelled)
            for lease in turn.leases:
                self._held[lease.id] = lease
                return self._decoder.decode_or_stub(lease)
            if not turn.may_have_more:
                return None

    def claim_scheduled(self, at: Micros) -> list[Task]:
        """Claim and return the tasks that are scheduled up to *at*; release any others that the turns claimed."""
        due = {row.id: row.due for row in self._storage.find("scheduled", limit=ALL) if row.due is not None and row.due <= at}
        found: list[Lease] = []
        others: list[Lease] = []
        more = True
        while more and len(found) < len(due):
            turn = self._storage.turn(self._me, [], CLAIMED_AT_ONCE, now=max(at, self._clock.now()))
            self._emit_dropped(turn.cancelled)
            for lease in turn.leases:
                (found if lease.id in due else others).append(lease)
            more = turn.may_have_more
        if others:
            self._storage.release(self._me, others)
        self._held.update({lease.id: lease for lease in found})
        return [self._decoder.decode_or_stub(lease, due[lease.id]) for lease in sorted(found, key=lambda lease: due[lease.id] or 0)]

    def release(self, task: Task) -> bool:
        """Release a task that is held here, to wait for its eta if that is in the future. Return False if it is not held here."""
        lease = self._held.get(task.id)
        if lease is None:
            return False
        due = due_of(task, self._is_local)
        self._finish(Finish(lease, State.QUEUED, due, lease.attempt, lease.solo_crashes, lease.deaths, reason=reasons.REQUEUED))
        return True

    def _emit_dropped(self, dropped: Sequence[CancelledAtClaim]) -> None:
        if self._run_hooks.signals.handlers:
            for each in dropped:
                if (row := self._storage.get(each.id)) is not None:
                    self._emit_drop(self._decoder.decode_or_stub(row), each.reason)

    def _emit_drop(self, task: Task, reason: str) -> None:
        self._run_hooks.signals.emit(SIGNAL_EXPIRED if reason == reasons.EXPIRED else SIGNAL_REVOKED, task)

    # -- running ----------------------------------------------------------------------------------------------------------------------

    def run_ready(self) -> bool:
        """Run all tasks that are ready, and return whether there was any. One thread runs at a time, so when this returns the caller's own
        tasks are finished."""
        found = False
        # A run may enqueue others, perhaps from the thread of its coroutine, for which this thread waits.
        with nullcontext() if _owner.get() is self else self._one_at_a_time, self._owned():
            while (task := self.claim()) is not None:
                found = True
                self.execute(task, self._clock.now())
        return found

    @contextmanager
    def _owned(self) -> Iterator[None]:
        outside = _owner.set(self)
        try:
            yield
        finally:
            _owner.reset(outside)

    def execute(self, task: Task, at: Micros) -> Any:
        """Process *task* as of *at*; see ``Huey.execute``."""
        lease = self._held.get(task.id)
        due = due_of(task, self._is_local)
        if due is not None and due > at:
            if lease is None or not self.release(task):
                self._storage.enqueue([self._build(task)])
            return None
        reason = self._skip_reason(task, at)
        if reason is not None:
            if lease is not None:
                self._finish(decide(lease, Cancelled(reason), self._clock.now()))
            self._emit_drop(task, reason)
            return None
        return self._run(lease or _loose_lease(self._build(task), task.token))

    def _skip_reason(self, task: Task, at: Micros) -> str | None:
        """Return "revoked" or "expired" if the task must not run at that time, else None."""
        revocation = self._storage.get_revocation(TaskIds([task.id]), TaskName(task.name))
        if revocation is not None and revocation.holds(at, self._storage.offset):
            if revocation.once and not self._storage.restore(TaskIds([task.id])):
                # This call is the one run that the revocation is for.
                self._storage.restore(TaskName(task.name))
            return "revoked"
        return "expired" if task.expires_at is not None and task.expires_at <= at else None

    def _run(self, lease: Lease) -> Any:
        if self._free_slots:
            slot = self._free_slots.pop()
        else:
            slot, self._slots = self._slots, self._slots + 1
        self._executor.gate = self._overrides.custom_execute
        try:
            self._finish(self._executor.execute(lease, slot))
            if slot in self._run_hooks.tracked:
                self._run_hooks.after_commit(slot)
            assert self._executor.values is not None
            return self._executor.values.pop(lease.id, None)
        finally:
            self._free_slots.append(slot)

    def _note(self, run: Run, fraction: float, message: str | None) -> None:
        """Store what a body reports at once, since no turn comes before it ends."""
        self._notes.note(run, fraction, message)
        self._notes.write()

    def _finish(self, finish: Finish) -> None:
        """Write *finish* to the storage if the task is held there; for a loose task, write only what others can see of it."""
        lease = finish.lease
        if self._held.pop(lease.id, None) is not None:
            turn = self._storage.turn(self._me, [finish], 0)
            self._run_hooks.on_turn(Turn([], turn.stale, opened=turn.opened), [finish])
            self._notes.write([finish])
            return
        if finish.state == State.QUEUED:
            left = max(0, lease.retries - max(0, finish.attempt - lease.attempt))
            record = Record(lease.id, lease.name, lease.payload, lease.priority, finish.due, lease.expires, left, lease.retry_delay)
            record = record._replace(options=lease.options, delay=finish.delay, expires_in=finish.expires_in)
            if self._codec.signs:
                record = record._replace(payload=self._codec.redeclare(record.id, record.payload, declaration(record)))
            self._storage.enqueue([record])
        elif finish.value is not None:
            self._storage.put("result", lease.id, finish.value)
        self._run_hooks.on_turn(Turn([]), [finish])


def due_of(task: Task, is_local: bool) -> Micros | None:
    """Return when *task* is due, or None. A wall time is read on this machine's clock."""
    return task.due if task.wall is None else wall_to_micros(task.wall, is_local)


def _loose_lease(record: Record, token: int) -> Lease:
    """Return a lease for a task that no storage holds."""
    id, name, payload, priority, _, expires, retries, retry_delay, options, _, _ = record
    return Lease(id, token, name, payload, priority, 0, expires, retries, retry_delay, 0, 0, 0, None, options)
