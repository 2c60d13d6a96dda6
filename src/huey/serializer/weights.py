"""Stand-ins for objects while a pickle is followed, and the cost of each kind.

And quick checks: most pickles are small and plain, and most values that this process writes need not be counted.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any, NoReturn

from huey.exceptions import DecodeError

POINTER, SLOT_SIZE, INT, OBJECT = 8, 16, 40, 64
"""Bytes: a pointer, an entry in a container and one on the way there, a number, any other object."""
NODE = 72
"""In addition: a stand-in for an object that is not a number or a short text takes more than the object."""
SET, ENTRY, DEQUE, ORDERED = 160, 100, 704, 400
"""Python's worst case in addition: for a set, for a key (with its value, in a dict), for a deque, for an OrderedDict."""
WIDE = 1 << 61
"""Python hashes smaller integers to themselves; larger ones can be chosen to have the same hash."""
SHORT_TEXT = 64
"""Longest text, in bytes, that represents itself."""

_LONG = 1024
"""Most bits of a number as a key. Larger ones are not needed, and take time."""

LIST, DICT, SETS, TUPLE, MAKER, MADE, TEXT = "list", "dict", "set", "tuple", "maker", "made", "text"


class Node:
    """A stand-in for an object while a pickle is followed. Numbers, None and short texts represent themselves."""

    __slots__ = ("alike", "depth", "first", "hash", "is_read", "kind", "path", "second", "size", "weight")

    def __init__(self, kind: str, weight: int = OBJECT, depth: int = 1, hash: int | None = None, path: str = "", size: int = 0) -> None:
        self.kind = kind
        self.weight = weight
        """Its cost with its contents, each time they occur in it."""
        self.size = size
        """Cost for a constructor to copy it."""
        self.first: Any = None
        self.second: Any = None
        """One or two items themselves; of a dict, what its key "int" holds: thus a number's value, and its hash, are known."""
        self.depth = depth
        self.hash = hash
        self.path = path
        self.is_read = False
        """It was read from the memo, and may be in several places."""
        self.alike: dict[int, int] | None = None
        """How many of its keys have a hash, of those whose hash others can choose."""

    def __hash__(self) -> int:
        if self.hash is None:
            raise_over_budget(f"has a {self.kind} as a key")
        return self.hash


def size_of(item: Any) -> int:
    """Return the cost for a constructor to copy *item*."""
    if isinstance(item, Node):
        return item.size
    if isinstance(item, bytes):
        return POINTER + 4 * len(item)
    return POINTER + item.bit_length() // 8 if isinstance(item, int) else POINTER


def hash_of(path: str, first: Any, second: Any = None) -> int:
    """Return the hash of what the constructor *path* makes of *first* and *second*, texts as bytes; 0 if it is unknown. Thus keys with the
    same hash are found before any of them is made."""
    try:
        if path == "decimal.Decimal":
            from decimal import Decimal

            return hash(Decimal(first.decode()))
        if path == "fractions.Fraction":
            from fractions import Fraction

            if max(first.bit_length(), second.bit_length()) <= _LONG:
                return hash(Fraction(first, second))
    except (ValueError, ArithmeticError, TypeError, AttributeError):
        # The constructor itself will report it, or it is written in another way than huey's.
        return 0
    return 0


def raise_over_budget(why: str) -> NoReturn:
    """Raise DecodeError with *why* and the way out."""
    raise DecodeError(f"{why}; store it elsewhere and pass its name or key, or sign the messages with secret=")


# -- quick checks -----------------------------------------------------------------------------------------------------------------------

_DEEP = 500
_NUMBERS, _TEXTS = {int, float}, {str, bytes}
_ROWS, _HASHED = {list, tuple}, {dict, set, frozenset}
_CONTAINERS = _ROWS | _HASHED
_PLAIN = {type(None), bool} | _NUMBERS | _TEXTS | _CONTAINERS
_KEYS = {type(None), bool, int} | _TEXTS
_SMALL = 1000
"""A pickle of at most this many bytes that repeats nothing and makes only plain containers cannot take much."""
_HARMLESS = re.compile(
    rb"(?:[N\x88\x89)\x85-\x87t(\]ae}su\x8f-\x91\x9401]++|K.|M..|J.{4}|[G\x95].{8}|\x80\x05|\x8c(?:"
    + b"|".join(re.escape(bytes((length,))) + b".{%d}" % length for length in range(SHORT_TEXT + 1))
    + rb"))*+\.",
    re.DOTALL,
)


def is_harmless(body: bytes) -> bool:
    """Return True for a pickle that repeats nothing, makes only plain containers, and is too short to take much. Fast."""
    return len(body) <= _SMALL and _HARMLESS.fullmatch(body) is not None


def is_surely_small(value: Any, size: int, limit: int, most: int) -> bool:
    """Return True if reading *value* from a pickle of *size* bytes surely counts less than *limit* bytes and takes less than *most* in
    memory. Otherwise it has to be counted.

    Checks a whole level of the value at a time, in a fraction of the time that following the pickle takes.
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
        # Entries on the stack, in the memo and in their container; the marks of containers, and their initial space.
        more += 2 * SLOT_SIZE * (len(level) + len(keys)) + (NODE + SET + ENTRY) * len(inner) + (ENTRY + 1) * len(keys)
        if taken > limit or taken + more > most:
            return False
        if not below:
            return True
        rows = [part for part in inner if type(part) in _ROWS]
        level = [*chain.from_iterable(rows), *chain.from_iterable([part.values() for part in inner if type(part) is dict])]
    return False


def _are_plain_keys(hashed: list[Any]) -> bool:
    """Return True if none of the keys can be chosen to have the same hash as others."""
    kinds = set(map(type, chain.from_iterable(hashed)))
    return kinds <= _KEYS and (int not in kinds or all(-WIDE < key < WIDE for key in chain.from_iterable(hashed) if type(key) is int))


def _weight(parts: list[Any]) -> int:
    """Return the weight of numbers, which are written each time, and of texts, which are written once."""
    numbers = sum([type(part) in _NUMBERS for part in parts])
    return INT * numbers + OBJECT * len({id(part) for part in parts if type(part) in _TEXTS})
