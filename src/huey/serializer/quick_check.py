"""Quick checks: most pickles are small and plain, and most values that this process writes need not be counted."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from huey.serializer.weights import ENTRY, INT, NODE, OBJECT, SET, SHORT_TEXT, SLOT_SIZE, WIDE

_DEEP = 500
_NUMBERS, _TEXTS = {int, float}, {str, bytes}
_ROWS, _HASHED = {list, tuple}, {dict, set, frozenset}
_CONTAINERS = _ROWS | _HASHED
_PLAIN = {type(None), bool} | _NUMBERS | _TEXTS | _CONTAINERS
_KEYS = {type(None), bool, int} | _TEXTS


_SMALL = 1000
"""A pickle of at most this many bytes that repeats nothing, and makes nothing but plain containers, cannot take much."""
_HARMLESS = re.compile(
    rb"(?:[N\x88\x89)\x85-\x87t(\]ae}su\x8f-\x91\x9401]++|K.|M..|J.{4}|[G\x95].{8}|\x80\x05|\x8c(?:"
    + b"|".join(re.escape(bytes((length,))) + b".{%d}" % length for length in range(SHORT_TEXT + 1))
    + rb"))*+\.",
    re.DOTALL,
)


def is_harmless(body: bytes) -> bool:
    """A pickle that repeats nothing, makes nothing but plain containers, and is too short to take much. Fast."""
    return len(body) <= _SMALL and _HARMLESS.fullmatch(body) is not None


def is_surely_small(value: Any, size: int, limit: int, most: int) -> bool:
    """Readers take less than *limit* bytes by their count, and less than *most* in memory, to read *value* from a pickle of *size* bytes.
    False: that has to be counted.

    Looks at a whole level of the value at a time, so it takes a fraction of what it takes to follow the pickle.
    """
    taken, more, level = size, 5 * size, [value]
    for _ in range(_DEEP):
        inner = [part for part in level if type(part) in _CONTAINERS]
        hashed = [part for part in inner if type(part) in _HASHED]
        below = sum(map(len, inner))
        # Before anything is made of that many.
        if SLOT_SIZE * below > most or not set(map(type, level)) <= _PLAIN or not _are_plain_keys(hashed):
            return False
        keys = [*chain.from_iterable(hashed)]
        taken += OBJECT * len(inner) + _weight(level) + _weight(keys)
        # Places on the stack, in the memo and where they belong; the marks of containers, and the room that these take at first.
        more += 2 * SLOT_SIZE * (len(level) + len(keys)) + (NODE + SET + ENTRY) * len(inner) + (ENTRY + 1) * len(keys)
        if taken > limit or taken + more > most:
            return False
        if not below:
            return True
        rows = [part for part in inner if type(part) in _ROWS]
        level = [*chain.from_iterable(rows), *chain.from_iterable([part.values() for part in inner if type(part) is dict])]
    return False


def _are_plain_keys(hashed: list[Any]) -> bool:
    """None of them can be chosen to hash like others."""
    kinds = set(map(type, chain.from_iterable(hashed)))
    return kinds <= _KEYS and (int not in kinds or all(-WIDE < key < WIDE for key in chain.from_iterable(hashed) if type(key) is int))


def _weight(parts: list[Any]) -> int:
    """Of numbers, which are written each time, and texts, which are written once."""
    numbers = sum([type(part) in _NUMBERS for part in parts])
    return INT * numbers + OBJECT * len({id(part) for part in parts if type(part) in _TEXTS})
