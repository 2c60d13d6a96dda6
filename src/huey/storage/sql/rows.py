"""Statements that take many rows at once: few sizes of each, so that each is prepared once (SQLite)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from huey.storage.base import CHUNK

R = TypeVar("R", bound="tuple[object, ...]")

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, CHUNK)
"""Rows of the multi-row INSERTs: few statements, each prepared once."""

ENQUEUE = """
INSERT INTO huey_task (queue, id, name, state, priority, place, due, expires, retries, retry_delay, options, created, payload)
SELECT call.queue, column1, column2, 'queued', column4, call.now, CASE WHEN column5 > call.now THEN column5 END, column6, column7, column8,
       column9, call.now, column3
  FROM (SELECT ? AS queue, ? AS now) AS call CROSS JOIN (VALUES {}) WHERE true ON CONFLICT (queue, id) DO NOTHING
"""
# Plain ? only: binding to ?1 costs a look at every numbered place.

ENQUEUE_ALIKE = """
INSERT INTO huey_task (queue, id, name, state, priority, place, due, expires, retries, retry_delay, options, created, payload)
SELECT call.queue, column1, call.name, 'queued', call.priority, call.now, CASE WHEN call.eta > call.now THEN call.eta END, call.expires,
       call.retries, call.retry_delay, call.options, call.now, column2
  FROM (SELECT ? AS queue, ? AS now, ? AS name, ? AS priority, ? AS eta, ? AS expires, ? AS retries, ? AS retry_delay, ? AS options) AS call
       CROSS JOIN (VALUES {}) WHERE true ON CONFLICT (queue, id) DO NOTHING
"""
# Many calls of one function differ in id and payload only; binding is a third of what an enqueue costs.


def size_for(count: int) -> int:
    """The smallest statement that takes *count* rows."""
    return next(size for size in SIZES if size >= count)


def padded(rows: Sequence[R]) -> Sequence[R]:
    """*rows*, the last one repeated to the next size. Repeats have an id that is known by then, so they change nothing."""
    missing = size_for(len(rows)) - len(rows)
    return [*rows, *[rows[-1]] * missing] if missing else rows


@cache
def many(statement: str, width: int, size: int) -> str:
    """*statement* with places for *size* rows of *width* values."""
    place = "(" + ", ".join("?" * width) + ")"
    return statement.format(", ".join([place] * size))
