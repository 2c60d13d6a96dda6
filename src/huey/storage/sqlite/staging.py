"""Rows on their way into SQLite: through the temp tables and triggers of the connection that writes (sql/turn.sql has the rules and the
reasons), or by an INSERT of one or many rows. Many rows come in few sizes, so that each statement is prepared once.

Binding is a third of the cost of a bulk enqueue. So values that all rows share are bound once, columns that are None are left out where
possible, and bytes are bound as a bytearray: the driver searches five places for an adapter of bytes or None, but takes text, numbers and
bytearrays directly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain, compress
from typing import Any, TypeVar

from huey.runtime.clock import Micros
from huey.storage.helpers import CHUNK
from huey.storage.sqlite.database import Database, Values
from huey.storage.sqlite.guard import LockScope
from huey.task.record import Record, RecordBatch

UNIT = 128
UNIT_BYTES = 32 * 1024
"""The number of tasks, and of bytes, that count as one small commit in the log."""
_TABLES = ("successes", "kept", "other_finishes", "incoming", "outputs", "workflow_task", "workflow_edge", "workflow_replacement")
_INSERT = {table: f"INSERT OR IGNORE INTO {table} VALUES {{}}" for table in _TABLES}


class Staging:
    """The staged rows and triggers of *database*; *sql* has its statements by name. Its callers hold the lock of the database."""

    def __init__(self, database: Database, sql: Mapping[str, str]) -> None:
        self._database = database
        self._sql = sql

    def begin(self) -> None:
        """Create the temp tables and triggers if this connection has none, and remove rows that a failed call left."""
        database = self._database
        # In this order: opening a new connection replaces the state.
        if not (database.writer and database.state.has_temp_schema):
            database.writer.executescript(self._sql["temporary"] + self._sql["temporary_constraints"] + self._sql["temporary_edges"])
            database.state.has_temp_schema = True
        elif database.state.has_staged_rows:
            for table in _INSERT:
                database.stage(f"DELETE FROM {table}")
        database.state.has_staged_rows = True

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Stage *rows* for the next statement."""
        for start in range(0, len(rows), CHUNK):
            full = pad_to_size(rows[start : start + CHUNK])
            self._database.stage(multi_row(_INSERT[table], len(full[0]), len(full)), list(chain.from_iterable(full)))

    def execute(self, statement: str, values: Values, units: int = 1, *, is_durable: bool = True) -> None:
        """Run the statement that fires a trigger, which consumes the staged rows."""
        self._database.execute(self._sql[statement], values, units, is_durable=is_durable, lock=self._database.held)
        self._database.state.has_staged_rows = False

    def clear(self, statement: str) -> None:
        """Run a statement that removes what a trigger left."""
        self._database.stage(self._sql[statement])

    def fetch(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that reads the results of a trigger."""
        return self._database.fetch(self._sql[statement], values)

    def fire(
        self,
        statement: str,
        values: Values,
        answer: tuple[str, Values] | None = None,
        *,
        is_durable: bool = True,
        lock: LockScope | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement that fires a trigger without staged rows. Return the rows of the statement *answer*, read before another trigger
        fires. *lock*: by default that of a consumer."""
        with lock or self._database.turn_lock:
            self.begin()
            self.execute(statement, values, is_durable=is_durable)
            return self.fetch(*answer) if answer is not None else []


R = TypeVar("R")

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, CHUNK)
"""Row counts of multi-row statements."""

STAGED = 9
"""The first fields of a resolved record, which are columns of `incoming`."""
_OPTIONAL = ("due", "expires", "options")
"""Columns that are None for most tasks."""
_UNOBSERVED = """
   AND NOT EXISTS (SELECT 1 FROM huey_follower WHERE queue = ? AND until > ?)
   AND NOT EXISTS (SELECT 1 FROM huey_revocation WHERE queue = ? AND kind = 'i')"""
"""The condition under which an enqueue is one plain INSERT: no followers, and no revocations of ids that are not held."""


def build_enqueue(queue: int, records: Sequence[Record], now: Micros, *, only_if_unobserved: bool) -> tuple[str, list[Any]]:
    """Return the statement that inserts *records*, and its values. Tasks whose ids are already held are left unchanged.

    *only_if_unobserved*: insert none if there are followers, or revocations of ids that are not held.
    """
    size, records = size_for(len(records)), resolved(records, now)
    condition = [queue, now, queue] if only_if_unobserved else []
    batch = _as_batch(records)
    if batch is None:
        rows = [(*it[:2], bytearray(it.payload), it.priority, _due(it.eta, now), *it[5:STAGED]) for it in pad_to_size(records)]
        return _mixed(size, only_if_unobserved), [queue, now, now, *chain.from_iterable(rows), *condition]
    _, name, _, priority, eta, expires, retries, retry_delay, options, _, _ = batch.template
    due = _due(eta, now)
    shared = [queue, now, now, name, priority, retries, retry_delay, *[it for it in (due, expires, options) if it is not None]]
    each: list[Any] = [None] * (2 * size)
    each[::2] = pad_to_size(batch.ids)
    each[1::2] = map(bytearray, pad_to_size(batch.payloads))
    return uniform_insert(size, only_if_unobserved, due is not None, expires is not None, options is not None), shared + each + condition


def resolved(records: Sequence[Record], now: Micros) -> Sequence[Record]:
    """Return *records* with their delays turned into times."""
    if type(records) is RecordBatch:
        template = records.template.resolved(now)
        return records if template is records.template else RecordBatch(template, records.ids, records.payloads)
    for record in records:
        if record.delay is not None or record.expires_in is not None:
            return [record.resolved(now) for record in records]
    return records


def payload_bytes(records: Sequence[Record]) -> int:
    """Return the size of all payloads."""
    return sum(map(len, records.payloads if type(records) is RecordBatch else [record.payload for record in records]))


def _as_batch(records: Sequence[Record]) -> RecordBatch | None:
    """Return *records* as a batch if they differ only in id and payload, else None."""
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
def uniform_insert(size: int, only_if_unobserved: bool, *is_given: bool) -> str:
    """Return the INSERT of *size* records that share all but id and payload. *is_given*: whether `due`, `expires`, `options` are."""
    shared = ["name", "priority", "retries", "retry_delay", *compress(_OPTIONAL, is_given)]
    return _enqueue(shared, ["id", "payload"], size, only_if_unobserved)


@cache
def _mixed(size: int, only_if_unobserved: bool) -> str:
    return _enqueue(
        [], ["id", "name", "payload", "priority", "due", "expires", "retries", "retry_delay", "options"], size, only_if_unobserved
    )


def _enqueue(shared: list[str], each: list[str], size: int, only_if_unobserved: bool) -> str:
    # Only plain ?: to bind ?1, SQLite searches all numbered placeholders.
    once, numbered = "".join("?, " for _ in shared), ", ".join(f"column{i}" for i, _ in enumerate(each, 1))
    return (
        f"INSERT INTO huey_task (state, queue, ready_at, created, {', '.join(shared + each)})\n"
        f"SELECT 'queued', ?, ?, ?, {once}{numbered}\n"
        f"  FROM (VALUES {_placeholders(len(each), size)})\n"
        f" WHERE true {_UNOBSERVED if only_if_unobserved else ''} ON CONFLICT (queue, id) DO NOTHING"
    )


def size_for(count: int) -> int:
    """Return the size of the smallest statement that fits *count* rows."""
    return SIZES[bisect_left(SIZES, count)]


def pad_to_size(rows: Sequence[R]) -> Sequence[R]:
    """Return *rows* with the last one repeated up to the next size. The repeats change nothing, because their id is held by then."""
    missing = size_for(len(rows)) - len(rows)
    return [*rows, *[rows[-1]] * missing] if missing else rows


@cache
def multi_row(statement: str, width: int, size: int) -> str:
    """Return *statement* with placeholders for *size* rows of *width* values."""
    return statement.format(_placeholders(width, size))


def _placeholders(width: int, size: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return ", ".join([row] * size)
