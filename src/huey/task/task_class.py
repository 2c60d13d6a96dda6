"""Make the class of a function's tasks from the options of its decorator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from huey.runtime.clock import Clock, micros
from huey.runtime.times import resolve_expiry
from huey.task.options import TaskOptions
from huey.task.record_options import write_policy
from huey.task.task import PeriodicTask, Task


class TaskHost(Protocol):
    """The part of ``Huey`` that a decorated function uses."""

    def enqueue(self, task: Task) -> Any: ...

    def aenqueue(self, task: Task) -> Any: ...

    def revoke_all(self, wrapper: Any, revoke_until: datetime | None = None, revoke_once: bool = False) -> None: ...

    def restore_all(self, wrapper: Any) -> bool: ...

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool: ...

    def unregister(self, wrapper: Any) -> bool: ...

    @property
    def client(self) -> Any: ...

    @property
    def new_id(self) -> Callable[[], str]: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def always_eager(self) -> bool: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def utc(self) -> bool: ...


def task_class(wrapper: Any, huey: TaskHost, func: Callable[..., Any], name: str, options: TaskOptions) -> type[Task]:
    """Return the class of the tasks *name* of *func*, for *wrapper*: ``queuecmd_<function>`` in the function's module."""
    members: dict[str, Any] = {
        **(options.task_attributes or {}),
        "__slots__": (),
        "__module__": getattr(func, "__module__", None) or __name__,
        "name": name,
        "wrapper": wrapper,
        "execute": lambda task: wrapper.body(*task.args, **wrapper.with_extras(task)),
        "new_id": staticmethod(huey.new_id),
        "default_retries": options.retries,
        "default_retry_delay": options.retry_delay,
        "default_priority": options.priority,
        "queue": options.queue,
        "default_retry_backoff": options.retry_backoff,
        "default_retry_jitter": options.retry_jitter,
        "default_max_retry_delay": options.max_retry_delay,
        "default_timeout": options.timeout,
        "has_constraints": options.constraints is not None,
        "default_expires": options.expires,
        "shows_local_time": not huey.utc,
    }
    at, after = resolve_expiry(options.expires) if options.expires is not None else (None, None)
    retries: dict[str, Any] = {"backoff": options.retry_backoff, "jitter": options.retry_jitter, "cap": options.max_retry_delay}
    keep = None if options.keep is None else micros(options.keep)
    members |= {
        "default_keep": keep,
        "default_expires_at": at,
        "default_expires_in": after,
        "default_policy": write_policy(**retries, expires_in=after, keep=keep),
    }
    called, schedule = f"queuecmd_{getattr(func, '__name__', name.rpartition('.')[2])}", getattr(wrapper, "validate_datetime", None)
    if schedule is None:
        return type(called, (Task,), members)
    return type(called, (PeriodicTask,), {**members, "validate_datetime": _asking(schedule)})


def _asking(validate_datetime: Callable[[datetime], bool]) -> Callable[[Task, datetime], bool]:
    # Instrumentations find the schedule by the name of this variable.
    return lambda task, timestamp: validate_datetime(timestamp)
