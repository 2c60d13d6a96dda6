"""``HueyBackend``: huey as a backend of ``django.tasks``, of Django 6 or of the backport ``django-tasks``.

    TASKS = {'default': {'BACKEND': 'huey.djhuey.tasks_backend.HueyBackend'}}

Tasks run from the queue of ``settings.HUEY``, by ``manage.py run_huey``. All of Django's features are supported; a task also takes
``OPTIONS``, which mean the same as in huey.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.core import checks
from django.db import transaction
from django.utils.module_loading import autodiscover_modules

from huey.api import Huey
from huey.client.result import Result
from huey.djhuey import framework, runs
from huey.djhuey.outbox import Outbox
from huey.djhuey.settings import WrongSetting, current
from huey.exceptions import DecodeError, UnknownTask
from huey.runtime.functions import check_runs_when_called
from huey.storage.rows import TaskRow
from huey.task import reasons
from huey.task.lifecycle import State
from huey.task.wrapper import TaskWrapper

OPTIONS = (
    *("retries", "retry_delay", "retry_backoff", "retry_jitter", "max_retry_delay", "retry_on", "no_retry_on"),
    *("expires", "timeout", "unique", "unique_for", "concurrency", "key", "rate", "rate_key", "at_most_once"),
)
STATUS = {
    State.WAITING: framework.TaskResultStatus.READY,
    State.QUEUED: framework.TaskResultStatus.READY,
    State.BLOCKED: framework.TaskResultStatus.READY,
    State.RUNNING: framework.TaskResultStatus.RUNNING,
    State.FAILED: framework.TaskResultStatus.FAILED,
    State.CANCELLED: framework.TaskResultStatus.FAILED,
}
CLASSES = {
    "timeout": "huey.exceptions.TaskTimeout",
    "unknown task": "huey.exceptions.UnknownTask",
    "undecodable": "huey.exceptions.DecodeError",
    "result not storable": "huey.exceptions.EncodeError",
}
"""Classes of errors that the function did not raise, by the reason for the end; ``huey.exceptions.TaskException`` for other reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HueyTask(framework.Task):
    """A Django task with huey's options; None means not set. ``using`` can set them too."""

    retries: int | None = None
    retry_delay: float | None = None
    retry_backoff: float | None = None
    retry_jitter: float | None = None
    max_retry_delay: float | None = None
    retry_on: Any = None
    no_retry_on: Any = None
    expires: Any = None
    timeout: float | None = None
    unique: Any = None
    unique_for: Any = None
    concurrency: int | None = None
    key: Any = None
    rate: Any = None
    rate_key: Any = None
    at_most_once: bool | None = None

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> HueyTask:
        """Return a task like this one with other defaults."""
        standard: dict[str, Any] = {"priority": priority, "queue_name": queue_name, "run_after": run_after, "backend": backend}
        return replace(self, **{name: value for name, value in standard.items() if value is not None}, **options)

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Raise TypeError: what is stored of a task of ``django.tasks`` is Django's record of it, not a value to pass on."""
        name = self.func.__name__
        raise TypeError(
            f"{self.module_path} is a task of django.tasks, which cannot be part of a pipeline, group or chord: declare its function to "
            f"huey too, such as step = huey.djhuey.db_task(name='{name} step')({name}.func), and use step.s(...)"
        )


def task(function: Callable[..., Any] | None = None, *, backend: str = "default", **options: Any) -> Any:
    """Decorator: Django's ``task``, which takes huey's options in Django 6.0 too."""

    def decorate(func: Callable[..., Any]) -> Any:
        return framework.tasks.task_backends[backend].task_class(func=func, backend=backend, **{**_STANDARD, **options})

    return decorate if function is None else decorate(function)


_STANDARD = {"priority": 0, "queue_name": "default", "run_after": None, "takes_context": False}


class HueyBackend(framework.BaseTaskBackend):
    """The backend. From ``TASKS[alias]`` it reads QUEUES (names that tasks may have; all mean the queue of ``settings.HUEY``) and
    ENQUEUE_ON_COMMIT (True enqueues when the open transaction commits; default: that of ``settings.HUEY``). A result gets its
    ``enqueued_at``, and ``task_enqueued`` is sent, when the task is really enqueued: at the commit, if it waits for one. In OPTIONS,
    ``record_starts``: True stores when a run begins, so that ``started_at`` is visible during the run, at the price of two more writes per
    task; otherwise it is set when the run has ended."""

    task_class = HueyTask
    supports_defer = True
    supports_async_task = True
    supports_priority = True
    supports_get_result = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._on_commit = bool(params.get("ENQUEUE_ON_COMMIT", False))
        self.records_starts = bool(self.options.get("record_starts", False))

    @property
    def huey(self) -> Huey:
        return current().huey

    # -- declaring ----------------------------------------------------------------------------------------------------------------------

    def validate_task(self, task: Any) -> None:
        """Check a new task; the first task of a function also registers the function for the consumer."""
        super().validate_task(task)
        if "<" in task.func.__qualname__:
            raise framework.InvalidTask(
                f"{task.module_path}: workers find the function of a task by this path; define it with def at the top level of a module"
            )
        self.wrapper(task)

    def wrapper(self, task: Any) -> TaskWrapper[Any, Any]:
        """Return the decorated function for this task. Raise InvalidTask for options that cannot work."""
        registry, name = self.huey.registry, task.module_path
        if name in registry:
            known = registry.find(name)
            if getattr(getattr(known.func, "prototype", None), "func", None) is task.func:
                return known
        options = {option: getattr(task, option) for option in OPTIONS if getattr(task, option, None) is not None}
        try:
            check_runs_when_called(task.func, runs_coroutines=True)
            return self.huey.task(name=name, include_task=True, **options)(runs.runner(task, framework.tasks.task_backends.__getitem__))
        except (TypeError, ValueError) as error:
            raise framework.InvalidTask(f"{name}: {error}") from error

    # -- enqueueing ---------------------------------------------------------------------------------------------------------------------

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue a call and return its result, whose id can be stored. For calls in a transaction see ``huey.djhuey.outbox``."""
        self.validate_task(task)
        huey = self.huey
        now = huey.clock.now()
        result = runs.new_result(task, huey.new_id(), args, kwargs)
        if huey.always_eager:
            return self._run_here(result)
        with self._waiting():
            alias = huey.outbox.transaction if isinstance(huey.outbox, Outbox) else None
            handle = huey.enqueue(self._message(task, result, now))
        if isinstance(handle, Result) and handle.id != result.id:
            # unique=: it is already waiting.
            return self.get_result(handle.id)
        if alias is None:
            self._is_enqueued(result, now)
        else:
            # Until then nothing is enqueued, and after a rollback nothing ever was.
            transaction.on_commit(lambda: self._is_enqueued(result, huey.clock.now()), using=alias)
        return result

    def _is_enqueued(self, result: Any, at: int) -> None:
        runs.force_set(result, enqueued_at=runs.as_time(at))
        runs.send_signal(framework.signals.task_enqueued, type(self), result)
        if self.huey.immediate:
            with suppress(framework.TaskResultDoesNotExist):
                result.refresh()

    def _message(self, task: Any, result: Any, now: int) -> Any:
        wrapper = self.wrapper(task)
        prototype = prototype_of(wrapper)
        of_call = {it: getattr(task, it) for it in OPTIONS if getattr(task, it, None) != getattr(prototype, it, None)}
        about = runs.CallMetadata(self.alias, task.queue_name, runs.to_micros(task.run_after), task.priority, now)
        try:
            args, kwargs = runs.call_of(wrapper.func, result.args, result.kwargs)
            kwargs = {**kwargs, **about.to_keyword(prototype)}
            made = wrapper.task_class(args, kwargs, id=result.id, due=about.run_after, priority=task.priority, **of_call)
        except (TypeError, ValueError) as error:
            raise framework.InvalidTask(f"{wrapper.name}: {', '.join(of_call) or 'its options'} of this call: {error}") from error
        # Generated like any other id: it is used once.
        made.may_come_again = False
        return made

    def _waiting(self) -> AbstractContextManager[None]:
        outbox = self.huey.outbox
        return outbox.waiting(None) if self._on_commit and isinstance(outbox, Outbox) else nullcontext()

    def _run_here(self, result: Any) -> Any:
        """Run the task in the caller, like Django's immediate backend."""
        runs.force_set(result, enqueued_at=runs.as_time(self.huey.clock.now()))
        runs.send_signal(framework.signals.task_enqueued, type(self), result)
        with suppress(Exception):
            runs.begin(self, result, "here", None)
            runs.perform(self, result, lambda result: None, lambda error: True)
        return result

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    def get_result(self, result_id: str) -> Any:
        """Return the result with that id: while its task is queued or running, for 30 days after it failed, and as long as results are kept
        after it succeeded. Raise TaskResultDoesNotExist if there is none, or if it is not a Django task's."""
        huey = self.huey
        row = huey.storage.get(str(result_id))
        try:
            if row is None or row.state == State.SUCCEEDED:
                return self._succeeded(str(result_id))
            return self._held(row)
        except (DecodeError, UnknownTask, LookupError, TypeError, ValueError) as error:
            raise framework.TaskResultDoesNotExist(f"{result_id}: {error}") from error

    def _held(self, row: TaskRow) -> Any:
        prototype = self._prototype(row.name)
        args, kwargs = self.huey.codec.decode("task", row.id, row.payload)
        about = runs.CallMetadata.of_keyword(prototype, kwargs.pop(runs.ABOUT, None), row.priority, row.created)
        result = runs.new_result(self.task_of_call(prototype, about), row.id, args, kwargs, about.enqueued)
        runs.RunLog(self.huey).read_into(result)
        ended = row.state in (State.FAILED, State.CANCELLED)
        runs.force_set(result, status=STATUS[row.state], finished_at=runs.as_time(row.finished) if ended else None)
        if row.state == State.RUNNING and row.worker and row.worker not in result.worker_ids[-1:]:
            result.worker_ids.append(row.worker)
        if ended and not is_reported(row, result):
            path = CLASSES.get(row.reason or "", "huey.exceptions.TaskException")
            error = json.loads(row.error) if row.error else {}
            text = str(error.get("traceback") or error.get("error") or f"{row.state}: {row.reason}")
            result.errors.append(framework.TaskError(exception_class_path=path, traceback=text))
        return result

    def _succeeded(self, id: str) -> Any:
        data = self.huey.storage.peek("result", id)
        if data is None:
            raise LookupError("no task or result")
        is_error, kept = self.huey.codec.decode_result(id, data)
        if is_error or not isinstance(kept, dict):
            raise LookupError("not the result of a Django task")
        about = runs.CallMetadata(*kept["about"])
        result = runs.new_result(self.task_of_call(self._prototype(kept["name"]), about), id, kept["args"], kept["kwargs"], about.enqueued)
        runs.apply_record(result, kept)
        runs.force_set(
            result, status=framework.TaskResultStatus.SUCCESSFUL, finished_at=runs.as_time(kept["finished"]), _return_value=kept["value"]
        )
        return result

    def _prototype(self, name: str) -> Any:
        """Return the task declared under that name. Raise UnknownTask if no known module of this project declares it."""
        registry = self.huey.registry
        if name not in registry:
            # Nothing is imported because a message names it; but the tasks of this project are imported.
            autodiscover_modules("tasks")
        return prototype_of(registry.find(name))

    def task_of_call(self, prototype: Any, about: runs.CallMetadata) -> Any:
        """Return the task of one call."""
        when = runs.as_time(about.run_after)
        return replace(prototype, backend=about.backend, queue_name=about.queue_name, priority=about.priority, run_after=when)

    def check(self, **kwargs: Any) -> list[Any]:
        """Check huey.E002: results are needed but not kept."""
        try:
            if self.huey.results:
                return []
        except WrongSetting:
            # huey.E001 reports that.
            return []
        return [
            checks.Error(
                f"TASKS[{self.alias!r}] keeps results, and HUEY has 'results': False.", hint="Remove 'results': False.", id="huey.E002"
            )
        ]


def prototype_of(wrapper: TaskWrapper[Any, Any]) -> Any:
    """Return the Django task with which a function was declared. Raise LookupError if it was declared only to huey."""
    prototype = getattr(wrapper.func, "prototype", None)
    if prototype is None:
        raise LookupError(f"{wrapper.name} is not a Django task")
    return prototype


def is_reported(row: TaskRow, result: Any) -> bool:
    """Return whether the error that ended the task is among those of its runs."""
    if not result.errors:
        return False
    if row.reason == reasons.TIMEOUT:
        return bool(result.errors[-1].exception_class_path == CLASSES["timeout"])
    return row.reason == reasons.ERROR
