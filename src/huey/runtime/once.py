"""Values that are created at their first use, by whichever thread comes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def once(made: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """Return what *made* has for *key*; create it with *make* if there is none yet.

    Several threads may each create one at the same time, but all get the same. There is no lock that a fork could leave held, or that a
    signal handler could wait for in its own thread.
    """
    found = made.get(key)
    return made.setdefault(key, make()) if found is None else found
