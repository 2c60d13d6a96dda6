"""Event loops of threads that run coroutines to their end: one loop per runner, kept between its tasks.

Used where a task occupies its thread: workers of threads and processes, immediate mode, ``always_eager`` and runs by hand. asyncio is
imported when the first coroutine runs. Meanwhile a request to stop cancels its asyncio task; no exception is raised in the thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from threading import Thread, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any

from huey.runtime.masking import masked, masks, remove_mask

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

CLOSE_TIMEOUT_S = 1.0
"""How long what a task has left in a loop may take to end, when it is cancelled because the loop closes."""

_kept: dict[int, AbstractEventLoop | None] = {}
"""The loops of threads that keep theirs, by thread; None: it has not run a coroutine yet."""

os.register_at_fork(after_in_child=_kept.clear)


def keep_loop(loop: AbstractEventLoop | None = None) -> None:
    """Keep the loop of this thread between coroutines, until `close_loop`. *loop*: use this one; None: make one when it is needed."""
    _kept[get_ident()] = loop


def close_loop() -> None:
    """Close the loop of this thread, if it has one, after cancelling what still runs in it."""
    loop = _kept.pop(get_ident(), None)
    if loop is not None:
        close(loop)


def running_to_end(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function that runs the coroutine function *func* to its end and returns its value."""

    @wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        return run_to_end(func(*args, **kwargs))

    return run


@masked
def run_to_end(coroutine: Any) -> Any:
    """Run *coroutine* in the loop of this thread and return its value, or raise its exception. If a loop runs in this thread already, use
    another thread and wait for it."""
    import asyncio

    if not asyncio.iscoroutine(coroutine):
        return coroutine
    if asyncio._get_running_loop() is not None:
        return _run_elsewhere(coroutine)
    thread = get_ident()
    loop = _kept.get(thread)
    if loop is not None:
        return _run(loop, coroutine)
    loop = asyncio.new_event_loop()
    if thread in _kept:
        _kept[thread] = loop
        return _run(loop, coroutine)
    try:
        return _run(loop, coroutine)
    finally:
        close(loop)


def _run_elsewhere(coroutine: Coroutine[Any, Any, Any]) -> Any:
    ended: list[tuple[Any, BaseException | None]] = []
    context = copy_context()

    def run() -> None:
        try:
            ended.append((context.run(run_to_end, coroutine), None))
        except BaseException as error:  # User code: it is raised in the thread of the caller.
            ended.append((None, error))
        finally:
            remove_mask()

    thread = Thread(target=run, name="Coroutine", daemon=True)
    thread.start()
    thread.join()
    value, error = ended[0]
    if error is not None:
        raise error
    return value


def _run(loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    task = loop.create_task(coroutine)
    stop = Stop(loop, task)
    mask = masks.get(get_ident())
    if mask is not None:
        mask.set_asking(stop.ask)
    try:
        return loop.run_until_complete(task)
    except BaseException as error:  # User code. It may also be Ctrl+C, raised in the loop while the body waits.
        if not task.done():
            task.cancel()
            with suppress(BaseException):
                loop.run_until_complete(task)
        # Without a cause, so that those of the body's own exception stay.
        raise stop.explained(error).with_traceback(_of_body(coroutine, error.__traceback__))  # noqa: B904
    finally:
        if mask is not None:
            mask.set_asking(None)


def _of_body(coroutine: Any, trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames before those of *coroutine*."""
    found = trace
    while found is not None and found.tb_frame.f_code is not coroutine.cr_code:
        found = found.tb_next
    return found or trace


class Stop:
    """Asks one asyncio task to stop, by cancelling it."""

    __slots__ = ("_loop", "_task", "reason")

    def __init__(self, loop: AbstractEventLoop, task: Task[Any]) -> None:
        self._loop = loop
        self._task = task
        self.reason: type[BaseException] | None = None
        """Why it was asked, as the exception that a plain function would get."""

    def ask(self, reason: type[BaseException]) -> None:
        """Cancel the task; call it in any thread."""
        self._loop.call_soon_threadsafe(self._cancel, reason)

    def _cancel(self, reason: type[BaseException]) -> None:
        if not self._task.done():
            self.reason = reason
            self._task.cancel()

    def explained(self, error: BaseException) -> BaseException:
        """Return *error*, or if it is the cancellation that was asked for, the exception that says why."""
        from asyncio import CancelledError

        if self.reason is None or not isinstance(error, CancelledError):
            return error
        explained = self.reason()
        explained.__suppress_context__ = True
        return explained


def close(loop: AbstractEventLoop) -> None:
    """Close *loop*, after cancelling what still runs in it."""
    import asyncio

    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=CLOSE_TIMEOUT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
