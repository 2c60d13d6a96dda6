"""Run one task and return its finish, without touching a storage."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from threading import get_ident
from time import perf_counter
from typing import Any

from huey.engine.end_log import log_failure
from huey.engine.failures import describe_exception, outcome_of_exception
from huey.engine.follow_ups import ON_ERROR, FollowUps, has_templates
from huey.engine.narrowing import failing
from huey.engine.parent_values import NotNeeded, ParentValues
from huey.engine.run_hooks import Gate, Passage, RunHooks, TrackedRun
from huey.engine.task_decoder import as_declared, build_task, declared_if_readable, unread_wall_time
from huey.engine.time_limits import TimeLimits
from huey.exceptions import ASKED_TO_STOP, DecodeError, EncodeError, StorageError, TaskTimeout, UnknownTask
from huey.hooks import Hooks
from huey.registry import Registry
from huey.runtime import current_run as current
from huey.runtime.clock import Clock
from huey.runtime.current_run import Run
from huey.runtime.failpoints import failpoint
from huey.runtime.functions import PLAIN, check_has_run
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import Mask, add_mask, masks
from huey.serializer import Codec, MissingClass, NewerFormat
from huey.signals import Signals
from huey.storage.rows import Missing
from huey.task import reasons
from huey.task.flow import FLOW
from huey.task.lifecycle import Cancelled, Finish, Outcome, Raised, Returned, Snoozed, State, Unrunnable, decide
from huey.task.record import Lease
from huey.task.record_options import read_policy
from huey.task.task import Task
from huey.task.wrapper import TaskWrapper

log = SafeLogger("huey.consumer")

ErrorReport = Callable[[Task, BaseException], dict[str, Any]]
"""A function of the application that describes an exception in plain values."""


class Executor:
    """Runs tasks; one instance serves all runners of a worker. *run_hooks*: called around the bodies. *report*: replaces huey's description
    of an error. *gate*: the function that every run passes through, see ``Huey._execute``."""

    def __init__(
        self,
        registry: Registry,
        codec: Codec,
        clock: Clock,
        time_limits: TimeLimits | None = None,
        *,
        results: bool = True,
        store_none: bool = False,
        run_hooks: RunHooks | None = None,
        report: ErrorReport | None = None,
        is_local: bool = False,
        gate: Gate | None = None,
        parent_values: ParentValues | None = None,
        follow_ups: FollowUps | None = None,
        note: Callable[[Run, float, str | None], None] | None = None,
    ) -> None:
        """Create the executor. *is_local*: wall times are local time, otherwise UTC. *parent_values*, *follow_ups*: for workflows.
        *note*: takes the progress that a body reports."""
        self._registry = registry
        self._codec = codec
        self._clock = clock
        self._time_limits = time_limits or TimeLimits(clock)
        self._results = results
        self._store_none = store_none
        self._run_hooks = run_hooks or RunHooks(Signals(), Hooks())
        self._report = report
        self._is_local = is_local
        self.gate = gate
        self._parent_values = parent_values
        self._follow_ups = follow_ups
        self._note = note
        self._errors: dict[str, BaseException] = {}
        """By task: what the body raised, until its handler is made."""
        self._passages: dict[str, Passage] = {}
        """The errors of bodies that raised, by task, until they are logged."""
        # Checked for each task; these objects never change identity, and are mostly empty.
        self._handlers = self._run_hooks.signals.handlers
        self._pre, self._post = self._run_hooks.hooks.pre, self._run_hooks.hooks.post
        self._tracked = self._run_hooks.tracked
        self._missing: set[Missing] = set()
        """The missing functions and classes of tasks that this process could not run."""
        self.values: dict[str, Any] | None = None
        """The return values of bodies, by task; None if nothing needs them."""
        self.raised: dict[str, BaseException] | None = None
        """What bodies raised, by task; None if nothing needs it."""

    def execute(self, lease: Lease, slot: int = 0) -> Finish:
        """Run the task in runner *slot*, and decide what its outcome means. Never raises."""
        start, context = perf_counter(), copy_context()
        try:
            if len(context):
                separate_decimals(context)
            outcome = None
            if self._codec.signs:
                lease, outcome = self._verify(lease)
            if outcome is None and lease.options is not None:
                outcome = unread_wall_time(lease, self._clock.now(), self._is_local)
                if outcome is not None:
                    self._run_hooks.not_started(lease, outcome)
            if outcome is None:
                outcome = context.run(self.run, lease, slot)
            finish = decide(lease, outcome, self._clock.now(), perf_counter() - start)
            if finish.error is not None:
                finish = self.finalize(finish)
        except BaseException as error:  # Not from the guarded body: out of memory, or a bug in huey. No task may hang.
            log.critical("task %s %s failed outside its body, in huey", lease.name, lease.id, exc_info=True)
            failed = Raised(describe_exception(error), may_retry=False)
            finish = self.finalize(decide(lease, failed, self._clock.now(), perf_counter() - start))
        if lease.options is not None and finish.value is not None and self._follow_ups is not None:
            self._follow_ups.share_result(finish, self._codec)
        if self._tracked:
            self._run_hooks.await_commit(slot, finish, context)
        return finish

    def _verify(self, lease: Lease) -> tuple[Lease, Outcome | None]:
        """Return the lease as it was signed, and the outcome if it must not run."""
        try:
            signed = as_declared(self._codec, lease)
        except DecodeError as error:
            return lease, not_started(lease, error)
        # The storage used its column, which may have been changed.
        is_late = signed.expires is not None and signed.expires != lease.expires and signed.expires <= self._clock.now()
        return signed, Cancelled(reasons.EXPIRED) if is_late else None

    def declared(self, lease: Lease) -> Lease:
        """Return the lease as it was signed, for decisions made without a run; unchanged if that cannot be read."""
        return declared_if_readable(self._codec, lease)

    def run(self, lease: Lease, slot: int = 0) -> Outcome:
        """Run the task in runner *slot*, within the context of the run."""
        try:
            wrapper = self._registry.find(lease.name)
        except UnknownTask as error:
            return Unrunnable(describe_exception(error)) if lease.name else UNREADABLE
        limit = wrapper.options.timeout
        if lease.options is not None:
            limit = self._read_options(lease, limit)
        limits, thread = self._time_limits, get_ident()
        mask = masks.get(thread) or add_mask()
        # From here on, exceptions raised from outside arrive only in the body, where the mask is open.
        depth, mask.depth = mask.depth, 1
        if limit is None and limits.scoreboard is None:
            # `track` and `untrack` inlined: every task of an in-process worker passes here.
            limits.threads[slot] = thread
            limits.current[slot] = lease
        else:
            limits.track(slot, lease, limit)
        try:
            args, kwargs = self._codec.decode("task", lease.id, lease.payload)
            if lease.options is not None and lease.parents and self._parent_values is not None:
                args, kwargs = self._parent_values.add(lease, args, kwargs)
            if wrapper.needs_extras or self._handlers or self._pre or self._post or self.gate is not None:
                return self._run_with_task(wrapper, lease, slot, mask, args, kwargs)
            return self._run_body(wrapper, lease, slot, mask, args, kwargs, None, None)
        except (DecodeError, NotNeeded, StorageError) as error:  # From its arguments, or what its parents passed on.
            return not_started(lease, error)
        except ASKED_TO_STOP as error:  # A hook or an argument raised it on its own.
            return _stopped(error)
        finally:
            limits.current[slot] = None
            if limits.limited or limits.stopping or limits.scoreboard is not None:
                limits.untrack(slot)
            mask.depth = depth

    def _read_options(self, lease: Lease, limit: float | None) -> float | None:
        """Return the time limit of the run; *limit*: that of its function. A member of a flow is recorded as one."""
        policy = read_policy(lease.options)
        if FLOW in policy:
            current.enter_flow(current.FlowRun(lease[:2], *policy[FLOW]))
        return policy.get("timeout", limit) or None

    def _run_with_task(
        self, wrapper: TaskWrapper[Any, Any], lease: Lease, slot: int, mask: Mask, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome:
        """Run a task whose `Task` object is needed: by its function, by hooks or handlers, or by the gate."""
        task, tracked = self._prepare_task(wrapper, lease, slot, args, kwargs)
        if tracked is not None and tracked.is_skipped:
            return Cancelled(reasons.CANCELED)
        return self._run_body(wrapper, lease, slot, mask, args, wrapper.with_extras(task), tracked, task)

    def _prepare_task(
        self, wrapper: TaskWrapper[Any, Any], lease: Lease, slot: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Task, TrackedRun | None]:
        """Return the `Task` object of a run, after the hooks and handlers for its start, and the run if they have to know of its end."""
        task = build_task(wrapper.task_class, lease, args, kwargs)
        if task.timeout is not None:
            task.begins(self._time_limits.time_left_of(slot))
        if self._note is not None:
            task.reports_to(partial(self._note, lease[:2]))
        if self._handlers or self._pre or self._post:
            return task, self._run_hooks.before_run(slot, lease, task)
        return task, None

    def _run_body(
        self,
        wrapper: TaskWrapper[Any, Any],
        lease: Lease,
        slot: int,
        mask: Mask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tracked: TrackedRun | None,
        task: Task | None,
    ) -> Outcome:
        failpoint("run:before-body")
        forks = _forks
        outside = current.run.set(lease[:2])
        try:
            mask.depth = 0
            try:
                if mask.news:
                    mask.after_opening()
                value = wrapper.body(*args, **kwargs) if self.gate is None or task is None else self._run_gate(self.gate, task)
            finally:
                mask.depth = 1
                if mask.news:
                    mask.after_closing()
            if type(value) not in PLAIN:
                check_has_run(wrapper.name, value)
        except BaseException as error:  # User code: every exception is an outcome, including SystemExit.
            return self._failed(wrapper, lease, slot, error, tracked)
        finally:
            current.run.reset(outside)
            if _forks != forks:
                exit_forked_child(lease)
        return self._returned(wrapper, lease, tracked, value)

    def _returned(self, wrapper: TaskWrapper[Any, Any], lease: Lease, tracked: TrackedRun | None, value: Any) -> Outcome:
        """Return the outcome of a body that has returned *value*."""
        failpoint("run:after-body")
        if tracked is not None or self.values is not None:
            self._keep_value(lease, tracked, value)
        is_stored = self._results and wrapper.stores_result and (value is not None or self._store_none)
        try:
            if lease.options is not None and self._follow_ups is not None:
                return self._passed_on(self._follow_ups, lease, value, is_stored)
            return Returned(self._codec.encode("result", lease.id, value) if is_stored else None)
        except EncodeError as error:
            error = _explain_handle(error, value)
            if tracked is not None:
                tracked.error = error
            # Another run would end the same way, and repeat the effects of the body.
            return Raised(describe_exception(error), may_retry=False, reason=reasons.NOT_STORABLE)

    def _passed_on(self, follow_ups: FollowUps, lease: Lease, value: Any, is_stored: bool) -> Outcome:
        """Return the outcome of a run whose value may go to other tasks: as the stored result, else as an output, which None needs not."""
        is_output = not is_stored and value is not None and lease.has_children
        encoded = self._codec.encode("result", lease.id, value) if is_stored or is_output else None
        flow = current.flow_of(lease[:2])
        following = follow_ups.of_success(lease, value) if flow is None or flow.additions is None else flow.additions.prepared()
        return Returned(encoded if is_stored else None, encoded if is_output else None, following)

    def _keep_value(self, lease: Lease, tracked: TrackedRun | None, value: Any) -> None:
        if tracked is not None:
            tracked.value = value
        if self.values is not None:
            self.values[lease.id] = value

    def _run_gate(self, gate: Gate, task: Task) -> Any:
        passage = Passage()
        try:
            return passage.run(gate, task)
        finally:
            if passage.error is not None:
                self._passages[task.id] = passage

    def _failed(self, wrapper: TaskWrapper[Any, Any], lease: Lease, slot: int, error: BaseException, tracked: TrackedRun | None) -> Outcome:
        was_revoked = self._time_limits.was_asked_to_stop(slot)
        description = describe_exception(error, skip=1)
        if tracked is not None:
            tracked.error = error
        if self.raised is not None:
            self.raised[lease.id] = error
        if has_templates(lease, ON_ERROR):
            self._errors[lease.id] = error
        if self._report is not None:
            description = self._reported(tracked.task if tracked is not None else self._task_of(wrapper, lease), error) or description
        return outcome_of_exception(error, description, wrapper.options, self._clock.now(), was_revoked)

    def _task_of(self, wrapper: TaskWrapper[Any, Any], lease: Lease) -> Task:
        return build_task(wrapper.task_class, lease, *self._codec.decode("task", lease.id, lease.payload))

    def _reported(self, task: Task, error: BaseException) -> dict[str, Any] | None:
        """Return the application's own description of the error; None if it cannot be stored."""
        assert self._report is not None
        try:
            description = self._report(task, error)
            self._codec.encode("error", task.id, description)
            return description
        except BaseException:  # User code.
            log.exception("build_error_result raised, or its value cannot be stored; task %s gets the usual error instead", task.id)
            return None

    def may_retry(self, lease: Lease, error: BaseException) -> bool:
        """Return whether a run that ended with *error* may be retried."""
        wrapper = self._known(lease.name)
        return wrapper is None or wrapper.options.may_retry(error)

    def finalize(self, finish: Finish) -> Finish:
        """Log a failure, and give a final one the error that ``Result.get()`` raises."""
        lease, error = finish.lease, finish.error or {}
        passage = self._passages.pop(lease.id, None) if self._passages else None
        if finish.unknown_until is not None:
            self._log_missing(finish, error)
            return finish
        if passage is None or passage.context is None:
            log_failure(finish, error)
        else:
            passage.context.run(log_failure, finish, error, passage.error)
        if lease.options is not None and self._follow_ups is not None:
            finish = self._follow_ups.of_failure(finish, self._errors.pop(lease.id, None))
        if finish.state == State.QUEUED:
            # The retries that this run had left, as in the last failure.
            return finish._replace(error={**error, "retries": lease.retries_left})
        wrapper = self._known(lease.name) if self._results else None
        if not self._results or (wrapper is not None and not wrapper.stores_result):
            return finish
        metadata = {**error, "retries": finish.retries_left, "task_id": lease.id}
        return finish._replace(value=self._codec.encode("error", lease.id, metadata))

    def _log_missing(self, finish: Finish, error: dict[str, Any]) -> None:
        """Log an error once per missing function or class, rather than once per task."""
        missing = Missing(finish.lease.name, finish.reason or "")
        level = logging.DEBUG if missing in self._missing else logging.ERROR
        self._missing.add(missing)
        log.log(
            level,
            "QueueException: %s [task %s and others like it wait up to 24 hours for a worker that can run them]",
            error.get("error"),
            finish.lease.id,
        )

    def can_run(self, missing: Missing) -> bool:
        """Return whether tasks that wait for *missing* can be run here, as far as this process knows."""
        if missing.reason != reasons.UNKNOWN_TASK:
            return missing not in self._missing
        return self._known(missing.name) is not None

    def unstorable(self, finish: Finish, error: BaseException) -> Finish:
        """Return the replacement for a finish that the storage could not store, with the error that the caller gets."""
        return self.finalize(failing(finish, error))

    def _known(self, name: str) -> TaskWrapper[Any, Any] | None:
        try:
            return self._registry.find(name)
        except UnknownTask:
            return None


def _explain_handle(error: EncodeError, value: Any) -> EncodeError:
    """Return a better error if *value*, which cannot be stored, is the handle of another task."""
    if not type(value).__module__.startswith("huey.client.result"):
        return error
    return EncodeError(
        f"the task returned {value!r}, and a handle cannot be returned: return its id, and use huey.result(id) to get the value"
    )


def not_started(lease: Lease, error: DecodeError | NotNeeded | StorageError) -> Outcome:
    """Return the outcome of a run that did not start, because its arguments, or what its parents passed on, could not be read."""
    if isinstance(error, DecodeError):
        return _undecodable(error)
    if isinstance(error, NotNeeded):
        return Cancelled(reasons.NOT_NEEDED)
    log.warning("task %s %s cannot read what it waited for, and is put back: %s", lease.name, lease.id, error)
    return Snoozed(UNREAD_DELAY, reasons.PARENTS_UNREAD)


def _undecodable(error: DecodeError) -> Outcome:
    """Return the outcome of a run whose arguments cannot be read here."""
    if isinstance(error, NewerFormat):
        return Unrunnable(describe_exception(error), reasons.NEWER_RECORD)
    if isinstance(error, MissingClass):
        return Unrunnable(describe_exception(error), f"{reasons.UNKNOWN_CLASS} {error.path}")
    return Raised(describe_exception(error), may_retry=False, reason=reasons.UNDECODABLE)


def _stopped(error: BaseException) -> Outcome:
    """Return the outcome of a run that was asked to stop outside its body."""
    if isinstance(error, TaskTimeout):
        return Raised(describe_exception(error), reason=reasons.TIMEOUT)
    return Cancelled(reasons.REVOKED, describe_exception(error))


_forks = 0
"""How many forks led from the first process to this one."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def exit_forked_child(lease: Lease) -> None:
    """Exit a child process that a task forked and that returned from the task, because it shares the leases of its parent."""
    log.warning("task %s %s forked, and the child (pid %d) returned from the task: the child exits", lease.name, lease.id, os.getpid())
    logging.shutdown()
    os._exit(0)


UNREAD_DELAY = 1.0
"""Seconds until the next run of a task whose parents' values could not be read."""
UNREADABLE = Raised({"error": "DecodeError: its record cannot be read; it is kept unchanged", "traceback": ""}, False, reasons.UNDECODABLE)
"""The outcome for a record that a storage could not read; such a record has no name."""


def separate_decimals(context: Context) -> None:
    """Give *context*, a copy of that of the thread, a decimal context of its own: the copy shares that object, which may be changed.

    What a body sets in context variables, or for decimals, does not reach the next run; what ``on_startup`` set in the thread reaches every
    run. What belongs to the process (locale, working directory, environment) or to the thread (``threading.local``) stays as a body
    leaves it.
    """
    if any(variable.name == "decimal_context" for variable in context):
        context.run(_copy_decimal_context)


def _copy_decimal_context() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())
