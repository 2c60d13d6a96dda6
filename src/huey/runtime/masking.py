"""Masking: what is raised in a thread from outside never strikes inside huey's own code.

A task that passes its time limit, or is revoked while it runs, has an exception raised in its thread (``PyThreadState_SetAsyncExc``), at
any bytecode. Inside huey that bytecode could be the one between taking a lock and guarding it. So each public call of huey closes the mask
of its thread and opens it again when it returns; what is asked meanwhile is deferred and raised then. Threads that run no task have no
mask, and pay for a look at an empty dict.

The mask is closed first and the news are read then; whoever asks writes the news first and looks at the mask then. One of them sees the
other, so nothing strikes behind a closed mask. An exception that was set just before strikes at the latest in ``settle``, where nothing is
held.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from threading import get_ident
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_GENERATOR = 0x20
"""Flag of the code of a generator function (``inspect.CO_GENERATOR``; inspect takes long to load)."""
_DUNDERS = ("__call__", "__enter__", "__exit__", "__getitem__", "__len__")
_INSIDE = "is_masked"
"""Set on functions that see to the mask themselves."""


class Mask:
    """Of one thread. *depth*: calls of huey that the thread is inside of; not 0: closed."""

    __slots__ = ("deferred", "depth", "lock", "news", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.depth = 0
        self.news = False
        """Something was asked. Read after the mask was closed, and after it was opened."""
        self.deferred: type[BaseException] | None = None
        """What is to be raised when it opens."""
        self.lock = threading.Lock()

    def settle(self) -> None:
        """After closing: let strike here what was set before."""
        with self.lock:
            self.news = self.deferred is not None
        _give_way()

    def leave(self) -> None:
        """After opening: raise what was deferred."""
        with self.lock:
            error, self.deferred, self.news = self.deferred, None, False
        _give_way()
        if error is not None:
            raise error

    def ask(self) -> bool:
        """Raise in its thread what is deferred, if that is possible now; False if it has to be asked again."""
        with self.lock:
            if self.deferred is None:
                return True
            self.news = True
            if self.depth or _is_at_an_edge(self.thread):
                return False
            error, self.deferred = self.deferred, None
            _set(self.thread, error)
            return True


masks: dict[int, Mask] = {}
"""By thread: those that run tasks."""


def enroll() -> Mask:
    """This thread's mask."""
    thread = get_ident()
    mask = masks.get(thread)
    if mask is None:
        mask = masks[thread] = Mask(thread)
    return mask


def leave_off() -> None:
    """This thread runs no more tasks."""
    masks.pop(get_ident(), None)


def ask(thread: int, error: type[BaseException]) -> bool:
    """Raise *error* in that thread at its next step outside huey. False: not yet; it comes when the thread leaves huey, or by ``again``."""
    mask = masks.get(thread)
    if mask is None:
        _set(thread, error)
        return True
    with mask.lock:
        mask.deferred = error
        # First said, then looked, see above.
        mask.news = True
    return mask.ask()


def again(thread: int) -> bool:
    """Ask again what could not be raised; False if it still could not."""
    mask = masks.get(thread)
    return mask is None or mask.deferred is None or mask.ask()


def forget(thread: int) -> None:
    """Take back what was asked of this thread, whose number is *thread*, and has not struck."""
    mask = masks.get(thread)
    if mask is None:
        _spend(thread)
        return
    with mask.lock:
        mask.deferred, mask.news = None, False
        _spend(thread)


def is_asked() -> bool:
    """Something is deferred in this thread: ``checkpoint`` would raise it."""
    mask = masks.get(get_ident()) if masks else None
    return mask is not None and mask.deferred is not None


def checkpoint() -> None:
    """For a call that waits long, at a place where it may end: raise what is deferred."""
    mask = masks.get(get_ident()) if masks else None
    if mask is not None and mask.deferred is not None:
        with mask.lock:
            error, mask.deferred = mask.deferred, None
        if error is not None:
            raise error


def masked(function: F) -> F:
    """Keep exceptions from outside out of *function*."""

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
                mask.settle()
            return function(*args, **kwargs)
        finally:
            mask.depth = 0
            if mask.news:
                mask.leave()

    setattr(call, _INSIDE, True)
    return cast(F, call)


def entering(function: F) -> F:
    """As ``masked``, for ``__enter__``: once it has returned the block is entered and will be left, so nothing is raised in between. What
    was deferred is asked again by the thread that asked it."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        mask = masks.get(get_ident()) if masks else None
        if mask is None or mask.depth:
            return function(*args, **kwargs)
        mask.depth = 1
        try:
            if mask.news:
                mask.settle()
            entered = function(*args, **kwargs)
        except BaseException:
            mask.depth = 0
            raise
        mask.depth = 0
        return entered

    setattr(call, _INSIDE, True)
    return cast(F, call)


def opened(function: F) -> F:
    """The opposite, for code of the application that runs inside huey."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        mask = masks.get(get_ident()) if masks else None
        if mask is None or not mask.depth:
            return function(*args, **kwargs)
        depth, mask.depth = mask.depth, 0
        try:
            if mask.news:
                mask.leave()
            return function(*args, **kwargs)
        finally:
            mask.depth = depth
            if mask.news:
                mask.settle()

    setattr(call, _INSIDE, True)
    return cast(F, call)


class Masked:
    """Base of classes whose public methods can be called by the body of a task: all of them are masked, those of subclasses and of the
    other bases inside huey too."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for kind in cls.__mro__:
            if kind.__module__.partition(".")[0] == "huey":
                mask_methods(kind)


def mask_methods(kind: type) -> None:
    """Mask the public methods that are defined in that class."""
    for name, method in list(vars(kind).items()):
        if name.startswith("_") and name not in _DUNDERS:
            continue
        if isinstance(method, property):
            if method.fget is not None and not getattr(method.fget, _INSIDE, False):
                setattr(kind, name, property(masked(method.fget), method.fset and masked(method.fset), method.fdel, method.__doc__))
        elif hasattr(method, "__code__") and not getattr(method, _INSIDE, False):
            setattr(kind, name, _inside(name, method))


def _inside(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    if name == "__enter__":
        return entering(method)
    if _is_generator(method):
        return stepwise(method)
    if _is_generator(getattr(method, "__wrapped__", None)):
        return _made_of(_Block, method)
    return masked(method)


def stepwise(generator: F) -> F:
    """``masked`` for a generator function: each of its steps."""
    return cast(F, _made_of(_Steps, generator))


def _is_generator(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _GENERATOR)


def _made_of(kind: Callable[[Any], Any], method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        made = method(*args, **kwargs)
        # Threads without a mask, which are nearly all, get what they always got.
        return kind(made) if masks else made

    setattr(call, _INSIDE, True)
    return call


class _Steps(Iterator[Any]):
    """A generator of huey, each of its steps masked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @masked
    def __next__(self) -> Any:
        return next(self._inner)

    @masked
    def close(self) -> None:
        self._inner.close()


class _Block:
    """A block of huey (``with``), its begin and its end masked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @entering
    def __enter__(self) -> Any:
        return self._inner.__enter__()

    @masked
    def __exit__(self, *error: Any) -> Any:
        return self._inner.__exit__(*error)


def hold() -> None:
    """A fork begins: from its first callback to ``let_go``, nothing strikes."""
    mask = masks.get(get_ident())
    if mask is not None:
        mask.depth += 1


def let_go() -> None:
    """The last callback of a fork has returned."""
    mask = masks.get(get_ident())
    if mask is not None:
        mask.depth = max(0, mask.depth - 1)


def _renew() -> None:
    """In a forked child: its parent's threads are not there, and may have held the locks."""
    for mask in masks.values():
        mask.lock, mask.deferred, mask.news = threading.Lock(), None, False
    masks.clear()


os.register_at_fork(after_in_child=_renew)


def _give_way() -> None:
    """A call, so that an exception that is set strikes now."""


def _set(thread: int, error: type[BaseException]) -> None:
    """Raise *error* in a thread at its next step, instead of what was set before."""
    import ctypes  # Nobody but a consumer needs it.

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _Spent(BaseException):
    """Raised and caught at once."""


def _spend(thread: int) -> None:
    """Let what is set in this thread strike here, where it is lost. (To unset it would leave Python looking for it at every step, in all
    threads and for ever: slow, and an endless loop where a debugger or a coverage tool traces.)"""
    try:
        _set(thread, _Spent)
        while True:
            _give_way()
    except _Spent:
        return


def _is_at_an_edge(thread: int) -> bool:
    """The thread is at the door, about to close its mask: an ``__exit__`` that is struck there would not be called at all. Or it is inside
    the standard library's logging, whose locks have the same hole, and the engine logs too."""
    frame = sys._current_frames().get(thread)
    if frame is not None and frame.f_globals is globals():
        return True
    while frame is not None:
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False
