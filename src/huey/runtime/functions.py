"""Rules for what can be a task: a function that runs when it is called, or another callable that does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import WRAPPER_ASSIGNMENTS, lru_cache, partial, wraps
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeVar
from weakref import WeakSet

F = TypeVar("F", bound=Callable[..., Any])

_GENERATOR, _COROUTINE, _OF_GENERATOR, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
"""Flags of a code object."""
_NOT_RUN = _GENERATOR | _COROUTINE | _OF_GENERATOR | _ASYNC_GENERATOR
_CACHED = type(lru_cache(lambda: None))
_DEEPEST = 50
"""Most functions inside functions; a longer chain is a cycle."""
PLAIN = frozenset({bool, bytes, dict, float, int, list, set, str, tuple, type(None)})
"""Classes of most values; none of them has a body that has not run."""


def checked_function(func: Any, name: str | None) -> Any:
    """Return *func* without ``staticmethod`` around it. *name*: the value of ``name=``. Raise ValueError, with a way out, if it cannot be a
    task."""
    func = func.__func__ if isinstance(func, staticmethod) else func
    if isinstance(func, classmethod):
        raise ValueError(f"{func!r}: write @classmethod above the task decorator, so that the class is its first argument")
    if not callable(func):
        is_of_django = hasattr(func, "module_path") and callable(getattr(func, "func", None))
        raise ValueError(f"{func!r:.200} is not callable, and a task is a function" + (": give its .func" if is_of_django else ""))
    if name is None and not isinstance(getattr(func, "__name__", None), str):
        raise ValueError(f"{func!r:.200} has no name by which a consumer could find it: give one with name='...'")
    check_runs_when_called(func, runs_coroutines=True)
    return func


def check_runs_when_called(func: Any, what: str = "a task", *, runs_coroutines: bool = False) -> None:
    """Raise ValueError if calling *func* only makes a generator or a coroutine, so that it cannot be *what*. *runs_coroutines*: what calls
    it runs coroutines too."""
    for inner in _called(func):
        flags = _flags_of(inner)
        if not flags & _NOT_RUN:
            continue
        where = getattr(func, "__qualname__", None) or f"{type(func).__name__} object"
        if flags & (_GENERATOR | _OF_GENERATOR | _ASYNC_GENERATOR):
            raise ValueError(
                f"{where} is a generator function: calling it does not run its body, so it cannot be {what}; return a list instead "
                "of yielding, or call it from a function that consumes what it yields"
            )
        if flags & _COROUTINE and not runs_coroutines:
            raise ValueError(
                f"{where} is an 'async def', so it cannot be {what}: huey calls it as a plain function, without an event loop; declare a "
                "plain function that calls asyncio.run(...) on it"
            )


def is_coroutine_function(func: Any) -> bool:
    """Return True if calling *func* certainly returns a coroutine."""
    return any(_flags_of(inner) & _COROUTINE for inner in _called(func))


def _flags_of(func: Any) -> int:
    code = getattr(func, "__code__", None)
    return code.co_flags if isinstance(code, CodeType) else 0


def _called(func: Any) -> Iterator[Any]:
    """Yield *func* and the functions that a call of it calls, as far as that is certain."""
    for _ in range(_DEEPEST):
        yield func
        if isinstance(func, partial):
            func = func.func
        elif isinstance(func, MethodType):
            func = func.__func__
        elif passes_on(func):
            func = func.__wrapped__
        elif not isinstance(func, FunctionType | type) and callable(func) and isinstance(inner := type(func).__call__, FunctionType):
            func = inner
        else:
            return


def passes_on(func: Any) -> bool:
    """Return True if *func* is a wrapper that passes on the same arguments and returns the same value: huey's own wrappers, those of
    ``contextlib``, a cache. Other wrappers may add arguments, or run a coroutine."""
    if isinstance(func, _CACHED):
        return True
    return isinstance(func, FunctionType) and hasattr(func, "__wrapped__") and (func in _passing or func.__globals__ is vars(contextlib))


_passing: WeakSet[Callable[..., Any]] = WeakSet()


def passing_on(wrapper: F) -> F:
    """Decorator: register *wrapper* as one that passes arguments and return value on unchanged."""
    _passing.add(wrapper)
    return wrapper


def hide_first_parameter(wrapper: Any, func: Any) -> None:
    """Hide the first parameter of *func* in the signature of *wrapper*, which supplies that argument."""
    from inspect import signature

    with contextlib.suppress(TypeError, ValueError):  # Some callables written in C have no signature.
        shown = signature(func)
        wrapper.__signature__ = shown.replace(parameters=list(shown.parameters.values())[1:])


def inside_context(manager: Any, func: Any, as_argument: bool = False) -> Any:
    """Return a function that runs *func* inside ``with manager:``. *as_argument*: it gets what that returns as its first argument."""
    if is_coroutine_function(func):

        @wraps(func)
        async def inside(*args: Any, **kwargs: Any) -> Any:
            with manager as entered:
                return await func(*((entered, *args) if as_argument else args), **kwargs)

    else:

        @wraps(func)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with manager as entered:
                return func(*((entered, *args) if as_argument else args), **kwargs)

    if as_argument:
        hide_first_parameter(inside, func)
    else:
        passing_on(inside)
    return inside


def innermost(func: Any) -> Any:
    """Return the function inside all wrappers."""
    for _ in range(_DEEPEST):
        inner = func.func if isinstance(func, partial) else getattr(func, "__func__", None) or getattr(func, "__wrapped__", None)
        if inner is None:
            break
        func = inner
    return func


def take_over(wrapper: Any, func: Any) -> None:
    """Make *wrapper* look like its function, as ``functools.wraps`` does, but keep the attributes that it already has."""
    for name in WRAPPER_ASSIGNMENTS:
        if hasattr(func, name):
            setattr(wrapper, name, getattr(func, name))
    for name, value in () if isinstance(func, type) else getattr(func, "__dict__", {}).items():
        if not hasattr(wrapper, name):
            setattr(wrapper, name, value)
    wrapper.__wrapped__ = func


def is_method_of(func: Any, owner: type, name: str) -> bool:
    """Return True if it was defined in the body of that class, for its instances or for the class itself."""
    inner = innermost(func)
    if not isinstance(inner, FunctionType) or inner.__qualname__ != f"{owner.__qualname__}.{name}":
        return False
    return inner.__code__.co_varnames[: min(1, inner.__code__.co_argcount)] in (("self",), ("cls",))


def check_has_run(name: str, value: Any) -> None:
    """Close *value*, which the task *name* returned, and raise TypeError if it has a body that has not run and never would."""
    kind = type(value)
    if kind in PLAIN or kind.__module__.startswith("huey.client.result"):
        # A handle can be awaited, but it is no body; that it cannot be stored is said later.
        return
    if hasattr(kind, "throw") and hasattr(kind, "send"):
        with contextlib.suppress(Exception):
            # Otherwise "was never awaited" is reported elsewhere, later. One that has begun may raise anything.
            value.close()
        raise TypeError(f"{name} returned a {kind.__name__}: nothing has run its body; {_ADVICE}")
    if hasattr(kind, "__await__") or hasattr(kind, "asend"):
        raise TypeError(f"{name} returned {kind.__name__!r}, which is never awaited; {_ADVICE}")


_ADVICE = "run it in the task, with asyncio.run(...) or list(...), and return the result; a task may also be an async def"
