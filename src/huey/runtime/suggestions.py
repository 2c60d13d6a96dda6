"""Suggestions for mistyped words, and for keywords that a function does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

_ELSEWHERE = {
    "apply_at": "eta", "at": "eta", "run_at": "eta",
    "countdown": "delay", "defer": "delay", "in_": "delay", "wait": "delay",
    "default_retry_delay": "retry_delay", "interval": "retry_delay",
    "job_id": "id", "key": "id", "task_id": "id",
    "max_retries": "retries", "retry": "retries", "attempts": "retries",
    "soft_time_limit": "timeout", "time_limit": "timeout", "job_timeout": "timeout",
    "ttl": "expires",
}  # fmt: skip
"""Words that other task queues use for options of a call."""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ``; did you mean 'delay'?`` if one of *words* is near *word* or a synonym in other task queues, otherwise an empty text."""
    known = sorted(words)
    meant = _ELSEWHERE.get(word)
    if meant not in known:
        from difflib import get_close_matches

        meant = next(iter(get_close_matches(word, known, 1, 0.7)), None)
    return f"; did you mean {meant!r}?" if meant is not None and meant != word else ""


F = TypeVar("F", bound=Callable[..., Any])

_UNEXPECTED = re.compile(r"unexpected keyword argument '([^']*)'")


def unknown_keyword(error: TypeError) -> str | None:
    """Return the unexpected keyword that *error* is about, or None for other errors."""
    found = _UNEXPECTED.search(str(error))
    return found[1] if found else None


def keywords_of(function: Any) -> tuple[str, ...]:
    """Return the parameters of a function written in Python."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def hinting(function: F) -> F:
    """Return *function*, wrapped so that its TypeError about an unknown keyword suggests the nearest one."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            # It is about this very call, not about one inside it.
            word = unknown_keyword(error) if error.__traceback__ is not None and error.__traceback__.tb_next is None else None
            if word is None:
                raise
            raise TypeError(f"{error}{did_you_mean(word, {*keywords_of(function)} - {'self'})}") from None

    return cast(F, call)


def also_named(**names: str) -> Callable[[F], F]:
    """Decorator: accept a parameter also by its name in another version of huey, ``also_named(lock_name="name")``."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for other in names.keys() & kwargs.keys():
                if names[other] in kwargs:
                    raise TypeError(f"{function.__name__}: {other} and {names[other]} are the same; give one")
                kwargs[names[other]] = kwargs.pop(other)
            return function(*args, **kwargs)

        return cast(F, call)

    return decorate
