"""Pickles: of any class if only this application can have written them, otherwise of plain types."""

from __future__ import annotations

import datetime
import io
import pickle
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

from huey.exceptions import DecodeError, EncodeError, TaskException
from huey.serializer.budget import check_pickle, most_memory
from huey.serializer.weights import is_surely_small
from huey.utils import Error, skipped

_WAY_OUT = "sign the messages with secret=, use JSON, or give allow_pickle=True if everyone who can write there may also run code here"


to_pickle: Callable[[Any], bytes] = partial(pickle.dumps, protocol=5)
from_pickle: Callable[[bytes], Any] = pickle.loads


def to_pickles(values: Iterable[Any]) -> list[bytes]:
    dumps = pickle.dumps
    return [dumps(value, 5) for value in values]


class MissingClass(DecodeError):
    """A class that a pickle names does not exist in this process; older or newer code may have it."""

    path = ""
    """Module and name of the class."""


def load_any(body: bytes) -> Any:
    """Load a trusted pickle of any class. Raise MissingClass if a class is not found; errors raised by a class propagate."""
    try:
        return from_pickle(body)
    except (ImportError, AttributeError):
        return _NamingUnpickler(io.BytesIO(body)).load()


class _NamingUnpickler(pickle.Unpickler):
    """An unpickler whose error names the class that is missing."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            missing = MissingClass(f"holds {module}.{name}, which is not found here ({error_text(error)}); deploy the code that defines it")
            missing.path = f"{module}.{name}"
            raise missing from error


def may_name_a_class(body: bytes) -> bool:
    """Return True if *body* has an opcode with which huey's pickler names a class, or the same byte as part of a value."""
    return b"\x93" in body or b"\x82" in body or b"\x83" in body or b"\x84" in body


def verify_plain(value: Any, body: bytes, limit: int, stored: int) -> None:
    """Raise EncodeError if `load_plain` would reject *body*, which is huey's pickle of *value*."""
    if is_surely_small(value, len(body), limit, most_memory(stored)):
        return
    try:
        if may_name_a_class(body):
            load_plain(body, limit, stored)
        else:
            check_pickle(body, limit, stored)
    except DecodeError as error:
        raise EncodeError(str(error)) from None


def load_plain(body: bytes, limit: int, stored: int | None = None) -> Any:
    """Load a pickle of plain types, calling only their constructors. Raise DecodeError if it names anything else, or would take more than
    *limit* bytes; damaged bytes may raise anything. *stored*: as in `check_pickle`."""
    check_pickle(body, limit, stored)
    value = _PlainUnpickler(io.BytesIO(body)).load()
    if may_name_a_class(body):
        # A constructor that is left in the value, a class sent as such, is reported when it is written.
        to_pickle(value)
    return value


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _constructor(f"{module}.{name}")


class _SafeConstructor:
    """Stand-in for a plain type while a message is read: it can only be called, with short scalars.

    The type itself is never exposed: BUILD could set its attributes, and one long argument could be used a thousand times.
    """

    __slots__ = ("make", "path")
    make: Callable[..., Any]
    path: str

    def __init__(self, path: str, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "make", make)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} cannot be changed")

    def __call__(self, *args: Any) -> Any:
        if not all(map(_is_short, args)):
            raise DecodeError(f"holds {_a(self.path)} of more than {_SHORT:,} digits; {_WAY_OUT}")
        kinds = _CONTAINER_ARGUMENTS.get(self.path, _SCALARS)
        if not all(isinstance(arg, kinds) for arg in args):
            raise DecodeError(f"holds {_a(self.path)} that is made of anything but texts and numbers; {_WAY_OUT}")
        return self.make(*args)

    def __repr__(self) -> str:
        return f"<maker of {self.path}>"

    def __reduce__(self) -> str:
        raise DecodeError(f"holds the class {self.path} itself; {_WAY_OUT}")


_SHORT = 4300
"""Python's own limit for the digits of an int in text."""


def _is_short(value: Any) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= 4 * _SHORT
    return not isinstance(value, str | bytes) or len(value) <= _SHORT


_SCALARS = (int, float, str, bytes, type(None), datetime.timedelta, datetime.tzinfo)
_CONTAINER_ARGUMENTS = {
    "collections.deque": (list, tuple, int, type(None)),
    "collections.OrderedDict": (dict, tuple),
    # A ZoneInfo asks for an attribute of the constructor.
    "builtins.getattr": (_SafeConstructor, str),
    "huey.exceptions.TaskException": (dict,),
    "huey.utils.Error": (dict,),
}


@cache
def _constructor(path: str) -> Any:
    """Return the constructor that stands for the class *path*. Raise DecodeError if it is not a plain type."""
    from importlib import import_module

    if path in _PLAIN_TYPES:
        module, _, name = path.partition(".")
        return _SafeConstructor(path, getattr(import_module(module), name))
    if path in _OWN_MAKERS:
        return _SafeConstructor(path, _OWN_MAKERS[path])
    if path == "uuid.UUID":
        # The class itself: its pickles need one. BUILD cannot change it, because it has a __setstate__.
        return import_module("uuid").UUID
    raise DecodeError(f"holds {path}, and only plain types are accepted unsigned where others could write too; {_WAY_OUT}")


def _fraction(top: int | str, bottom: int | str = 1) -> Any:
    """Return the fraction; unlike ``Fraction(text)`` this never computes "1e999999999"."""
    from fractions import Fraction

    if isinstance(top, str):
        top, _, under = top.partition("/")
        bottom = under or bottom
    return Fraction(int(top), int(bottom))


def _zone(key: str, from_cache: bool = True) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(key)


def _attribute(owner: Any, name: str) -> Any:
    """Return the one attribute that a plain type asks for: a ZoneInfo names its constructor this way."""
    if isinstance(owner, _SafeConstructor) and owner.make is _zone and name == "_unpickle":
        return owner
    raise DecodeError(f"holds a method or attribute, {name!r}; {_WAY_OUT}")


_PLAIN_TYPES = frozenset(
    {
        "builtins.complex",
        "builtins.range",
        "builtins.slice",
        "collections.OrderedDict",
        "collections.deque",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
    }
)
_OWN_MAKERS: dict[str, Callable[..., Any]] = {
    "builtins.getattr": _attribute,
    "fractions.Fraction": _fraction,
    "huey.exceptions.TaskException": TaskException,
    "huey.utils.Error": Error,
    "huey.utils.skipped": skipped,
    "zoneinfo.ZoneInfo": _zone,
}


def type_name(value: Any) -> str:
    """Return the type of *value* with an article: "a decimal.Decimal"."""
    kind = type(value)
    return _a(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}")


def _a(name: str) -> str:
    return f"an {name}" if name[:1] in "aeiouAEIOU" else f"a {name}"


def error_text(error: BaseException) -> str:
    """Return an error as one short text."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # The user's __str__ may raise too.
        return type(error).__name__
