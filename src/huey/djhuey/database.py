"""Tasks that use the database: connections end with the task, and enqueues may wait for a commit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, Unpack
from weakref import WeakSet

from asgiref.sync import async_to_sync
from django.db import connections

from huey.api import Huey
from huey.djhuey.outbox import Outbox
from huey.djhuey.settings import current
from huey.runtime.functions import checked_function
from huey.task.options import TaskOptionArgs
from huey.task.wrapper import TaskWrapper, plain

if TYPE_CHECKING:
    from huey.client import typed

Function = Callable[..., Any]


def db_task(*args: Any, **options: Any) -> Callable[[Function], TaskWrapper[Any, Any]]:
    """Decorator: like ``task``, for a function that uses the database. All connections of its thread are closed when it ends, however it
    ends. Takes the options of ``task``; ``call_local`` is the bare function."""
    return _closing(current().huey.task(*args, **options))


def db_periodic_task(*args: Any, **options: Any) -> Callable[[Function], TaskWrapper[Any, Any]]:
    """Decorator: like ``periodic_task``, with connections handled like those of ``db_task``."""
    return _closing(current().huey.periodic_task(*args, **options))


def on_commit_task(
    retries: int = 0,
    retry_delay: float = 0,
    retries_as_argument: bool = False,
    include_task: bool = False,
    *,
    using: str | None = None,
    **options: Unpack[TaskOptionArgs],
) -> typed.TaskDecorator:
    """Decorator: like ``db_task``, but calls are enqueued when the open transaction commits, never if it is rolled back, at once without
    one. The handle can be used immediately. *using*: alias of the database, if not the default one.

    A storage error at that point is raised where the transaction ends: it has committed, but the task is not enqueued.
    """

    def decorate(func: Function) -> Any:
        return OnCommitTask(db_task(retries, retry_delay, retries_as_argument, include_task, **options)(func), using)

    return decorate


class OnCommitTask:
    """A decorated function whose enqueues all wait for the commit. Other members are those of the ``TaskWrapper`` inside."""

    def __init__(self, wrapper: TaskWrapper[Any, Any], using: str | None) -> None:
        self._wrapper = wrapper
        self._using = using

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._enqueue(self._wrapper, *args, **kwargs)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        return self._enqueue(self._wrapper.schedule, *args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        return self._enqueue(self._wrapper.map, *args, **kwargs)

    def _enqueue(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outbox = self._wrapper.huey.outbox  # type: ignore[attr-defined]
        if not isinstance(outbox, Outbox):
            return verb(*args, **kwargs)
        with outbox.waiting(self._using):
            return verb(*args, **kwargs)

    def __set_name__(self, owner: type, name: str) -> None:
        self._wrapper.__set_name__(owner, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapper, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._wrapper.name}>"


def _closing(decorate: Callable[[Function], TaskWrapper[Any, Any]]) -> Callable[[Function], TaskWrapper[Any, Any]]:
    def closing(func: Function) -> TaskWrapper[Any, Any]:
        func = plain(func)
        func = vars(func)["__wrapped__"] if func in _closings else func
        func = checked_function(func, "given to the decorator")
        wrapper = decorate(close_db(func))
        wrapper.call_local = func  # type: ignore[method-assign]
        return wrapper

    return closing


def close_db(func: Function) -> Function:
    """Decorator: close stale or broken connections before the function runs, and all connections of its thread after it. A connection in a
    transaction is left open: it belongs to a caller who runs the function directly. A coroutine function runs in a loop of its own."""
    call = async_to_sync(func) if iscoroutinefunction(func) else func

    @wraps(func)
    def closing(*args: Any, **kwargs: Any) -> Any:
        if runs_in_caller(current().huey):
            return call(*args, **kwargs)
        close_old_connections()
        try:
            return call(*args, **kwargs)
        finally:
            close_connections()

    with suppress(TypeError, ValueError):  # Some callables written in C do not say.
        closing.__signature__ = signature(func, follow_wrapped=False)  # type: ignore[attr-defined]
    _closings.add(closing)
    return closing


_closings: WeakSet[Function] = WeakSet()


def runs_in_caller(huey: Huey) -> bool:
    """Return whether tasks run in the caller, with the caller's connections."""
    return huey.always_eager or huey.immediate


def close_old_connections() -> None:
    """Close connections that are broken or older than CONN_MAX_AGE. (Django's function of that name also ends the caller's
    transactions.)"""
    for connection in _idle():
        connection.close_if_unusable_or_obsolete()


def close_connections() -> None:
    """Close the connections of this thread, and clear its query log: while DEBUG is True, Django keeps thousands of queries."""
    for connection in _idle():
        connection.close()
        connection.queries_log.clear()


def _idle() -> list[Any]:
    """Return the connections of this thread that are not in a transaction."""
    return [connection for connection in connections.all(initialized_only=True) if not connection.in_atomic_block]
