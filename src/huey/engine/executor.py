"""Runs one task and says what came of it. Never touches a storage."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any

from huey.engine.contexts import fresh
from huey.engine.declared import as_declared, declared_if_readable
from huey.engine.end_log import tell_failure
from huey.engine.failures import CANCELED, REVOKED, TIMEOUT, described, outcome_of
from huey.engine.narrowing import failing
from huey.engine.passage import Gate, Passage
from huey.engine.run_hooks import RunHooks, TrackedRun
from huey.engine.task_decoder import task_of
from huey.engine.time_limits import TimeLimits
from huey.engine.wall import unread_wall_time
from huey.exceptions import ASKED_TO_STOP, DecodeError, EncodeError, TaskTimeout, UnknownTask
from huey.hooks import Hooks
from huey.registry import Registry
from huey.runtime import current_run as current
from huey.runtime.clock import Clock
from huey.runtime.failpoints import failpoint
from huey.runtime.functions import check_has_run
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import Mask, enroll, masks
from huey.serializer import Codec, MissingClass, NewerFormat
from huey.signals import Signals
from huey.storage.rows import Missing
from huey.task.lifecycle import UNKNOWN_TASK, Cancelled, Finish, Outcome, Raised, Returned, State, Unknown, decide
from huey.task.record import Lease
from huey.task.record_options import read_policy
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper

log = SafeLogger("huey.consumer")

Report = Callable[[Task, BaseException], dict[str, Any]]
"""Tells an exception in plain values, as the application wants it told."""


class Executor:
    """Knows the functions and the serializer; one instance serves all runners of a worker. *attendance*: hooks and handlers that are called
    around the bodies. *report*: replaces our own description of an error. *gate*: what every run passes through, see ``Huey._execute``."""

    def __init__(
        self,
        registry: Registry,
        codec: Codec,
        clock: Clock,
        timekeeper: TimeLimits | None = None,
        *,
        results: bool = True,
        store_none: bool = False,
        attendance: RunHooks | None = None,
        report: Report | None = None,
        is_local: bool = False,
        gate: Gate | None = None,
    ) -> None:
        """*is_local*: wall times are read as local time; else as UTC."""
        self._registry = registry
        self._codec = codec
        self._clock = clock
        self._timekeeper = timekeeper or TimeLimits(clock)
        self._results = results
        self._store_none = store_none
        self._attendance = attendance or RunHooks(Signals(), Hooks())
        self._report = report
        self._is_local = is_local
        self.gate = gate
        self._passages: dict[str, Passage] = {}
        """By task: those whose body raised, until that is told."""
        # Looked at for each task; they stay the same objects, mostly empty.
        self._handlers = self._attendance.signals.handlers
        self._pre, self._post = self._attendance.hooks.pre, self._attendance.hooks.post
        self._visits = self._attendance.visits
        self._lacking: set[Missing] = set()
        """What tasks waited for that this process could not run."""
        self.values: dict[str, Any] | None = None
        """By task: what the bodies returned, where somebody wants that."""

    def complete(self, lease: Lease, slot: int = 0) -> Finish:
        """Run the task, in the runner of that number, and decide what its end means. Never raises."""
        start, context = perf_counter(), fresh()
        try:
            outcome = None
            if self._codec.signs:
                lease, outcome = self._as_declared(lease)
            if outcome is None and lease.options is not None:
                outcome = unread_wall_time(lease, self._clock.now(), self._is_local)
                if outcome is not None:
                    self._attendance.tell_unstarted(lease, outcome)
            if outcome is None:
                outcome = context.run(self.run, lease, slot)
            finish = decide(lease, outcome, self._clock.now(), perf_counter() - start)
            if finish.error is not None:
                finish = self.settle(finish)
        except BaseException as error:  # Not the body, which is guarded: out of memory, or a fault of ours. No task may hang for it.
            log.critical("task %s %s cannot be ended as it should, it fails", lease.name, lease.id, exc_info=True)
            finish = self.settle(decide(lease, Raised(described(error), may_retry=False), self._clock.now(), perf_counter() - start))
        if self._visits:
            self._attendance.await_end(slot, finish, context)
        return finish

    def _as_declared(self, lease: Lease) -> tuple[Lease, Outcome | None]:
        """The lease as it was signed; and, if it must not run, what that means."""
        try:
            signed = as_declared(self._codec, lease)
        except DecodeError as error:
            return lease, _unreadable(error)
        # The storage has judged by its column; that may have been changed.
        is_late = signed.expires is not None and signed.expires != lease.expires and signed.expires <= self._clock.now()
        return signed, Cancelled(EXPIRED) if is_late else None

    def declared(self, lease: Lease) -> Lease:
        """The lease as it was signed, for who decides about it without a run; as it is, if that cannot be read."""
        return declared_if_readable(self._codec, lease)

    def run(self, lease: Lease, slot: int = 0) -> Outcome:
        """Run the task."""
        try:
            wrapper = self._registry.find(lease.name)
        except UnknownTask as error:
            return Unknown(described(error)) if lease.name else UNREADABLE
        limit = wrapper.options.timeout
        if lease.options is not None:
            limit = read_policy(lease.options).get("timeout", limit) or None
        keeper, thread = self._timekeeper, get_ident()
        mask = masks.get(thread) or enroll()
        # What is asked from here on strikes in the body, where the mask is open, and nowhere else.
        depth, mask.depth = mask.depth, 1
        if limit is None and keeper.page is None:
            # As most are in a program of its own: what ``enter`` and ``leave`` come to, without the calls.
            keeper.threads[slot] = thread
            keeper.current[slot] = lease
        else:
            keeper.enter(slot, lease, limit)
        try:
            args, kwargs = self._codec.decode("task", lease.id, lease.payload)
            if wrapper.needs_extras or self._handlers or self._pre or self._post or self.gate is not None:
                return self._run_with_task(wrapper, lease, slot, mask, args, kwargs)
            return self._body(wrapper, lease, slot, mask, args, kwargs, None, None)
        except DecodeError as error:
            return _unreadable(error)
        except ASKED_TO_STOP as error:  # A hook or an argument raised it by itself.
            return _asked(error)
        finally:
            keeper.current[slot] = None
            if keeper.page is not None or keeper.asks:
                keeper.leave(slot)
            mask.depth = depth

    def _run_with_task(
        self, wrapper: TaskWrapper[Any, Any], lease: Lease, slot: int, mask: Mask, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome:
        """Run a task that wants to see itself, or that others want to see."""
        task = task_of(wrapper.task_class, lease, args, kwargs)
        if task.timeout is not None:
            task.begins(self._timekeeper.time_left_of(slot))
        visit = None
        if self._handlers or self._pre or self._post:
            visit = self._attendance.begin(slot, lease, task)
            if visit.is_barred:
                return Cancelled(CANCELED)
        return self._body(wrapper, lease, slot, mask, args, wrapper.with_extras(task), visit, task)

    def _body(
        self,
        wrapper: TaskWrapper[Any, Any],
        lease: Lease,
        slot: int,
        mask: Mask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        visit: TrackedRun | None,
        task: Task | None,
    ) -> Outcome:
        failpoint("run:before-body")
        forks = _forks
        outside = current.run.set(lease[:2])
        try:
            mask.depth = 0
            try:
                if mask.news:
                    mask.leave()
                value = wrapper.func(*args, **kwargs) if self.gate is None or task is None else self._through_gate(self.gate, task)
            finally:
                mask.depth = 1
                if mask.news:
                    mask.settle()
            check_has_run(wrapper.name, value)
        except BaseException as error:  # The user's code: whatever it raises is an outcome, SystemExit included.
            return self._failed(wrapper, lease, slot, error, visit)
        finally:
            current.run.reset(outside)
            if _forks != forks:
                _end_of_copy(lease)
        failpoint("run:after-body")
        if visit is not None:
            visit.value = value
        if self.values is not None:
            self.values[lease.id] = value
        if not (self._results and wrapper.stores_result) or (value is None and not self._store_none):
            return Returned(None)
        try:
            return Returned(self._codec.encode("result", lease.id, value))
        except EncodeError as error:
            error = _of_a_handle(error, value)
            if visit is not None:
                visit.error = error
            # A further run would come to the same, and do what the body does once more.
            return Raised(described(error), may_retry=False, reason="result not storable")

    def _through_gate(self, gate: Gate, task: Task) -> Any:
        passage = Passage()
        try:
            return passage.run(gate, task)
        finally:
            if passage.error is not None:
                self._passages[task.id] = passage

    def _failed(self, wrapper: TaskWrapper[Any, Any], lease: Lease, slot: int, error: BaseException, visit: TrackedRun | None) -> Outcome:
        was_asked = self._timekeeper.was_asked_to_stop(slot)
        said = described(error, skip=1)
        if visit is not None:
            visit.error = error
        if self._report is not None:
            said = self._reported(visit.task if visit is not None else self._task_of(wrapper, lease), error) or said
        return outcome_of(error, said, wrapper.options, self._clock.now(), was_asked)

    def _task_of(self, wrapper: TaskWrapper[Any, Any], lease: Lease) -> Task:
        return task_of(wrapper.task_class, lease, *self._codec.decode("task", lease.id, lease.payload))

    def _reported(self, task: Task, error: BaseException) -> dict[str, Any] | None:
        """The error as the application tells it; None if that cannot be stored."""
        assert self._report is not None
        try:
            told = self._report(task, error)
            self._codec.encode("error", task.id, told)
            return told
        except BaseException:  # The user's code.
            log.exception("build_error_result raised, or gave what cannot be stored; the error of task %s is told as usual", task.id)
            return None

    def may_retry(self, lease: Lease, error: BaseException) -> bool:
        """Whether a run that ended by *error* is worth another try."""
        try:
            return self._registry.find(lease.name).options.may_retry(error)
        except UnknownTask:
            return True

    def settle(self, finish: Finish) -> Finish:
        """Tell a failure in the log, and give a final one the error that ``Result.get()`` raises."""
        lease, error = finish.lease, finish.error or {}
        passage = self._passages.pop(lease.id, None) if self._passages else None
        if finish.unknown_until is not None:
            self._tell_lacking(finish, error)
            return finish
        if passage is None or passage.context is None:
            tell_failure(finish, error)
        else:
            passage.context.run(tell_failure, finish, error, passage.error)
        if finish.state == State.QUEUED:
            # As the last failure tells them: those that this run had left.
            return finish._replace(error={**error, "retries": lease.retries_left})
        if not self._results or not self._stores(lease):
            return finish
        metadata = {**error, "retries": finish.retries_left, "task_id": lease.id}
        return finish._replace(value=self._codec.encode("error", lease.id, metadata))

    def _tell_lacking(self, finish: Finish, error: dict[str, Any]) -> None:
        """Once for each thing that is missing here, not for each task."""
        missing = Missing(finish.lease.name, finish.reason or "")
        level = logging.DEBUG if missing in self._lacking else logging.ERROR
        self._lacking.add(missing)
        log.log(
            level,
            "QueueException: %s [task %s and others like it wait up to 24 hours for a worker that can run them]",
            error.get("error"),
            finish.lease.id,
        )

    def can_run(self, missing: Missing) -> bool:
        """Whether tasks that wait for that can be run here, as far as is known."""
        if missing.reason != UNKNOWN_TASK:
            return missing not in self._lacking
        try:
            self._registry.find(missing.name)
        except UnknownTask:
            return False
        return True

    def unstorable(self, finish: Finish, error: BaseException) -> Finish:
        """The end of a run whose own end the storage could not take, and that is told to whoever waits for it."""
        return self.settle(failing(finish, error))

    def _stores(self, lease: Lease) -> bool:
        try:
            return self._registry.find(lease.name).stores_result
        except UnknownTask:
            return True


def _of_a_handle(error: EncodeError, value: Any) -> EncodeError:
    """Why a value cannot be stored, if it is the handle of another task."""
    if type(value).__module__ != "huey.client.result":
        return error
    return EncodeError(
        f"the task returned {value!r}, and a handle cannot be returned: return its id, and ask huey.result(id) for the value"
    )


def _unreadable(error: DecodeError) -> Outcome:
    """What a run comes to whose arguments cannot be read here."""
    if isinstance(error, NewerFormat):
        return Unknown(described(error), "newer record")
    if isinstance(error, MissingClass):
        return Unknown(described(error), f"unknown class {error.path}")
    return Raised(described(error), may_retry=False, reason="undecodable")


def _asked(error: BaseException) -> Outcome:
    """What a run comes to that was asked to stop beside its body."""
    return Raised(described(error), reason=TIMEOUT) if isinstance(error, TaskTimeout) else Cancelled(REVOKED, described(error))


_forks = 0
"""Forks between the start of the first process and this one."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def _end_of_copy(lease: Lease) -> None:
    """The body forked, and this is the copy that came back from it: it has the tasks in hand a second time, and must run none of them."""
    log.warning("task %s %s forked, and its copy (pid %d) came back from the body: it ends here", lease.name, lease.id, os.getpid())
    logging.shutdown()
    os._exit(0)


EXPIRED = "expired"
"""As storages say it of what they drop themselves."""
UNREADABLE = Raised({"error": "DecodeError: its record cannot be read; it is kept as it is", "traceback": ""}, False, "undecodable")
"""What a run of a record comes to that a storage could not read: such a one has no name."""
