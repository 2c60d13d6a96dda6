"""The crank in the caller's hand: the part of ``Huey`` that claims, runs and ends tasks without a consumer, one at a time, in this thread.

For tests of applications, and for immediate mode. It is the engine's way, step by step: claim, run, ``decide``, and one turn writes the
end. What is claimed is leased by this process; if that dies, any consumer takes it over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from huey.client.keyvalue import ALL, UserData
from huey.engine.declared import declaration
from huey.engine.task_decoder import TaskDecoder
from huey.exceptions import ERROR_TYPE, DecodeError
from huey.hooks import HookRoom
from huey.runtime import host
from huey.runtime.clock import Clock, Micros, Rng
from huey.runtime.once import once
from huey.runtime.times import micros_to_wall, wall_to_micros
from huey.signals import SIGNAL_ENQUEUED, SIGNAL_EXPIRED, SIGNAL_REVOKED, SIGNAL_SCHEDULED
from huey.storage.admin import message, read_message
from huey.storage.rows import Turn, Worker
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, State, decide
from huey.task.record import Lease, Record
from huey.task.task import Task

if TYPE_CHECKING:
    from huey.engine.executor import Executor
    from huey.engine.run_hooks import RunHooks
    from huey.engine.time_limits import TimeLimits

AT_ONCE = 256
"""Tasks that one turn brings at most."""


class ByHand(HookRoom, UserData):
    """Steps of a consumer, for the caller to take."""

    clock: Clock
    rng: Rng
    results: bool
    store_none: bool
    utc: bool
    in_flight: list[Callable[[], None]]
    """Consumers of this process; each tells that what it runs is cut short."""
    _hands: dict[tuple[int, int], Hand]
    """By process and storage."""

    if TYPE_CHECKING:

        def _put(self, records: Sequence[Record]) -> Mapping[str, str]: ...

        def _record(self, task: Task) -> Record: ...

        def _as_of(self, timestamp: datetime | None) -> Micros: ...

    # -- running ------------------------------------------------------------------------------------------------------------------------

    def attendance(self) -> RunHooks:
        """What calls hooks and handlers around runs; one for each consumer."""
        from huey.engine.run_hooks import RunHooks

        return RunHooks(self.signals, self.hooks, TaskDecoder(self.registry, self.codec), self.storage.get)

    def execution(self, timekeeper: TimeLimits | None = None, attendance: RunHooks | None = None, is_local: bool | None = None) -> Executor:
        """What runs tasks of this Huey. *is_local*: it reads wall times as local; None: unless this Huey has ``utc``."""
        from huey.engine.executor import Executor

        is_own = getattr(self.build_error_result, "__func__", None) is not ByHand.build_error_result
        return Executor(
            self.registry,
            self.codec,
            self.clock,
            timekeeper,
            results=self.results,
            store_none=self.store_none,
            attendance=attendance,
            is_local=not self.utc if is_local is None else is_local,
            report=self.build_error_result if is_own else None,
            gate=self.gate,
        )

    @property
    def gate(self) -> Callable[[Task], Any] | None:
        """``_execute``, where a subclass or an instrumentation has wrapped it; else None."""
        return self._execute if is_wrapped(self, "_execute", ByHand) else None

    def build_error_result(self, task: Task, exception: BaseException) -> dict[str, Any]:
        """What ``TaskException.metadata`` tells of a failure. Override it to tell more, in plain values."""
        from huey.engine.failures import described

        told = {name: value for name, value in described(exception).items() if name != ERROR_TYPE}
        return {**told, "retries": task.retries, "task_id": task.id}

    def notify_interrupted_tasks(self) -> None:
        """Send the signal ``interrupted`` for every task that runs in this process. A consumer does so when it cuts them short."""
        for tell in list(self.in_flight):
            tell()

    @contextmanager
    def announcing(self, records: Sequence[Record]) -> Iterator[None]:
        """A block in which *records* are put in; when it ends well, handlers are told, before anybody here runs them."""
        if not self.signals.wants(SIGNAL_ENQUEUED, SIGNAL_SCHEDULED):
            yield
            return
        reviver, now = TaskDecoder(self.registry, self.codec), self.clock.now()
        with self.signals.turnstile.holding([record.id for record in records]):
            yield
            for record in records:
                task = reviver.told(record, record.eta)
                self.signals.emit(SIGNAL_ENQUEUED, task)
                if record.eta is not None and record.eta > now:
                    self.signals.emit(SIGNAL_SCHEDULED, task)

    # -- one step at a time ------------------------------------------------------------------------------------------------------------

    def dequeue(self) -> Task | None:
        """Claim the next due task, for ``execute``; None when nothing is ready. Revoked and expired ones are dropped on the way."""
        return self._in_hand.take()

    def execute(self, task: Task, timestamp: datetime | None = None) -> Any:
        """One whole step with *task*, as of *timestamp* (None: now): not due, it is scheduled; revoked or expired, it is dropped; else it
        runs, and its end is written as a consumer would. The body's value; None when it did not run, or raised.

        A task that ``dequeue`` or ``read_schedule`` gave is ended in the storage; any other is run as it is. TypeError: no task.
        """
        if not isinstance(task, Task):
            raise TypeError(f"{task!r}: give a task, such as huey.dequeue() gives")
        return self._in_hand.step(task, self._as_of(timestamp))

    def _execute(self, task: Task, timestamp: datetime | None = None) -> Any:
        """Run the body of *task*: what it returns; None when it raised, which is kept for the engine.

        A subclass or an instrumentation may wrap it, by this name: every run of a consumer that starts then passes through it, with the
        task, and with *timestamp* None. Not wrapped, it is not called.
        """
        passage = task.passage
        if passage is not None:
            # A wrapper may run the body again: the last time counts.
            passage.error = None
        try:
            return task.execute()
        except BaseException as error:  # The user's code: what it raised is the outcome, which is decided where the run was begun.
            if passage is None:
                raise
            passage.fail(error)
            return None

    def ready_to_run(self, task: Task, timestamp: datetime | None = None) -> bool:
        """Whether the task is due at that time (None: now)."""
        due = _due(task, not self.utc)
        return due is None or due <= self._as_of(timestamp)

    def read_schedule(self, timestamp: datetime | None = None) -> list[Task]:
        """Scheduled tasks that are due then, taken off the schedule: leased by this process, for ``execute`` or ``enqueue``."""
        return self._in_hand.take_due(self._as_of(timestamp))

    def read_periodic(self, timestamp: datetime) -> list[Task]:
        """One task for each periodic function that matches that minute; not enqueued."""
        return [wrapper.task_class() for wrapper in self.registry.periodic if wrapper.validate_datetime(timestamp)]

    def add_schedule(self, task: Task) -> None:
        """Let the task wait for its time; one without a time is ready."""
        if not self._in_hand.put_back(task):
            self._put([self._record(task)])

    def serialize_task(self, task: Task) -> bytes:
        """The task as one message."""
        return message(self._record(task))

    def deserialize_task(self, data: bytes) -> Task:
        """The task of such a message. DecodeError: it is none. UnknownTask: no function of its name is known."""
        try:
            record = read_message(data)
        except (ValueError, TypeError) as error:
            raise DecodeError(f"no message of serialize_task: {error}") from error
        self.registry.find(record.name)
        return TaskDecoder(self.registry, self.codec).task(record, record.eta)

    def put_result(self, key: str, value: Any) -> None:
        """Store *value* as the result of the task with the id *key*."""
        self.storage.put("result", key, self.codec.encode("result", key, value), self.storage.result_ttl)

    @property
    def _in_hand(self) -> Hand:
        return once(self._hands, (os.getpid(), id(self.storage)), lambda: Hand(self))

    def _run_ready(self) -> None:
        """Run all that is ready, here; of several threads one at a time, so that each finds its own done."""
        with self._in_hand.one_at_a_time:
            while (task := self.dequeue()) is not None:
                self.execute(task)


def is_wrapped(huey: object, verb: str, home: type) -> bool:
    """Whether a method of *home* was overridden by a subclass, or replaced by an instrumentation."""
    return getattr(getattr(huey, verb), "__func__", None) is not vars(home)[verb]


class Hand:
    """What this process holds of one storage, and how it takes and ends it."""

    def __init__(self, huey: ByHand) -> None:
        from huey.engine.time_limits import TimeLimits

        self._storage = huey.storage
        self._clock = huey.clock
        self._is_local = not huey.utc
        if self._is_local:
            now = self._clock.now()
            self._storage.offset = micros_to_wall(now, True) - now
        self._record = huey._record
        self._codec = huey.codec
        self._pid = os.getpid()
        id = f"{huey.rng.getrandbits(128):032x}"
        self._me = Worker(id, os.uname().nodename, self._pid, host.pid_namespace(), host.process_start_time(self._pid) or 0)
        host.LOCAL_WORKER_IDS.add(id)
        self._attendance = huey.attendance()
        self._huey = huey
        self._execution = huey.execution(TimeLimits(huey.clock), self._attendance)
        self._execution.values = {}
        self._reviver = TaskDecoder(huey.registry, huey.codec)
        self._held: dict[str, Lease] = {}
        self._free: list[int] = []
        """Numbers that stand for a runner; a task that runs others in its body needs one more."""
        self._slots = 0
        self.one_at_a_time = threading.RLock()

    # -- taking -----------------------------------------------------------------------------------------------------------------------

    def take(self) -> Task | None:
        """Claim one."""
        while True:
            turn = self._storage.turn(self._me, [], 1)
            self._tell_dropped(turn.cancelled)
            for lease in turn.leases:
                self._held[lease.id] = lease
                return self._reviver.told(lease)
            if not turn.may_have_more:
                return None

    def take_due(self, at: Micros) -> list[Task]:
        """Claim those that are scheduled up to that time; the others go back to where they were."""
        due = {row.id: row.due for row in self._storage.find("scheduled", limit=ALL) if row.due is not None and row.due <= at}
        found: list[Lease] = []
        others: list[Lease] = []
        more = True
        while more and len(found) < len(due):
            turn = self._storage.turn(self._me, [], AT_ONCE, now=max(at, self._clock.now()))
            self._tell_dropped(turn.cancelled)
            for lease in turn.leases:
                (found if lease.id in due else others).append(lease)
            more = turn.may_have_more
        if others:
            self._storage.release(self._me, others)
        self._held.update({lease.id: lease for lease in found})
        return [self._reviver.told(lease, due[lease.id]) for lease in sorted(found, key=lambda lease: due[lease.id] or 0)]

    def put_back(self, task: Task) -> bool:
        """Let a task that is held here wait again, until its eta if that is ahead. False: it is not held here."""
        lease = self._held.get(task.id)
        if lease is None:
            return False
        self._write(
            Finish(lease, State.QUEUED, _due(task, self._is_local), lease.attempt, lease.solo_crashes, lease.deaths, reason="put back")
        )
        return True

    def _tell_dropped(self, refusals: Sequence[CancelledAtClaim]) -> None:
        if self._attendance.signals.handlers:
            for refusal in refusals:
                if (row := self._storage.get(refusal.id)) is not None:
                    self._tell_drop(self._reviver.told(row), refusal.reason)

    def _tell_drop(self, task: Task, reason: str) -> None:
        self._attendance.signals.emit(SIGNAL_EXPIRED if reason == "expired" else SIGNAL_REVOKED, task)

    # -- running ----------------------------------------------------------------------------------------------------------------------

    def step(self, task: Task, at: Micros) -> Any:
        """What ``execute`` does."""
        lease = self._held.get(task.id)
        due = _due(task, self._is_local)
        if due is not None and due > at:
            if lease is None or not self.put_back(task):
                self._storage.enqueue([self._record(task)])
            return None
        reason = self._why_not(task, at)
        if reason is not None:
            if lease is not None:
                self._write(decide(lease, Cancelled(reason), self._clock.now()))
            self._tell_drop(task, reason)
            return None
        return self._run(lease or _loose(self._record(task), task.token))

    def _why_not(self, task: Task, at: Micros) -> str | None:
        mark = self._storage.revocation(id=task.id, name=task.name)
        if mark is not None and mark.holds(at, self._storage.offset):
            if mark.once and not self._storage.restore([task.id]):
                # Obeyed by this very step.
                self._storage.restore_name(task.name)
            return "revoked"
        return "expired" if task.expires_at is not None and task.expires_at <= at else None

    def _run(self, lease: Lease) -> Any:
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._slots = self._slots, self._slots + 1
        self._execution.gate = self._huey.gate
        try:
            self._write(self._execution.complete(lease, slot))
            if slot in self._attendance.visits:
                self._attendance.see_off(slot)
            assert self._execution.values is not None
            return self._execution.values.pop(lease.id, None)
        finally:
            self._free.append(slot)

    def _write(self, finish: Finish) -> None:
        """Write an end: in the storage for what is held there; of a loose task what others can see of it."""
        lease = finish.lease
        if self._held.pop(lease.id, None) is not None:
            turn = self._storage.turn(self._me, [finish], 0)
            self._attendance.after(Turn([], turn.stale), [finish])
            return
        if finish.state == State.QUEUED:
            left = max(0, lease.retries - max(0, finish.attempt - lease.attempt))
            record = Record(lease.id, lease.name, lease.payload, lease.priority, finish.due, lease.expires, left, lease.retry_delay)
            record = record._replace(options=lease.options, delay=finish.delay, expires_in=finish.expires_in)
            if self._codec.signs:
                record = record._replace(payload=self._codec.redeclare(record.id, record.payload, declaration(record)))
            self._storage.enqueue([record])
        elif finish.value is not None:
            self._storage.put("result", lease.id, finish.value, self._storage.result_ttl)
        self._attendance.after(Turn([]), [finish])


def _due(task: Task, is_local: bool) -> Micros | None:
    """When the task is due, its wall time read on this clock."""
    return task.due if task.wall is None else wall_to_micros(task.wall, is_local)


def _loose(record: Record, token: int) -> Lease:
    """A task that no storage holds, as one that is leased."""
    id, name, payload, priority, _, expires, retries, retry_delay, options, _, _ = record
    return Lease(id, token, name, payload, priority, 0, expires, retries, retry_delay, 0, 0, 0, None, options)
