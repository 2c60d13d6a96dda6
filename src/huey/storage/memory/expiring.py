"""Values with an expiry time: plain dicts, and functions on them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from huey.runtime.clock import FOREVER, Micros, micros
from huey.storage.base import PRUNE

K = TypeVar("K")
V = TypeVar("V")
Expiring = dict[K, tuple[V, Micros]]
"""Each value with the time at which it expires."""


def end_of(ttl: float | None, now: Micros) -> Micros:
    """Return the end of *ttl* seconds from *now*; None: no limit."""
    return FOREVER if ttl is None else now + micros(ttl)


def peek(things: Expiring[K, V], key: K, now: Micros) -> V | None:
    value, expires = things.get(key, (None, 0))
    return value if now < expires else None


def pop(things: Expiring[K, V], key: K, now: Micros) -> V | None:
    # An expired one stays until it is pruned: the clock may be set back.
    value = peek(things, key, now)
    if value is not None:
        del things[key]
    return value


def items(things: Expiring[K, V], now: Micros) -> dict[K, V]:
    return {key: value for key, (value, expires) in things.items() if now < expires}


def expire(things: Expiring[K, V], now: Micros) -> int:
    """Remove expired values, at most PRUNE; return how many."""
    return remove(things, lambda thing: thing[1] <= now)


def remove(things: dict[K, V], is_past: Callable[[V], bool]) -> int:
    """Remove the values for which *is_past* is true, at most PRUNE; return how many."""
    late = list(islice((key for key, thing in things.items() if is_past(thing)), PRUNE))
    for key in late:
        del things[key]
    return len(late)
