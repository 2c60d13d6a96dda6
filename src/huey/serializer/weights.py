"""What stands for an object while a pickle is followed, and what each kind takes."""

from __future__ import annotations

from typing import Any, NoReturn

from huey.exceptions import DecodeError

POINTER, SLOT_SIZE, INT, OBJECT = 8, 16, 40, 64
"""Bytes: a pointer, a place in a container and one on the way there, a number, any other object."""
NODE = 72
"""Beyond that: what stands for an object that is not a number or a short text takes more than the object."""
SET, ENTRY, DEQUE, ORDERED = 160, 100, 704, 400
"""What Python takes beyond that at worst: for a set, for a key (with its value, in a dict), for a deque, for an OrderedDict."""
WIDE = 1 << 61
"""Python hashes smaller integers to themselves; larger ones can be chosen to hash alike."""
SHORT_TEXT = 64
"""Bytes of a text that stands for itself."""

_LONG = 1024
"""Bits of a number as a key. Nobody sends more of them, and they take time."""

LIST, DICT, SETS, TUPLE, MAKER, MADE, TEXT = "list", "dict", "set", "tuple", "maker", "made", "text"


class Node:
    """What stands for an object while a pickle is followed. Numbers, None and short texts stand for themselves."""

    __slots__ = ("alike", "depth", "first", "hash", "is_read", "kind", "path", "second", "size", "weight")

    def __init__(self, kind: str, weight: int = OBJECT, depth: int = 1, hash: int | None = None, path: str = "", size: int = 0) -> None:
        self.kind = kind
        self.weight = weight
        """Of it with all that is in it, each time that it is in it."""
        self.size = size
        """What a maker takes to copy it."""
        self.first: Any = None
        self.second: Any = None
        """Of one or two items, these; of a dict, what its key "int" has: so a number says which it is, and how it hashes."""
        self.depth = depth
        self.hash = hash
        self.path = path
        self.is_read = False
        """It was read from the memo, and may stand in several places."""
        self.alike: dict[int, int] | None = None
        """How many of its keys have a hash, of those whose hash others can choose."""

    def __hash__(self) -> int:
        if self.hash is None:
            raise_over_budget(f"has a {self.kind} as a key")
        return self.hash


def size_of(item: Any) -> int:
    """What a maker takes to copy *item*."""
    if isinstance(item, Node):
        return item.size
    if isinstance(item, bytes):
        return POINTER + 4 * len(item)
    return POINTER + item.bit_length() // 8 if isinstance(item, int) else POINTER


def hash_of(path: str, first: Any, second: Any = None) -> int:
    """The hash of what the maker *path* makes of *first* and *second*, texts as bytes; 0 where that cannot be said. So keys that hash alike
    are found before any of them is made."""
    try:
        if path == "decimal.Decimal":
            from decimal import Decimal

            return hash(Decimal(first.decode()))
        if path == "fractions.Fraction":
            from fractions import Fraction

            if max(first.bit_length(), second.bit_length()) <= _LONG:
                return hash(Fraction(first, second))
    except (ValueError, ArithmeticError, TypeError, AttributeError):
        # The maker itself will say so, or it is written in another way than ours.
        return 0
    return 0


def raise_over_budget(why: str) -> NoReturn:
    """Raise DecodeError with *why* and the way out."""
    raise DecodeError(f"{why}; store it elsewhere and pass its name or key, or sign the messages with secret=")
