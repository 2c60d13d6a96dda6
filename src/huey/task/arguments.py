"""Check that the arguments of a call fit its function, where the call is made rather than later in another process.

Only definite mismatches are errors: what a wrapper does with its arguments (``def inner(*args, **kwargs)``), only it knows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from huey.runtime.functions import check_runs_when_called, innermost, passes_on
from huey.runtime.suggestions import did_you_mean

_VARARGS, _VARKEYWORDS = 0x04, 0x08
"""Flags of a code object."""


class Parameters:
    """The parameters of a function.

    *positional*: parameters that can be given by position, in order; the first *only_positional* of them can be given no other way.
    *by_keyword*: those that can only be given by keyword. *required*: those without a default. *takes_more*, *takes_any*: whether it has
    ``*args``, ``**kwargs``. *given*: keywords that huey passes in each run.
    """

    __slots__ = (
        "_may", "_must", "by_keyword", "counts", "given", "keywords", "missing", "names", "only_positional", "positional", "required",
        "takes_any", "takes_more",
    )  # fmt: skip

    def __init__(
        self,
        positional: tuple[str, ...] = (),
        only_positional: int = 0,
        by_keyword: tuple[str, ...] = (),
        required: frozenset[str] = frozenset(),
        takes_more: bool = True,
        takes_any: bool = True,
        given: frozenset[str] = frozenset(),
    ) -> None:
        self.positional = positional
        self.only_positional = only_positional
        self.by_keyword = by_keyword
        self.required = required
        self.takes_more = takes_more
        self.takes_any = takes_any
        self.given = given
        self.names = frozenset((*positional, *by_keyword))
        self.keywords = frozenset((*positional[only_positional:], *by_keyword))
        """Names that can be given by keyword, besides those that ``**kwargs`` takes."""
        self.missing = [name for name in (*positional, *by_keyword) if name in required and name not in given]
        """The parameters that a call without arguments lacks."""
        self.counts = self._counts()
        """The smallest and largest number of arguments with which a call without keywords fits."""
        self._must = frozenset(self.missing)
        # Enough for most functions; for the others ``misfit`` checks in detail.
        self._may = frozenset() if only_positional else self.names

    def _counts(self) -> tuple[int, int]:
        indexes = [index for index, name in enumerate(self.positional) if name in self.given]
        most = indexes[0] if indexes else sys.maxsize if self.takes_more else len(self.positional)
        if not self.missing:
            return 0, most
        last = self.missing[-1]
        return 1 + self.positional.index(last) if last in self.positional else sys.maxsize, most

    def with_given(self, names: frozenset[str]) -> Parameters:
        """Return a copy for a function to which huey passes the keywords *names* in each run."""
        more = (self.required, self.takes_more, self.takes_any, names)
        return Parameters(self.positional, self.only_positional, self.by_keyword, *more)

    def misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], words: Iterable[str] = (), *, may_lack: bool = False) -> str | None:
        """Return why a call does not fit, or None if it does. *words*: keywords that huey itself takes, to suggest for a misspelled one.
        *may_lack*: more arguments may be added."""
        filled, most = self.positional[: len(args)], self.counts[1]
        names = {*filled, *kwargs}
        if len(args) <= most and len(names) == len(args) + len(kwargs) and self._must <= names <= self._may:
            return None
        if len(args) > most:
            if twice := self.given.intersection(filled):
                return f"takes {most} arguments by position: {min(twice)!r} is passed by huey"
            return f"takes {most} argument{'s' * (most != 1)} by position, and {len(args)} {'was' if len(args) == 1 else 'were'} given"
        if not self.takes_any and (unknown := [word for word in kwargs if word not in self.keywords]):
            return f"has no parameter {unknown[0]!r}{did_you_mean(unknown[0], {*self.keywords, *words} - self.given)}"
        if both := [name for name in filled[self.only_positional :] if name in kwargs]:
            return f"is given {both[0]!r} twice, by position and by keyword"
        given = {*filled, *(set(kwargs) & self.keywords), *self.given}
        if may_lack:
            return None
        if lacking := [name for name in (*self.positional, *self.by_keyword) if name in self.required and name not in given]:
            return f"lacks {'arguments' if len(lacking) > 1 else 'an argument'}: {', '.join(lacking)}"
        return None

    def __str__(self) -> str:
        """Return the parameters as in a definition of the function."""

        def shown(names: Iterable[str]) -> list[str]:
            return [name if name in self.required else f"{name}=..." for name in names if name not in self.given]

        parts = shown(self.positional[: self.only_positional])
        parts += ["/"] * bool(parts) + shown(self.positional[self.only_positional :])
        parts += ["*args"] if self.takes_more else ["*"] * bool(shown(self.by_keyword))
        return f"({', '.join([*parts, *shown(self.by_keyword), *['**kwargs'] * self.takes_any])})"


ANY = Parameters()
"""Parameters of a function whose signature is unknown: every call fits."""


def parameters_of(func: Any, given: Iterable[str] = ()) -> Parameters:
    """Return the parameters of *func*. *given*: keywords that huey passes in each run. Raise ValueError if it does not accept one."""
    while passes_on(func):
        func = func.__wrapped__
    is_declared = isinstance(func, FunctionType) and _has_own_signature(func)
    found = _of_code(func) if isinstance(func, FunctionType) and not is_declared else _of_signature(func)
    extras = frozenset(given)
    for name in extras:
        # A function that declares its signature declares what callers pass.
        if not (is_declared or found.takes_any or name in found.keywords):
            which = "context=True (include_task)" if name == "task" else "retries_as_argument=True"
            raise ValueError(f"{which} passes the keyword {name!r}, and {_called(func)}{found} does not take it: add the parameter")
    return found.with_given(extras) if extras else found


def own_names(func: Any, parameters: Parameters) -> frozenset[str]:
    """Return the names of the function's own parameters, including those of the function inside wrappers."""
    inner = innermost(func)
    return parameters.names if inner is func else parameters.names | parameters_of(inner).names


def _called(func: Any) -> str:
    return str(getattr(func, "__qualname__", None) or repr(func))


def _has_own_signature(func: FunctionType) -> bool:
    """Return whether it has a ``__signature__`` of its own, not one copied from the function it wraps."""
    declared = vars(func).get("__signature__")
    return declared is not None and declared is not getattr(vars(func).get("__wrapped__"), "__signature__", None)


def _of_code(func: FunctionType) -> Parameters:
    # What ``inspect.signature`` would return, without the time and memory of importing inspect.
    code = func.__code__
    positional = code.co_varnames[: code.co_argcount]
    by_keyword = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    optional = {*positional[len(positional) - len(func.__defaults__ or ()) :], *(func.__kwdefaults__ or ())}
    return Parameters(
        positional,
        code.co_posonlyargcount,
        by_keyword,
        frozenset(name for name in (*positional, *by_keyword) if name not in optional),
        bool(code.co_flags & _VARARGS),
        bool(code.co_flags & _VARKEYWORDS),
    )


def _of_signature(func: Any) -> Parameters:
    from inspect import Parameter, signature

    try:
        all_of_it = signature(func, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        # Some callables written in C have no signature.
        return ANY
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    kinds = {it.kind for it in all_of_it}
    return Parameters(
        tuple(it.name for it in all_of_it if it.kind in by_position),
        sum(it.kind is Parameter.POSITIONAL_ONLY for it in all_of_it),
        tuple(it.name for it in all_of_it if it.kind is Parameter.KEYWORD_ONLY),
        frozenset(it.name for it in all_of_it if it.default is Parameter.empty and it.kind in (*by_position, Parameter.KEYWORD_ONLY)),
        Parameter.VAR_POSITIONAL in kinds,
        Parameter.VAR_KEYWORD in kinds,
    )


def check_schedule(validate_datetime: Any) -> None:
    """Raise ValueError if *validate_datetime* cannot be called with a datetime."""
    if not callable(validate_datetime):
        raise ValueError(
            f"periodic_task({validate_datetime!r}): give crontab(...), a cron line such as '0 3 * * *', or a function of a datetime"
        )
    check_runs_when_called(validate_datetime, "a schedule")
    if parameters_of(validate_datetime).misfit((None,), {}):
        raise ValueError(
            f"periodic_task({validate_datetime!r}): it cannot be called with a datetime; write @huey.periodic_task(crontab(...)) above "
            "the function to run"
        )


def scheduled_arguments(args: Any, kwargs: Any) -> tuple[Any, ...]:
    """Return the *args* of a scheduled call as a tuple. Raise ValueError if they are not a tuple or list, or *kwargs* is not a dict."""
    if kwargs is not None and not isinstance(kwargs, Mapping):
        meant = args if isinstance(args, tuple | list) else (args, kwargs)
        hint = f"args={tuple(meant)!r}" if meant is not args else "kwargs={'name': value}"
        raise ValueError(f"args={args!r}, kwargs={kwargs!r}: give the arguments as a tuple, and keywords as a dict: {hint}")
    if args is None:
        return ()
    if not isinstance(args, tuple | list):
        raise ValueError(f"args={args!r}: give the arguments as a tuple, args=({args!r},)")
    return tuple(args)
