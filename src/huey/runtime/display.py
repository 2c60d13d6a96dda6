"""Display of values and times: never raises and never exceeds the requested length, whatever was stored."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from datetime import UTC, datetime, timedelta
from typing import Any

from huey.runtime.clock import FOREVER, Micros
from huey.runtime.logs import is_ctrl_c

_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", dict: "{}", deque: "[]", OrderedDict: "{}"}
_BARE = (list, tuple, set, dict)
_DEEPEST = 20
_EPOCH = datetime.fromtimestamp(0, UTC)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 task``, ``2 tasks``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any], most: int) -> str:
    """Return arguments as written in a call, cut after *most* characters."""
    writer = _Writer(most)
    for index, (name, value) in enumerate([*((None, arg) for arg in args), *kwargs.items()]):
        writer.put((", " if index else "") + ("" if name is None else f"{name}="))
        writer.write(value, 0)
    text = "".join(writer.parts)
    return text if len(text) <= most else text[:most] + "..."


class _Writer:
    def __init__(self, room: int) -> None:
        self.parts: list[str] = []
        self._room = room

    def put(self, text: str) -> None:
        if self._room >= 0:
            self.parts.append(text)
            self._room -= len(text)

    def write(self, value: Any, depth: int) -> None:
        if self._room < 0:
            return
        kind = type(value)
        if kind not in _BRACKETS or not value:
            self.put(self._text(value))
        elif depth >= _DEEPEST:
            self.put("...")
        else:
            self.put((kind.__name__ + "(" if kind not in _BARE else "") + _BRACKETS[kind][0])
            self._items(value, depth + 1)
            self.put(("," if kind is tuple and len(value) == 1 else "") + _BRACKETS[kind][1] + (")" if kind not in _BARE else ""))

    def _items(self, value: Any, depth: int) -> None:
        for index, item in enumerate(value):
            if self._room < 0:
                return
            self.put(", " if index else "")
            self.write(item, depth)
            if isinstance(value, dict):
                self.put(": ")
                self.write(dict.__getitem__(value, item), depth)

    def _text(self, value: Any) -> str:
        try:
            return repr(value[: self._room + 1] if isinstance(value, str | bytes) else value)
        except BaseException as error:  # For example an integer of more than 4,300 digits.
            if is_ctrl_c(error):
                raise
            return f"<{type(value).__name__}>"


def time(moment: Micros) -> datetime:
    """Return a time in UTC; one outside the calendar becomes its first or last."""
    try:
        return _EPOCH + timedelta(microseconds=moment)
    except (OverflowError, TypeError):
        is_past = isinstance(moment, int | float) and moment < 0
        return (datetime.min if is_past else datetime.max).replace(tzinfo=UTC)


def time_or_none(moment: Micros | None) -> datetime | None:
    """Return a time like `time`, or None for no time and for one that never comes."""
    return None if moment is None or moment >= FOREVER else time(moment)


def dicts(text: str | None) -> list[dict[str, Any]]:
    """Return the objects in a JSON list, or the one object; anything else is left out."""
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return [it for it in (found if isinstance(found, list) else [found]) if isinstance(it, dict)]
