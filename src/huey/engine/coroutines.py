"""Run one coroutine as a task, in three steps: what comes before its body, the coroutine, what comes after.

The steps before and after are those of the executor. They are plain functions: the event loop calls them if they only compute, and another
thread if they call hooks or handlers, or ask the storage.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

from huey.engine.executor import Executor, not_started, separate_decimals
from huey.engine.failures import describe_exception
from huey.engine.parent_values import NotNeeded
from huey.engine.run_hooks import TrackedRun
from huey.engine.task_decoder import unread_wall_time
from huey.exceptions import DecodeError, StorageError, UnknownTask
from huey.runtime import current_run as current
from huey.runtime.clock import FOREVER, SECOND, Micros
from huey.runtime.failpoints import failpoint
from huey.runtime.functions import PLAIN, check_has_run
from huey.runtime.logs import SafeLogger
from huey.task import reasons
from huey.task.lifecycle import Cancelled, Finish, Outcome, Raised, Snoozed, Unrunnable, decide
from huey.task.record import Lease
from huey.task.wrapper import TaskWrapper

if TYPE_CHECKING:
    from asyncio import Task, TimerHandle

log = SafeLogger("huey.consumer")


class ShutDown(BaseException):
    """The reason for cancelling a coroutine whose worker stops: it is requeued."""


class CoroutineRun:
    """One run of a coroutine. *post*: calls a function with one argument in the thread of the event loop."""

    __slots__ = (
        "_post", "began", "context", "coroutine", "end", "in_threads", "is_cooperative", "lease", "limit", "outcome", "reason", "slot",
        "task", "timer", "tracked", "wrapper",
    )  # fmt: skip

    def __init__(self, lease: Lease, slot: int, context: Context, in_threads: bool, began: Micros, post: Callable[..., Any]) -> None:
        self.lease = lease
        self.slot = slot
        self.context = context
        self.in_threads = in_threads
        """Whether other threads do what comes before and after its body."""
        self._post = post
        self.began = began
        self.wrapper: TaskWrapper[Any, Any] | None = None
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        """Its body; None before `CoroutineExecutor.begin`, or if it does not run."""
        self.tracked: TrackedRun | None = None
        self.outcome: Outcome | None = None
        """The outcome of a run that ends without its body."""
        self.limit: float | None = None
        self.end = FOREVER
        self.is_cooperative = False
        self.task: Task[Any] | None = None
        """Set while the body runs."""
        self.timer: TimerHandle | None = None
        self.reason: type[BaseException] | None = None
        """Why it was cancelled, as the exception that a plain function would get."""

    def ask(self, reason: type[BaseException]) -> None:
        """Cancel it; call it in any thread."""
        self._post(self.cancel, reason)

    def cancel(self, reason: type[BaseException]) -> None:
        """Cancel it, also if its body has not started; call it in the thread of the loop."""
        self.reason = reason
        if self.task is not None:
            self.task.cancel()


class CoroutineExecutor(Executor):
    """An executor of plain functions and of coroutines."""

    def runs_in_loop(self, lease: Lease) -> bool:
        """Return whether the task is a coroutine that can run in an event loop. One that a replaced ``Huey._execute`` runs cannot."""
        wrapper = self._known(lease.name)
        return wrapper is not None and wrapper.is_async and self.gate is None

    def may_block(self, lease: Lease) -> bool:
        """Return whether the steps before and after the body may call functions of the application, or ask the storage."""
        return lease.options is not None or bool(self._handlers or self._pre or self._post) or self._report is not None

    def begin(self, run: CoroutineRun) -> None:
        """Do what comes before the body, in the context of the run. Afterwards the run has a coroutine or an outcome. Never raises."""
        try:
            if len(run.context):
                separate_decimals(run.context)
            if self._codec.signs:
                run.lease, run.outcome = self._verify(run.lease)
            if run.outcome is None and run.lease.options is not None:
                run.outcome = late = unread_wall_time(run.lease, self._clock.now(), self._is_local)
                if late is not None:
                    self._run_hooks.not_started(run.lease, late)
            if run.outcome is None:
                run.outcome = self._make_coroutine(run)
        except BaseException as error:  # Not from user code: out of memory, or a bug in huey. No task may hang.
            run.outcome = self._of_fault(run.lease, error)

    def _make_coroutine(self, run: CoroutineRun) -> Outcome | None:
        lease = run.lease
        try:
            run.wrapper = wrapper = self._registry.find(lease.name)
        except UnknownTask as error:
            return Unrunnable(describe_exception(error))
        run.limit = wrapper.options.timeout
        if lease.options is not None:
            run.limit = self._read_options(lease, run.limit)
        self._time_limits.track_coroutine(run.slot, lease, run.limit, run)
        try:
            args, kwargs = self._codec.decode("task", lease.id, lease.payload)
            if lease.options is not None and lease.parents and self._parent_values is not None:
                args, kwargs = self._parent_values.add(lease, args, kwargs)
            if wrapper.needs_extras or self._handlers or self._pre or self._post:
                task, run.tracked = self._prepare_task(wrapper, lease, run.slot, args, kwargs)
                if run.tracked is not None and run.tracked.is_skipped:
                    return Cancelled(reasons.CANCELED)
                kwargs = wrapper.with_extras(task)
        except (DecodeError, NotNeeded, StorageError) as error:  # From its arguments, or what its parents passed on.
            return not_started(lease, error)
        failpoint("run:before-body")
        current.run.set(lease[:2])
        try:
            run.coroutine = wrapper.func(*args, **kwargs)
        except BaseException as error:  # User code: a decorator of the application, or arguments that do not fit.
            return self._failed(wrapper, lease, run.slot, error, run.tracked)
        return None

    def finish(self, run: CoroutineRun, value: Any = None, error: BaseException | None = None) -> Finish:
        """Do what comes after the body, which has returned *value* or raised *error*, and decide what that means. Never raises."""
        lease = run.lease
        try:
            outcome = run.outcome or self._outcome(run, value, error)
            finish = decide(lease, outcome, self._clock.now(), (self._clock.monotonic() - run.began) / SECOND)
            if finish.error is not None:
                finish = self.finalize(finish)
        except BaseException as fault:  # Not from user code, as above.
            finish = self.finalize(decide(lease, self._of_fault(lease, fault), self._clock.now()))
        self._time_limits.untrack_coroutine(run.slot)
        if lease.options is not None and finish.value is not None and self._follow_ups is not None:
            self._follow_ups.share_result(finish, self._codec)
        if self._tracked:
            self._run_hooks.await_commit(run.slot, finish, run.context)
        return finish

    def _outcome(self, run: CoroutineRun, value: Any, error: BaseException | None) -> Outcome:
        assert run.wrapper is not None
        if error is None and type(value) not in PLAIN:
            try:
                check_has_run(run.wrapper.name, value)
            except TypeError as wrong:
                error = wrong
        if error is None:
            return self._returned(run.wrapper, run.lease, run.tracked, value)
        if isinstance(error, ShutDown):
            return Snoozed(0, reasons.SHUTDOWN)
        return self._failed(run.wrapper, run.lease, run.slot, error, run.tracked)

    def _of_fault(self, lease: Lease, error: BaseException) -> Outcome:
        log.critical("task %s %s failed outside its body, in huey", lease.name, lease.id, exc_info=True)
        return Raised(describe_exception(error), may_retry=False)
