"""Masking: an exception that another thread raises in a task never strikes inside huey's own code.

A task that passes its time limit, or is revoked while it runs, has an exception raised in its thread (``PyThreadState_SetAsyncExc``), at
any bytecode. Inside huey that bytecode could be the one between taking a lock and guarding it. So each public call of huey closes the mask
of its thread and opens it again when it returns; what is raised meanwhile is deferred until then. Threads that run no task have no mask,
which costs them a check of an empty dict.

A thread closes its mask first and reads ``news`` then; the thread that raises writes ``news`` first and reads the mask then. One of them
sees the other, so nothing strikes behind a closed mask. An exception that was set just before strikes at the latest in
`Mask.after_closing`, where no lock is held.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

INSIDE = "is_masked"
"""Set on functions that handle the mask themselves."""


class Mask:
    """The mask of one thread. *depth*: calls of huey that the thread is inside of; the mask is closed unless that is 0."""

    __slots__ = ("deferred", "depth", "lock", "news", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.depth = 0
        self.news = False
        """Something was raised or deferred. Read after the mask was closed, and after it was opened."""
        self.deferred: type[BaseException] | None = None
        """What is to be raised when the mask opens."""
        self.lock = threading.Lock()

    def after_closing(self) -> None:
        """Let an exception strike here that was set before the mask was closed."""
        with self.lock:
            self.news = self.deferred is not None
        _step()

    def after_opening(self) -> None:
        """Raise what was deferred."""
        with self.lock:
            error, self.deferred, self.news = self.deferred, None, False
        _step()
        if error is not None:
            raise error

    def try_raise(self) -> bool:
        """Raise the deferred exception in the thread of the mask, if that is possible now; return False if it must be tried again."""
        with self.lock:
            if self.deferred is None:
                return True
            self.news = True
            if self.depth or _is_at_boundary(self.thread):
                return False
            error, self.deferred = self.deferred, None
            _set(self.thread, error)
            return True


masks: dict[int, Mask] = {}
"""The masks of threads that run tasks, by thread."""


def add_mask() -> Mask:
    """Return the mask of this thread, which may run tasks from now on."""
    thread = get_ident()
    mask = masks.get(thread)
    if mask is None:
        mask = masks[thread] = Mask(thread)
    return mask


def remove_mask() -> None:
    """This thread runs no more tasks."""
    masks.pop(get_ident(), None)


def raise_in(thread: int, error: type[BaseException]) -> bool:
    """Raise *error* in *thread* at its next step outside huey. Returns False if that is not possible yet: then it is raised when the thread
    leaves huey, or by `raise_deferred`."""
    mask = masks.get(thread)
    if mask is None:
        _set(thread, error)
        return True
    with mask.lock:
        mask.deferred = error
        # Written first, then checked; see above.
        mask.news = True
    return mask.try_raise()


def raise_deferred(thread: int) -> bool:
    """Try again to raise what was deferred in *thread*; return False if that is still not possible."""
    mask = masks.get(thread)
    return mask is None or mask.deferred is None or mask.try_raise()


def cancel(thread: int) -> None:
    """Take back what was raised in the calling thread, whose number is *thread*, and has not struck."""
    mask = masks.get(thread)
    if mask is None:
        _spend(thread)
        return
    with mask.lock:
        mask.deferred, mask.news = None, False
        _spend(thread)


def has_deferred() -> bool:
    """Return whether an exception is deferred in this thread, so that `checkpoint` would raise it."""
    mask = masks.get(get_ident()) if masks else None
    return mask is not None and mask.deferred is not None


def checkpoint() -> None:
    """Raise what is deferred: for calls that wait for long, at a point where they may be interrupted."""
    mask = masks.get(get_ident()) if masks else None
    if mask is not None and mask.deferred is not None:
        with mask.lock:
            error, mask.deferred = mask.deferred, None
        if error is not None:
            raise error


def masked(function: F) -> F:
    """Keep exceptions that other threads raise out of *function*."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not masks:
            return function(*args, **kwargs)
        mask = masks.get(get_ident())
        if mask is None or mask.depth:
            return function(*args, **kwargs)
        mask.depth = 1
        try:
            if mask.news:
                mask.after_closing()
            return function(*args, **kwargs)
        finally:
            mask.depth = 0
            if mask.news:
                mask.after_opening()

    setattr(call, INSIDE, True)
    return cast(F, call)


def entering(function: F) -> F:
    """Like `masked`, for ``__enter__``: nothing is raised between its return and the body of the block, or ``__exit__`` would not be
    called. The thread that raised what was deferred tries again."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        mask = masks.get(get_ident()) if masks else None
        if mask is None or mask.depth:
            return function(*args, **kwargs)
        mask.depth = 1
        try:
            if mask.news:
                mask.after_closing()
            entered = function(*args, **kwargs)
        except BaseException:
            mask.depth = 0
            raise
        mask.depth = 0
        return entered

    setattr(call, INSIDE, True)
    return cast(F, call)


def opened(function: F) -> F:
    """The opposite of `masked`, for code of the application that huey calls."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        mask = masks.get(get_ident()) if masks else None
        if mask is None or not mask.depth:
            return function(*args, **kwargs)
        depth, mask.depth = mask.depth, 0
        try:
            if mask.news:
                mask.after_opening()
            return function(*args, **kwargs)
        finally:
            mask.depth = depth
            if mask.news:
                mask.after_closing()

    setattr(call, INSIDE, True)
    return cast(F, call)


def close_for_fork() -> None:
    """Close the mask of this thread from the first callback of a fork until `reopen_after_fork`."""
    mask = masks.get(get_ident())
    if mask is not None:
        mask.depth += 1


def reopen_after_fork() -> None:
    """Open the mask again after the last callback of a fork."""
    mask = masks.get(get_ident())
    if mask is not None:
        mask.depth = max(0, mask.depth - 1)


def _reset_in_child() -> None:
    """The parent's threads do not exist in a forked child, and may have held the locks."""
    for mask in masks.values():
        mask.lock, mask.deferred, mask.news = threading.Lock(), None, False
    masks.clear()


os.register_at_fork(after_in_child=_reset_in_child)


def _step() -> None:
    """A call, so that an exception that is set strikes now."""


def _set(thread: int, error: type[BaseException]) -> None:
    """Raise *error* in a thread at its next step, in place of what was set before."""
    import ctypes  # Only consumers need it.

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _Spent(BaseException):
    """Raised and caught at once."""


def _spend(thread: int) -> None:
    """Let what is set in this thread strike here, where it is dropped. (Unsetting it would leave Python checking for it at every step in
    all threads from then on: slow, and an endless loop under a debugger or a coverage tool.)"""
    try:
        _set(thread, _Spent)
        while True:
            _step()
    except _Spent:
        return


def _is_at_boundary(thread: int) -> bool:
    """Return whether the thread is about to close its mask: an ``__exit__`` that is struck there would not run at all. Or whether it is
    inside the logging module, whose locks have the same gap, and the engine logs too."""
    frame = sys._current_frames().get(thread)
    if frame is not None and frame.f_globals is globals():
        return True
    while frame is not None:
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False
