"""Runs of ``django.tasks`` tasks: call the function, and store the metadata that Django asks for.

While a task is queued or running, its row has the call, and a small record beside it has what the row has no column for (start, workers,
errors). When the task has succeeded, one value holds everything, stored together with the finish.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple

from django.conf import settings

from huey.api import Huey
from huey.djhuey.database import close_connections, close_old_connections
from huey.djhuey.framework import TaskContext, TaskError, TaskResult, TaskResultStatus, normalize_json, signals
from huey.engine.failures import outcome_of_exception
from huey.runtime import display as shown
from huey.runtime.clock import SECOND, Micros, micros
from huey.runtime.logs import SafeLogger, is_ctrl_c
from huey.runtime.masking import masked, opened
from huey.storage.base import DEAD_LETTERS_KEPT
from huey.task.lifecycle import State, decide
from huey.task.record import Lease
from huey.task.task import Task

log = SafeLogger("huey.djhuey")

KIND = "django"
"""Kind of the values that hold the records."""
ABOUT, TASK = "_about", "task"
"""Keywords of a run that are not arguments of the call."""


class CallMetadata(NamedTuple):
    """The metadata of a call that Django asks for, besides its arguments."""

    backend: str
    queue_name: str
    run_after: Micros | None
    priority: int
    enqueued: Micros | None

    def to_keyword(self, prototype: Any) -> dict[str, Any]:
        """Return a keyword to store with the arguments if the call differs from the declaration; the row has the rest."""
        declared = (self.backend, self.queue_name, self.run_after)
        return {} if declared == (prototype.backend, prototype.queue_name, None) else {ABOUT: declared}

    @classmethod
    def of_keyword(cls, prototype: Any, stored: Any, priority: int, enqueued: Micros | None) -> CallMetadata:
        backend, queue_name, run_after = stored or (prototype.backend, prototype.queue_name, None)
        return cls(backend, queue_name, run_after, priority, enqueued)


class RunLog:
    """The records of the runs of a queue. They are signed like all messages, since they name classes to import."""

    def __init__(self, huey: Huey) -> None:
        self._huey = huey

    def read_into(self, result: Any) -> None:
        """Set in *result* what is known about its runs so far."""
        data = self._huey.storage.peek(KIND, result.id)
        if data is not None:
            apply_record(result, self._huey.codec.decode("journal", result.id, data))

    def write(self, result: Any) -> None:
        data = self._huey.codec.encode("journal", result.id, record_of(result))
        self._huey.storage.put(KIND, result.id, data, DEAD_LETTERS_KEPT / SECOND)

    def forget(self, id: str) -> None:
        self._huey.storage.delete(KIND, id)


def record_of(result: Any) -> dict[str, Any]:
    """Return what is known about the runs, as plain values."""
    return {
        "started": to_micros(result.started_at),
        "attempted": to_micros(result.last_attempted_at),
        "workers": list(result.worker_ids),
        "errors": [[error.exception_class_path, error.traceback] for error in result.errors],
    }


def apply_record(result: Any, record: dict[str, Any]) -> None:
    """Set in *result* what ``record_of`` returned."""
    force_set(
        result,
        started_at=as_time(record["started"]),
        last_attempted_at=as_time(record["attempted"]),
        worker_ids=list(record["workers"]),
        errors=[TaskError(exception_class_path=path, traceback=text) for path, text in record["errors"]],
    )


def force_set(result: Any, **values: Any) -> None:
    """Set attributes of a result, which is frozen for users but not for its backend."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def new_result(task: Any, id: str, args: Any, kwargs: Any, enqueued: Micros | None = None) -> Any:
    """Return the result of a queued task. Raise TypeError or ValueError for arguments that JSON cannot represent."""
    return TaskResult(
        task=task,
        id=id,
        status=TaskResultStatus.READY,
        enqueued_at=as_time(enqueued),
        started_at=None,
        last_attempted_at=None,
        finished_at=None,
        args=args,
        kwargs=kwargs,
        backend=task.backend,
        errors=[],
        worker_ids=[],
    )


def runner(prototype: Any, backend_of: Callable[[str], Any]) -> Callable[..., Any]:
    """Return the function that huey runs for the task *prototype*; *backend_of* returns the backend of an alias."""

    @masked
    @wraps(prototype.func)
    def run(*args: Any, task: Task, _about: Any = None, **kwargs: Any) -> dict[str, Any]:
        backend = backend_of((_about or [prototype.backend])[0])
        row = backend.huey.storage.get(task.id)
        about = CallMetadata.of_keyword(prototype, _about, task.priority, row and row.created)
        result = new_result(backend.task_of_call(prototype, about), task.id, args, kwargs, about.enqueued)
        journal = RunLog(backend.huey)
        if task.token > 1:
            journal.read_into(result)
        close_old_connections()
        try:
            begin(backend, result, (row and row.worker) or "", journal.write if backend.records_starts else None)
            perform(backend, result, journal.write, lambda error: is_final(backend.huey, task, error))
        finally:
            close_connections()
        if task.token > 1 or backend.records_starts:
            journal.forget(task.id)
        return {
            "name": task.name,
            "args": result.args,
            "kwargs": result.kwargs,
            "about": list(about),
            "finished": to_micros(result.finished_at),
            "value": result._return_value,
            **record_of(result),
        }

    run.prototype = prototype  # type: ignore[attr-defined]
    run.__signature__ = _signature(prototype)  # type: ignore[attr-defined]
    return run


def _signature(prototype: Any) -> Signature:
    """Return the signature of a call: unique keys and the inspector need the names of the arguments."""
    own = list(signature(prototype.func).parameters.values())[int(prototype.takes_context) :]
    more = [Parameter(ABOUT, Parameter.KEYWORD_ONLY, default=None)]
    at = next((index for index, it in enumerate(own) if it.kind is Parameter.VAR_KEYWORD), len(own))
    return Signature([*own[:at], *more, *own[at:]])


def call_of(run: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call as huey accepts it: an argument named ``task`` is passed by position, since runs get their task under that name. Raise
    TypeError if that is impossible."""
    if TASK in kwargs:
        bound = signature(run).bind(*args, **kwargs)
        args, kwargs = bound.args, bound.kwargs
        if TASK in kwargs:
            raise TypeError("a parameter that is keyword-only cannot be called 'task'; give it another name")
    return tuple(args), kwargs


def begin(backend: Any, result: Any, worker: str, save: Callable[[Any], None] | None) -> None:
    """Record in *result* that a run begins, *save* it if requested, and send the signal."""
    now = as_time(backend.huey.clock.now())
    force_set(result, status=TaskResultStatus.RUNNING, started_at=result.started_at or now, last_attempted_at=now)
    result.worker_ids.append(worker)
    if save is not None:
        save(result)
    send_signal(signals.task_started, type(backend), result)


def perform(backend: Any, result: Any, save: Callable[[Any], None], is_last: Callable[[BaseException], bool]) -> None:
    """Call the function of *result* and set its outcome. An exception is saved and raised again; *is_last* says whether that failure is
    final."""
    clock, sender, task = backend.huey.clock, type(backend), result.task
    context = (TaskContext(task_result=result),) if task.takes_context else ()
    try:
        value = normalize_json(opened(task.call)(*context, *result.args, **result.kwargs))
    except BaseException as error:  # The user's code: any exception has to be stored.
        result.errors.append(describe_exception(error))
        ends = is_last(error)
        status = TaskResultStatus.FAILED if ends else TaskResultStatus.READY
        force_set(result, status=status, finished_at=as_time(clock.now()) if ends else None)
        save(result)
        if ends:
            send_signal(signals.task_finished, sender, result)
        raise
    force_set(result, status=TaskResultStatus.SUCCESSFUL, finished_at=as_time(clock.now()), _return_value=value)
    send_signal(signals.task_finished, sender, result)


def send_signal(signal: Any, sender: type, result: Any) -> None:
    """Send a signal. Django isolates an Exception of a receiver; any other BaseException is logged, and the task continues."""
    try:
        signal.send_robust(sender=sender, task_result=result)
    except BaseException as error:  # The user's code, whatever it raises.
        if is_ctrl_c(error):
            raise
        log.exception("a signal receiver for task %s raised; the task continues, but later receivers were not called", result.id)


def describe_exception(error: BaseException) -> Any:
    """Return an exception as Django stores it: the path of its class, and its traceback without huey's frames."""
    from traceback import format_exception

    trace = error.__traceback__
    own = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    kind = type(error)
    return TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback="".join(format_exception(kind, error, own)))


def is_final(huey: Huey, task: Task, error: BaseException) -> bool:
    """Return whether a run that raised *error* is the last one, as the engine will decide."""
    now = huey.clock.now()
    outcome = outcome_of_exception(error, {}, huey.registry.find(task.name).options, now, was_revoked=False)
    lease = Lease(task.id, task.token, task.name, b"", task.priority, now, None, task.retries, 0.0, 0, 0, 0, None, None)
    return decide(lease, outcome, now).state != State.QUEUED


def as_time(moment: Micros | None) -> datetime | None:
    """Return a time in this project's form: aware, or naive and local if USE_TZ is False."""
    if moment is None:
        return None
    when = shown.time(moment)
    if settings.USE_TZ:
        return when
    try:
        return when.astimezone().replace(tzinfo=None)
    except (OverflowError, ValueError):  # At the very end of the calendar.
        return when.replace(tzinfo=None)


def to_micros(time: datetime | None) -> Micros | None:
    return None if time is None else micros(time.timestamp())
