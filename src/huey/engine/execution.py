"""Runs one task and says what came of it. Never touches a storage."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from time import perf_counter
from typing import Any

from huey.clock import Clock
from huey.decorators import TaskWrapper
from huey.engine.timekeeper import Timekeeper
from huey.exceptions import DecodeError, EncodeError, TaskTimeout, UnknownTask
from huey.lifecycle import Finish, Outcome, Raised, Returned, State, Unknown, decide
from huey.registry import Registry
from huey.seams import crash_here
from huey.serializer import Codec, NewerFormat
from huey.task import Lease, Task

log = logging.getLogger("huey.consumer")

ERROR_CHARS = 2_000
TRACEBACK_CHARS = 20_000
"""At most so much of an error's text is kept, and of its traceback: the end, where the error stands."""


class Execution:
    """Knows the functions and the serializer; one instance serves all runners of a worker."""

    def __init__(
        self,
        registry: Registry,
        codec: Codec,
        clock: Clock,
        timekeeper: Timekeeper | None = None,
        *,
        results: bool = True,
        store_none: bool = False,
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._clock = clock
        self._timekeeper = timekeeper or Timekeeper(clock)
        self._results = results
        self._store_none = store_none

    def complete(self, lease: Lease, slot: int = 0) -> Finish:
        """Run the task, in the runner of that number, and decide what its end means. Never raises."""
        start = perf_counter()
        try:
            finish = decide(lease, self.run(lease, slot), self._clock.now(), perf_counter() - start)
            return finish if finish.error is None else self.settle(finish)
        except BaseException as error:  # Not the body, which is guarded: out of memory, or a fault of ours. No task may hang for it.
            self._timekeeper.leave(slot)
            log.critical("task %s %s cannot be ended as it should, it fails", lease.name, lease.id, exc_info=True)
            return decide(lease, Raised(described(error), may_retry=False), self._clock.now())

    def run(self, lease: Lease, slot: int = 0) -> Outcome:
        """Run the task."""
        try:
            wrapper = self._registry.find(lease.name)
        except UnknownTask as error:
            return Unknown(described(error))
        limit = wrapper.options.timeout
        if limit is None and not self._timekeeper.is_needed:
            return self._run(wrapper, lease)
        # From here on, since arguments are unpickled by the user's code too.
        self._timekeeper.enter(slot, lease, limit)
        try:
            return self._run(wrapper, lease)
        except TaskTimeout as error:  # It came beside the body, while arguments or the result were converted.
            return Raised(described(error), reason="timeout")
        finally:
            self._timekeeper.leave(slot)

    def _run(self, wrapper: TaskWrapper[Any, Any], lease: Lease) -> Outcome:
        try:
            args, kwargs = self._codec.decode("task", lease.id, lease.payload)
        except NewerFormat as error:
            return Unknown(described(error), "newer record")
        except DecodeError as error:
            return Raised(described(error), may_retry=False, reason="undecodable")
        if wrapper.needs_extras:
            kwargs = wrapper.with_extras(_task(wrapper, lease, args, kwargs))
        crash_here("run:before-body")
        forks = _forks
        try:
            value = wrapper.func(*args, **kwargs)
        except BaseException as error:  # The user's code: whatever it raises is an outcome, SystemExit included.
            return Raised(described(error, skip=1), reason="timeout" if isinstance(error, TaskTimeout) else "error")
        finally:
            if _forks != forks:
                _end_of_copy(lease)
        crash_here("run:after-body")
        if not (self._results and wrapper.stores_result) or (value is None and not self._store_none):
            return Returned(None)
        try:
            return Returned(self._codec.encode("result", lease.id, value))
        except EncodeError as error:
            return Raised(described(error), reason="result not storable")

    def settle(self, finish: Finish) -> Finish:
        """Tell a failure in the log, and give a final one the error that ``Result.get()`` raises."""
        lease, error = finish.lease, finish.error or {}
        left = max(0, lease.retries - finish.attempt)
        _tell(finish, error)
        if finish.state != State.FAILED or not self._results or not self._stores(lease):
            return finish
        metadata = {**error, "retries": left, "task_id": lease.id}
        return finish._replace(value=self._codec.encode("error", lease.id, metadata))

    def _stores(self, lease: Lease) -> bool:
        try:
            return self._registry.find(lease.name).stores_result
        except UnknownTask:
            return True


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


def described(error: BaseException, skip: int = 0) -> dict[str, Any]:
    """An exception as plain values. *skip*: our own frames at its top."""
    trace: Any = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    return {
        "error": _safe(repr, error)[:ERROR_CHARS],
        "traceback": _safe(lambda e: "".join(traceback.format_exception(type(e), e, trace)), error)[-TRACEBACK_CHARS:],
    }


def _safe(text_of: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        return text_of(error)
    except Exception as broken:  # The user's __repr__ or __str__ may raise too.
        return f"{type(error).__name__} (its text raised {type(broken).__name__})"


def _task(wrapper: TaskWrapper[Any, Any], lease: Lease, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
    """The task as its own function sees it."""
    return wrapper.task_class(
        args,
        kwargs,
        id=lease.id,
        retries=lease.retries_left,
        retry_delay=lease.retry_delay,
        priority=lease.priority,
        expires=lease.expires,
        attempt=lease.attempt,
        token=lease.token,
    )


def _tell(finish: Finish, error: dict[str, Any]) -> None:
    lease = finish.lease
    is_final = finish.state == State.FAILED
    if finish.reason == "unknown task":
        log.error(
            "QueueException: %s [task %s; %s]", error.get("error"), lease.id, "given up" if is_final else "put back for another worker"
        )
        return
    after = "no tries left" if is_final else f"it is tried again, {max(0, lease.retries - finish.attempt)} tries left after that"
    level = logging.ERROR if is_final or finish.reason == "error" else logging.WARNING
    log.log(
        level, "task failed: %s %s (%s, %s)\n%s", lease.name, lease.id, finish.reason, after, error.get("traceback") or error.get("error")
    )
