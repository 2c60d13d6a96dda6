"""Statements that take many rows at once: few sizes of each, so that each is prepared once (SQLite).

Binding is a third of what a bulk enqueue costs. So what all rows share is sent once, what is None is left out where it can be, and bytes go
as a bytearray: the driver looks in five places for an adapter of bytes or None, and takes text, numbers and bytearrays as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import chain, compress
from typing import Any, TypeVar

from huey.runtime.clock import Micros
from huey.storage.helpers import CHUNK
from huey.task.record import Record, RecordBatch

R = TypeVar("R")

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, CHUNK)
"""Rows of the multi-row INSERTs: few statements, each prepared once."""

STAGED = 9
"""Fields of a record that go into columns, once its times are instants."""
_RARE = ("due", "expires", "options")
"""Columns that are None for most tasks."""
_UNNOTICED = """
   AND NOT EXISTS (SELECT 1 FROM huey_follower WHERE queue = ? AND until > ?)
   AND NOT EXISTS (SELECT 1 FROM huey_revocation WHERE queue = ? AND kind = 'i')"""
"""Nobody follows, and no id that nobody held was revoked: an enqueue needs no more than its INSERT."""


def enqueueing(queue: int, records: Sequence[Record], now: Micros, *, if_unnoticed: bool) -> tuple[str, list[Any]]:
    """The statement that puts *records* in, and its values. Records that are held stay as they are.

    *if_unnoticed*: it puts none in when somebody follows events, or ids that nobody held were revoked.
    """
    size, records = size_for(len(records)), resolved(records, now)
    condition = [queue, now, queue] if if_unnoticed else []
    alike = _as_alike(records)
    if alike is None:
        mixed = [(*it[:2], bytearray(it.payload), it.priority, _due(it.eta, now), *it[5:STAGED]) for it in padded(records)]
        return _of_mixed(size, if_unnoticed), [queue, now, now, *chain.from_iterable(mixed), *condition]
    _, name, _, priority, eta, expires, retries, retry_delay, options, _, _ = alike.template
    due = _due(eta, now)
    shared = [queue, now, now, name, priority, retries, retry_delay, *[it for it in (due, expires, options) if it is not None]]
    rows: list[Any] = [None] * (2 * size)
    rows[::2] = padded(alike.ids)
    rows[1::2] = map(bytearray, padded(alike.payloads))
    return _of_alike(size, if_unnoticed, due is not None, expires is not None, options is not None), shared + rows + condition


def resolved(records: Sequence[Record], now: Micros) -> Sequence[Record]:
    """*records* with their times as instants."""
    if type(records) is RecordBatch:
        template = records.template.resolved(now)
        return records if template is records.template else RecordBatch(template, records.ids, records.payloads)
    for record in records:
        if record.delay is not None or record.expires_in is not None:
            return [record.resolved(now) for record in records]
    return records


def payload_bytes(records: Sequence[Record]) -> int:
    """What their payloads weigh."""
    if len(records) == 1:
        return len(records[0].payload)
    return sum(map(len, records.payloads if type(records) is RecordBatch else [record.payload for record in records]))


def _as_alike(records: Sequence[Record]) -> RecordBatch | None:
    """Whether they differ in nothing but id and payload: calls of one function."""
    if type(records) is RecordBatch:
        return records
    if len(records) == 1:
        return RecordBatch(records[0], [records[0].id], [records[0].payload])
    ids, names, payloads, *rest = zip(*records, strict=True)
    if all(column.count(column[0]) == len(records) for column in (names, *rest)):
        return RecordBatch(records[0], list(ids), list(payloads))
    return None


def _due(eta: Micros | None, now: Micros) -> Micros | None:
    return eta if eta is not None and eta > now else None


@cache
def _of_alike(size: int, if_unnoticed: bool, *is_given: bool) -> str:
    shared = ["name", "priority", "retries", "retry_delay", *compress(_RARE, is_given)]
    return _enqueue(shared, ["id", "payload"], size, if_unnoticed)


@cache
def _of_mixed(size: int, if_unnoticed: bool) -> str:
    return _enqueue([], ["id", "name", "payload", "priority", "due", "expires", "retries", "retry_delay", "options"], size, if_unnoticed)


def _enqueue(shared: list[str], each: list[str], size: int, if_unnoticed: bool) -> str:
    # Plain ? only: binding to ?1 costs a look at every numbered place.
    once, numbered = "".join("?, " for _ in shared), ", ".join(f"column{i}" for i, _ in enumerate(each, 1))
    return (
        f"INSERT INTO huey_task (state, queue, ready_at, created, {', '.join(shared + each)})\n"
        f"SELECT 'queued', ?, ?, ?, {once}{numbered}\n"
        f"  FROM (VALUES {_places(len(each), size)})\n"
        f" WHERE true {_UNNOTICED if if_unnoticed else ''} ON CONFLICT (queue, id) DO NOTHING"
    )


def size_for(count: int) -> int:
    """The smallest statement that takes *count* rows."""
    return SIZES[bisect_left(SIZES, count)]


def padded(rows: Sequence[R]) -> Sequence[R]:
    """*rows*, the last one repeated to the next size. Repeats have an id that is known by then, so they change nothing."""
    missing = size_for(len(rows)) - len(rows)
    return [*rows, *[rows[-1]] * missing] if missing else rows


@cache
def many(statement: str, width: int, size: int) -> str:
    """*statement* with places for *size* rows of *width* values."""
    return statement.format(_places(width, size))


def _places(width: int, size: int) -> str:
    place = "(" + ", ".join("?" * width) + ")"
    return ", ".join([place] * size)
