"""Unique keys and reserved ids."""

from __future__ import annotations

from collections.abc import Iterable

from huey.runtime.clock import Micros, micros
from huey.runtime.times import EARLIEST_ZONE
from huey.storage.memory.row import Row
from huey.storage.memory.tables import Tables, expire, peek
from huey.task.lifecycle import State
from huey.task.record_options import WAITING


def duplicate_of(tables: Tables, row: Row, now: Micros) -> str | None:
    """Return the id of the task that keeps a new one out (its own id, if that is reserved), or None."""
    key = row.constraints.unique
    if row.constraints.id_ttl is not None and (reserved := peek(tables.kept_ids, row.id, now)):
        return reserved
    if key is None:
        return None
    if key in tables.key_holders:
        holder = tables.tasks.rows[tables.key_holders[key]]
        if holder.state != State.RUNNING and holder.is_revoked(now, EARLIEST_ZONE):
            del tables.key_holders[key]
    return tables.key_holders.get(key) or peek(tables.kept_keys, key, now)


def enqueued(tables: Tables, row: Row, now: Micros) -> None:
    """Store the key and the id of a task that was enqueued."""
    constraints = row.constraints
    if constraints.id_ttl is not None:
        tables.kept_ids[row.id] = row.id, (now if row.due is None else row.due) + micros(constraints.id_ttl)
    if constraints.unique is not None and not isinstance(constraints.unique_for, str):
        tables.kept_keys[constraints.unique] = row.id, now + micros(constraints.unique_for)
    hold(tables, [row.id])


def hold(tables: Tables, ids: Iterable[str]) -> None:
    """Give those of these tasks that wait their keys, as far as the keys are free."""
    for id in sorted(ids):
        row = tables.tasks.rows.get(id)
        if row is not None and row.state in (State.QUEUED, State.BLOCKED, State.WAITING) and row.constraints.holds_key:
            tables.key_holders.setdefault(row.constraints.unique or "", id)


def release(tables: Tables, row: Row) -> None:
    """Release the key of a task that has ended or started."""
    if row.is_ended or row.constraints.unique_for == WAITING:
        _free(tables, row)


def forget(tables: Tables, row: Row) -> None:
    """Release the key and the id of a task that was removed."""
    _free(tables, row)
    tables.kept_ids.pop(row.id, None)


def _free(tables: Tables, row: Row) -> None:
    key = row.constraints.unique
    if key is not None and tables.key_holders.get(key) == row.id:
        del tables.key_holders[key]


def prune(tables: Tables, now: Micros) -> int:
    return expire(tables.kept_keys, now) + expire(tables.kept_ids, now)
