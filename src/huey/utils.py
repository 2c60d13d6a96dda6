"""Names that applications of huey 0.4.9 and 3.x import from here."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn


class EmptyData:
    """Marker for "nothing is stored there", which differs from a stored None. Compared by identity."""


class Error(NamedTuple):
    """A failure as a value, such as that of a member in the list that a chord's callback gets. *metadata* is that of ``TaskException``."""

    metadata: dict[str, Any]

    def __reduce__(self) -> Any:
        return Error, (self.metadata,)


class Skipped:
    """The value of a task that did not run; there is one, ``huey.SKIPPED``."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return skipped, ()

    def __repr__(self) -> str:
        return "SKIPPED"


SKIPPED = Skipped()
"""Stands in the list of a chord's callback for a member that was revoked, expired or cancelled. Compared by identity."""


def skipped() -> Skipped:
    """Return ``SKIPPED``."""
    return SKIPPED


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
