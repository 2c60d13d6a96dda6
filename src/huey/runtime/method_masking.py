"""`Masked`: the base of classes whose methods close the mask of the thread that calls them (masking.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

from huey.runtime.masking import INSIDE, F, entering, masked, masks

_GENERATOR = 0x20
"""Flag of the code of a generator function (``inspect.CO_GENERATOR``; inspect takes long to load)."""
_DUNDERS = ("__call__", "__enter__", "__exit__", "__getitem__", "__len__")


class Masked:
    """Base of classes whose public methods a task body can call. All of them are masked, including those of subclasses and of other base
    classes inside huey."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for kind in cls.__mro__:
            if kind.__module__.partition(".")[0] == "huey":
                mask_methods(kind)


def mask_methods(kind: type) -> None:
    """Mask the public methods that class *kind* defines."""
    for name, method in list(vars(kind).items()):
        if name.startswith("_") and name not in _DUNDERS:
            continue
        if isinstance(method, property):
            if method.fget is not None and not getattr(method.fget, INSIDE, False):
                setattr(kind, name, property(masked(method.fget), method.fset and masked(method.fset), method.fdel, method.__doc__))
        elif hasattr(method, "__code__") and not getattr(method, INSIDE, False):
            setattr(kind, name, _inside(name, method))


def _inside(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    if name == "__enter__":
        return entering(method)
    if _is_generator(method):
        return stepwise(method)
    if _is_generator(getattr(method, "__wrapped__", None)):
        return _wrapping(_Block, method)
    return masked(method)


def stepwise(generator: F) -> F:
    """Decorator: mask each step of a generator function."""
    return cast(F, _wrapping(_Steps, generator))


def _is_generator(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _GENERATOR)


def _wrapping(kind: Callable[[Any], Any], method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        made = method(*args, **kwargs)
        # While no thread has a mask, the usual case, the result is not wrapped.
        return kind(made) if masks else made

    setattr(call, INSIDE, True)
    return call


class _Steps(Iterator[Any]):
    """A generator of huey with each step masked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @masked
    def __next__(self) -> Any:
        return next(self._inner)

    @masked
    def close(self) -> None:
        self._inner.close()


class _Block:
    """A context manager of huey with entry and exit masked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @entering
    def __enter__(self) -> Any:
        return self._inner.__enter__()

    @masked
    def __exit__(self, *error: Any) -> Any:
        return self._inner.__exit__(*error)
