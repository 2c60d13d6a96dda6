"""Constraint options of a decorator (``unique=``, ``concurrency=``, ...), resolved to the constraints of one call. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from huey.runtime.clock import Micros, micros
from huey.runtime.functions import check_runs_when_called
from huey.runtime.suggestions import did_you_mean
from huey.task.bounds import LARGEST, is_storable, parse_number
from huey.task.record_options import DONE, WAITING, Constraints

Key = str | tuple[str, ...] | Callable[..., Any]
"""The source of a key: names of parameters of the function, or a function of the call's arguments that returns the key."""

Rate = str | tuple[int, float | timedelta]
"""How many tasks in a window: ``"20/s"``, ``"5/10s"`` (units s, m, h, d), or their number and the length of the window in seconds."""
_RATE = re.compile(r"\s*(\d+)\s*(?:/|per)?\s*(\d*)\s*([a-z]*)\s*", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WORDS = {
    "": "s",
    "s": "s",
    "sec": "s",
    "second": "s",
    "m": "m",
    "min": "m",
    "minute": "m",
    "h": "h",
    "hr": "h",
    "hour": "h",
    "d": "d",
    "day": "d",
}

LONGEST = 200
"""Maximum length in characters of a key with the function's name; a longer one is stored as its hash."""
_OTHER_KEYS = "name the parameters to use, or give a function of the arguments that returns a string"


class ConstraintSpec(NamedTuple):
    """The constraints of one decorated function."""

    unique: bool | Key = False
    """While a call with the same key waits or runs, another one enqueues nothing and returns the handle of the first. The key is all
    arguments (True), the named parameters, or what a function of the arguments returns (None: no constraint for this call)."""
    unique_for: str | float = DONE
    """How long the key is held: until the task is ``"done"``, while it is ``"waiting"`` to start, or for seconds (or a timedelta)."""
    concurrency: int | None = None
    """How many calls run at a time, across all consumers; the others wait, without occupying a runner or using up a try."""
    key: Key | None = None
    """The key of the concurrency limit, given as for ``unique``; a call whose key is None is not limited."""
    at_most_once: bool = False
    """If its worker dies, the task fails (reason ``lost``) instead of running again. Retries after an exception are not affected."""
    rate: tuple[int, Micros] | None = None
    """How many calls start in a window, across all consumers: ``"20/s"``, ``"5/10s"``, or ``(20, 1.0)`` with seconds or a timedelta. The
    others wait like those of ``concurrency``. Windows begin at multiples of their length."""
    rate_key: Key | None = None
    """The key of the rate, given as for ``unique``; None: not limited. With ``concurrency``, it must be equal to ``key``."""

    @property
    def varies_per_call(self) -> bool:
        """True if two calls may have different constraints."""
        return self.unique is not False or self.key is not None or self.rate_key is not None

    def check_names(self, func: Callable[..., Any]) -> None:
        """Raise ValueError if a key names a parameter that *func* does not have."""
        for what, key in (("unique", self.unique), ("key", self.key), ("rate_key", self.rate_key)):
            if not isinstance(key, str | tuple):
                continue
            from inspect import signature

            try:
                known = list(signature(func).parameters)
            except (TypeError, ValueError):
                # Some callables written in C have no signature.
                return
            for name in (key,) if isinstance(key, str) else key:
                if name not in known:
                    there = f"it has {', '.join(known)}" if known else "it has none"
                    raise ValueError(f"{what}={key!r}: the function has no parameter {name!r} ({there}){did_you_mean(name, known)}")

    def for_call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Constraints:
        """Return the constraints of one call of *func*, the task *name*. Raise ValueError for an argument that cannot be part of a key."""
        unique = None if self.unique is False else _key_of(self.unique, name, "unique=", func, args, kwargs)
        what, source = ("rate_key=", self.rate_key) if self.concurrency is None else ("key=", self.key)
        limit: str | None = None
        if self.concurrency is not None or self.rate is not None:
            limit = key_text(name) if source is None else _key_of(source, name, what, func, args, kwargs)
        return Constraints(unique, self.unique_for, limit, self.concurrency, self.at_most_once, rate=self.rate)


def parse_constraints(
    unique: Any = False,
    unique_for: str | float | timedelta = DONE,
    concurrency: int | None = None,
    key: Any = None,
    at_most_once: bool = False,
    rate: Rate | None = None,
    rate_key: Any = None,
) -> ConstraintSpec | None:
    """Return the constraints that a decorator was given, or None if it has none. Raise ValueError for a combination that cannot work."""
    if unique_for != DONE and not unique:
        raise ValueError(f"unique_for={unique_for!r} without unique=: say what is unique, such as unique=True")
    if key is not None and concurrency is None:
        raise ValueError(f"key={key!r} without concurrency=: say how many tasks of one key may run, such as concurrency=1")
    if concurrency is not None and parse_number("concurrency", concurrency, low=0, whole=True) < 1:
        raise ValueError("concurrency=0: give at least 1; to stop a queue, pause it")
    if rate_key is not None and rate is None:
        raise ValueError(f'rate_key={rate_key!r} without rate=: say how many tasks of one key may start, such as rate="20/s"')
    spec = ConstraintSpec(
        bool(unique) if isinstance(unique, bool) or unique is None else _parse_key("unique", unique),
        _parse_unique_for(unique_for),
        concurrency,
        None if key is None else _parse_key("key", key),
        bool(at_most_once),
        None if rate is None else parse_rate(rate),
        None if rate_key is None else _parse_key("rate_key", rate_key),
    )
    if spec.concurrency is not None and spec.rate is not None and spec.key != spec.rate_key:
        raise ValueError(
            f"key={key!r}, rate_key={rate_key!r}: a task with concurrency= and rate= counts both by one key; give the same as key= and "
            "rate_key=, or call huey.rate_limit in its body"
        )
    return None if spec == ConstraintSpec() else spec


def _parse_key(what: str, key: Any) -> Key:
    if isinstance(key, str):
        return key
    if callable(key):
        check_runs_when_called(key, f"{what}=")
        made: Callable[..., Any] = key
        return made
    names = tuple(key) if isinstance(key, Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what}={key!r}: give the name of a parameter, a list of names, or a function of the call's arguments")
    return names


def _unit_of(word: str) -> str | None:
    return _WORDS.get(word.removesuffix("s") if len(word) > 2 else word)


def parse_rate(rate: Any) -> tuple[int, Micros]:
    """Return how many tasks *rate* allows in a window, and its length in microseconds. Raise ValueError if it is not a rate."""
    most, length, hint = (*rate, "") if isinstance(rate, tuple | list) and len(rate) == 2 else (None, None, "")
    if isinstance(rate, str | int) and (found := _RATE.fullmatch(str(rate))) and (unit := _unit_of(found[3].lower())) is not None:
        meant = f"{found[1]}/{found[2]}{unit}"
        if rate == meant:
            most, length = int(found[1]), int(found[2] or 1) * _UNITS[unit]
        else:
            hint = f"; did you mean {meant!r}?"
    length = length.total_seconds() if isinstance(length, timedelta) else length
    are_numbers = type(most) is int and type(length) in (int, float)
    if are_numbers and 0 < most <= LARGEST and 0 < length <= LARGEST and (window := micros(length)) > 0:
        return most, window
    raise ValueError(f"rate={rate!r}: give a text such as '20/s' or '5/10m' (units s, m, h, d), or (20, seconds), of at least 1 task{hint}")


def _parse_unique_for(unique_for: str | float | timedelta) -> str | float:
    if unique_for in (DONE, WAITING):
        return str(unique_for)
    length = unique_for.total_seconds() if isinstance(unique_for, timedelta) else unique_for
    if isinstance(length, bool) or not isinstance(length, int | float) or not 0 < length <= LARGEST:
        raise ValueError(f"unique_for={unique_for!r}: give {DONE!r}, {WAITING!r}, or seconds")
    return float(length)


def _key_of(
    source: bool | Key, name: str, what: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the key of one call as a string, or None if this call has none."""
    what = f"{name}: {what}"
    value = source(*args, **kwargs) if callable(source) else _arguments(source, what, func, args, kwargs)
    try:
        return None if value is None else key_text(name, canonical(value, what))
    except RecursionError as error:
        raise ValueError(f"{what}: a value nested too deeply, or in itself, cannot be used in a key; {_OTHER_KEYS}") from error


def key_text(*parts: Any) -> str:
    """Return one string for the parts of a key, the function's name and the canonical values; different parts give different strings."""
    text = json.dumps(parts)
    if len(text) <= LONGEST:
        return text
    from hashlib import sha256

    return f"sha256:{sha256(text.encode()).hexdigest()}"


def _arguments(source: bool | str | tuple[str, ...], what: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return the call's arguments by parameter, however they were passed; or those that *source* names."""
    from inspect import signature

    try:
        bound = signature(func).bind_partial(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"{what}: the call does not fit the function: {error}") from error
    bound.apply_defaults()
    if source is True:
        return dict(bound.arguments)
    names = (source,) if isinstance(source, str) else tuple(source or ())
    missing = [name for name in names if name not in bound.arguments]
    if missing:
        raise ValueError(f"{what}{source!r}: the call has no argument {missing[0]!r}; there are {', '.join(bound.arguments) or 'none'}")
    # A single text stays readable; None means that this call has no key.
    return bound.arguments[names[0]] if isinstance(source, str) else [bound.arguments[name] for name in names]


def canonical(value: Any, what: str) -> Any:
    """Return *value* with its type in a form for JSON, which is equal for two values only if their type and value are, in every process.

    Raise ValueError, naming *what*, for a value that only its address distinguishes, or a string that no storage can hold.
    """
    kind = type(value)
    if kind is str and not is_storable(value):
        raise ValueError(f"{what} makes a key of the string {value!r:.100}: a key must not contain NUL or surrogates")
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if value.bit_length() <= 64 else {"int": hex(value)}
    for base, convert in _CONVERTERS.items():
        if isinstance(value, base):
            return {_name_of(kind, base): convert(value, what)}
    if kind.__module__.removesuffix("._local") in ("datetime", "decimal", "uuid", "fractions", "pathlib"):
        # Python 3.13 defines path classes in a submodule.
        return {_name_of(kind): str(value)}
    raise ValueError(f"{what}: a value of type {_name_of(kind)} cannot be used in a key; {_OTHER_KEYS}")


def _name_of(kind: type, base: type | None = None) -> str:
    return kind.__name__ if kind is base else f"{kind.__module__.removesuffix('._local')}.{kind.__qualname__}"


def _items(value: Iterable[Any], what: str) -> list[Any]:
    return [canonical(item, what) for item in value]


def _set(value: Iterable[Any], what: str) -> list[Any]:
    return sorted(_items(value, what), key=json.dumps)


def _pairs(value: Mapping[Any, Any], what: str) -> list[Any]:
    return sorted(([canonical(name, what), canonical(item, what)] for name, item in value.items()), key=lambda pair: json.dumps(pair[0]))


_CONVERTERS: dict[type, Callable[[Any, str], Any]] = {
    list: _items,
    tuple: _items,
    set: _set,
    frozenset: _set,
    dict: _pairs,
    Mapping: _pairs,
    bytes: lambda value, what: value.hex(),
    bytearray: lambda value, what: value.hex(),
    # Classes of the application derived from these: an enum of numbers is not the number.
    str: lambda value, what: canonical(str.__str__(value), what),
    int: lambda value, what: canonical(int(value), what),
    float: lambda value, what: float(value),
}
"""By base class."""
