"""Tasks that use the database: connections that outlive no task, enqueues that wait for a commit (S152)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any
from weakref import WeakSet

from asgiref.sync import async_to_sync
from django.db import connections

from huey.api import Huey
from huey.djhuey.outbox import Outbox
from huey.djhuey.settings import current
from huey.runtime.functions import checked_function
from huey.task.wrapper import TaskWrapper, plain

Function = Callable[..., Any]


def db_task(*args: Any, **options: Any) -> Callable[[Function], TaskWrapper[Any, Any]]:
    """``task`` for a function that uses the database: its thread has no connection left when it ends, in whatever way. Options of ``task``;
    ``call_local`` is the bare function."""
    return _closing(current().huey.task(*args, **options))


def db_periodic_task(*args: Any, **options: Any) -> Callable[[Function], TaskWrapper[Any, Any]]:
    """``periodic_task`` in the same way."""
    return _closing(current().huey.periodic_task(*args, **options))


def on_commit_task(*args: Any, using: str | None = None, **options: Any) -> Callable[[Function], OnCommitTask]:
    """``db_task`` whose calls are enqueued when the transaction that is open then commits, and never when it is rolled back; without one at
    once. The handle can be used from the beginning. *using*: alias of the database, if not the default one.

    A storage error at that time is raised where the transaction ends: it has committed, the task is not enqueued.
    """

    def decorate(func: Function) -> OnCommitTask:
        return OnCommitTask(db_task(*args, **options)(func), using)

    return decorate


class OnCommitTask:
    """A decorated function all whose enqueues wait for the commit. Other members are those of the ``TaskWrapper`` inside."""

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
        func = checked_function(func, "given to the decorator", runs_coroutines=True)
        wrapper = decorate(close_db(func))
        wrapper.call_local = func  # type: ignore[method-assign]
        return wrapper

    return closing


def close_db(func: Function) -> Function:
    """Decorator: connections that are too old or broken are closed before the function runs, all of its thread after it. A connection in a
    transaction is left alone: that is the caller's, who runs the function directly. A coroutine function runs in a loop of its own."""
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

    with suppress(TypeError, ValueError):  # Some callables written in C do not tell.
        closing.__signature__ = signature(func, follow_wrapped=False)  # type: ignore[attr-defined]
    _closings.add(closing)
    return closing


_closings: WeakSet[Function] = WeakSet()


def runs_in_caller(huey: Huey) -> bool:
    """Tasks run where they are called, with the caller's connections."""
    return huey.always_eager or huey.immediate


def close_old_connections() -> None:
    """Close what is broken or older than CONN_MAX_AGE allows. (Django's own function of that name ends the caller's transactions too.)"""
    for connection in _idle():
        connection.close_if_unusable_or_obsolete()


def close_connections() -> None:
    """Close what this thread has open, and forget its queries: while DEBUG is True, Django remembers thousands of them."""
    for connection in _idle():
        connection.close()
        connection.queries_log.clear()


def _idle() -> list[Any]:
    """This thread's connections that are in no transaction."""
    return [connection for connection in connections.all(initialized_only=True) if not connection.in_atomic_block]
