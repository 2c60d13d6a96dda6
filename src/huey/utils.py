"""Names that applications of huey 0.4.9 import from here. Nothing new is added."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn


class EmptyData:
    """Marker for "nothing is stored there", which differs from a stored None. Compared by identity."""


class Error(NamedTuple):
    """A failure as a value, under its huey 3.x name: *metadata* is that of ``TaskException``."""

    metadata: dict[str, Any]


def load_class(path: str) -> Any:
    """Import the object at a dotted path, ``package.module.Name``. Raises ImportError if there is none."""
    from importlib import import_module

    module, _, name = path.rpartition(".")
    if not module or not name:
        raise ImportError(f"{path!r}: give a path such as package.module.Name")
    try:
        return getattr(import_module(module), name)
    except AttributeError as error:
        raise ImportError(f"{path!r}: the module {module} has no {name}") from error


def local_to_utc(dt: datetime) -> datetime:
    """Convert a naive local time to a naive time in UTC, to the second."""
    return dt.replace(tzinfo=None, microsecond=0).astimezone(UTC).replace(tzinfo=None)


def wrap_exception(new: type[Exception]) -> NoReturn:
    """Inside ``except``: raise *new* with the text ``OriginalClass: message`` and the original exception as its cause."""
    error = sys.exception()
    raise new(f"{type(error).__name__}: {error}") from error
