"""Masking: an exception that another thread raises in a task is never raised inside huey's own code.

When a task passes its time limit or is revoked while it runs, an exception is raised in its thread (``PyThreadState_SetAsyncExc``), at any
bytecode. Inside huey that could be between taking a lock and guarding it. So each public call of huey closes the mask of its thread and
opens it again on return; exceptions raised meanwhile are deferred until then. Threads that run no task have no mask and only check an empty
dict.

A thread closes its mask first and reads ``news`` then; the thread that raises writes ``news`` first and reads the mask then. One of them
sees the other, so nothing is raised behind a closed mask. An exception that was set just before is raised in `Mask.after_closing` at the
latest, where no lock is held.
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
    """The mask of one thread. *depth*: nested huey calls that the thread is in; the mask is closed unless that is 0."""

    __slots__ = ("asking", "deferred", "depth", "lock", "news", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.depth = 0
        self.news = False
        """An exception was raised or deferred. Read after the mask is closed, and after it is opened."""
        self.deferred: type[BaseException] | None = None
        """The exception to raise when the mask opens."""
        self.asking: Callable[[type[BaseException]], object] | None = None
        """How to ask the body to stop while it is a coroutine; None: by an exception in the thread."""
        self.lock = threading.Lock()

    def set_asking(self, ask: Callable[[type[BaseException]], object] | None) -> None:
        """From now on ask the body by *ask*; None: by an exception. Call it in the thread of the mask, while the mask is closed."""
        with self.lock:
            self.asking = ask
            if ask is not None and self.deferred is not None:
                ask(self.deferred)
                self.deferred = None

    def after_closing(self) -> None:
        """Raise here an exception that was set before the mask was closed."""
        with self.lock:
            self.news = self.deferred is not None
        _step()

    def after_opening(self) -> None:
        """Raise the deferred exception."""
        with self.lock:
            error, self.deferred, self.news = self.deferred, None, False
        _step()
        if error is not None:
            raise error

    def try_raise(self) -> bool:
        """Raise the deferred exception in the thread of the mask, if that is possible now; return False if it must be retried."""
        with self.lock:
            if self.deferred is None:
                return True
            if self.asking is not None:
                self.asking(self.deferred)
                self.deferred = None
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
    """Add and return a mask for this thread, which may run tasks from now on."""
    thread = get_ident()
    mask = masks.get(thread)
    if mask is None:
        mask = masks[thread] = Mask(thread)
    return mask


def remove_mask() -> None:
    """Remove the mask of this thread, which runs no more tasks."""
    masks.pop(get_ident(), None)


def raise_in(thread: int, error: type[BaseException]) -> bool:
    """Raise *error* in *thread* at its next step outside huey. Return False if that is not possible yet; it is then raised when the thread
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
    """Try again to raise the deferred exception in *thread*; return False if that is still not possible."""
    mask = masks.get(thread)
    return mask is None or mask.deferred is None or mask.try_raise()


def cancel(thread: int) -> None:
    """Cancel an exception that was set in the calling thread, whose number is *thread*, and not raised yet."""
    mask = masks.get(thread)
    if mask is None:
        _spend(thread)
        return
    with mask.lock:
        mask.deferred, mask.news = None, False
        _spend(thread)


def has_deferred() -> bool:
    """Return True if an exception is deferred in this thread, so that `checkpoint` would raise it."""
    mask = masks.get(get_ident()) if masks else None
    return mask is not None and mask.deferred is not None


def checkpoint() -> None:
    """Raise the deferred exception, in a long wait at a point where it may be interrupted."""
    mask = masks.get(get_ident()) if masks else None
    if mask is not None and mask.deferred is not None:
        with mask.lock:
            error, mask.deferred = mask.deferred, None
        if error is not None:
            raise error


def masked(function: F) -> F:
    """Decorator: keep exceptions that other threads raise out of *function*."""

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
    """Decorator: like `masked`, for ``__enter__``. Nothing is raised between its return and the body of the block, or ``__exit__`` would
    not be called. The thread that raised a deferred exception tries again."""

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
    """Decorator: the opposite of `masked`, for application code that huey calls."""

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
    """Reset all masks: the parent's threads do not exist in a forked child, and may have held the locks."""
    for mask in masks.values():
        mask.lock, mask.deferred, mask.news = threading.Lock(), None, False
    masks.clear()


os.register_at_fork(after_in_child=_reset_in_child)


def _step() -> None:
    """Do nothing: this call makes a pending exception be raised now."""


def _set(thread: int, error: type[BaseException]) -> None:
    """Set *error* to be raised in a thread at its next step, replacing any earlier one."""
    import ctypes  # Only consumers need it.

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _Spent(BaseException):
    """An exception that is raised and caught at once."""


def _spend(thread: int) -> None:
    """Let the exception that is set in this thread be raised here, and drop it. (Unsetting it would leave Python checking for it at every
    step in all threads from then on: slow, and an endless loop under a debugger or a coverage tool.)"""
    try:
        _set(thread, _Spent)
        while True:
            _step()
    except _Spent:
        return


def _is_at_boundary(thread: int) -> bool:
    """Return True if the thread is about to close its mask, where an exception would skip an ``__exit__`` altogether, or is inside the
    logging module, whose locks have the same gap and which the engine uses too."""
    frame = sys._current_frames().get(thread)
    if frame is not None and frame.f_globals is globals():
        return True
    while frame is not None:
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False
