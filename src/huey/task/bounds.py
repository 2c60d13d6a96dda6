"""Limits that every storage can hold: the length of ids and names, the size of numbers, the characters of strings."""

from __future__ import annotations

from typing import Any, TypeVar

LONGEST_ID = 255
LONGEST_NAME = 1000
"""Maximum length in characters of a function's name and of a key of user data."""
LARGEST = 2**31 - 1
"""Maximum of retries, priorities, and seconds between retries."""


N = TypeVar("N", int, float)


def parse_text(what: str, text: Any, most: int = LONGEST_ID) -> str:
    """Return *text* if every storage can hold it as a name or key; otherwise raise a ValueError that names *what*."""
    if text == "":
        raise ValueError(f"{what}='': give a string that is not empty")
    if not isinstance(text, str) or not len(text) <= most or not is_storable(text):
        raise ValueError(f"{what}={text!r:.100}: give a string of up to {most:,} characters, without NUL and surrogates")
    return text


def is_storable(text: str) -> bool:
    """Return whether every storage can hold *text*: it has neither NUL nor lone surrogates."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def parse_number(what: str, value: N, low: int = 0, *, whole: bool = False) -> N:
    """Return *value* if it is a number from *low* to ``LARGEST``, which every storage can hold; otherwise raise ValueError."""
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= LARGEST:
        raise ValueError(f"{what}={value!r}: give a {'whole ' if whole else ''}number from {low} to {LARGEST:,}")
    return value


def parse_limit(timeout: float) -> float | None:
    """Return a time limit in seconds; 0 means none, as in 3.x. Raise ValueError if it is negative or not a number."""
    return float(parse_number("timeout", timeout)) or None
