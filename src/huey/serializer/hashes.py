"""How numbers hash that a message makes of texts and integers: so keys that hash alike are found before any of them is made."""

from __future__ import annotations

from typing import Any

_LONG = 1024
"""Bits. Nobody sends more of them as a key, and they take time."""


def hash_of(path: str, first: Any, second: Any = None) -> int:
    """The hash of what the maker *path* makes of *first* and *second*, texts as bytes; 0 where that cannot be said."""
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
