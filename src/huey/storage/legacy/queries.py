"""Queries on the components of a 0.4.9 queue: which tasks wait or run, where a component can show them."""

from __future__ import annotations

from typing import Any

from huey.exceptions import QueueReadException
from huey.storage.legacy.components import Components, translating_errors, unsupported
from huey.storage.legacy.holders import Holders
from huey.storage.legacy.message import Message
from huey.storage.legacy.values import Values
from huey.storage.rows import Counts, TaskRow
from huey.task.lifecycle import State


def rows(parts: Components, holders: Holders, state: str | None, limit: int) -> list[TaskRow]:
    """Return waiting tasks in their component's order, then running ones. Raise StorageRefused if the components cannot show them."""
    if state in (State.FAILED, State.CANCELLED, State.SUCCEEDED):
        raise unsupported(f"looking at {state} tasks, as none are kept,", parts.queue)
    if parts.queue not in parts.holding:
        raise unsupported("looking at tasks", parts.queue)
    found = [] if state == State.RUNNING else _waiting(parts, limit)
    if state in ("ready", "scheduled"):
        found = [row for row in found if (row.due is None) == (state == "ready")]
    if state in (None, State.RUNNING):
        found += [row for who in holders.rows() for row in _held(parts, holders, who.worker.id)]
    return found


def _waiting(parts: Components, limit: int) -> list[TaskRow]:
    with translating_errors(QueueReadException, parts.queue, "waiting"):
        found = [data for part in parts.holding for data in part.waiting(limit)]
    return [message.to_task_row() for data in found if (message := Message.read_or_none(data)) is not None]


def _held(parts: Components, holders: Holders, holder: str) -> list[TaskRow]:
    held = [data for part in parts.holding for data in holders.held(part, holder)]
    return [message.to_task_row(holder) for data in held if (message := Message.read_or_none(data)) is not None]


def counts(parts: Components, holders: Holders, values: Values) -> Counts:
    """Return how many tasks wait and run, and how many results there are, as far as the components can count."""
    scheduled = _length(parts.schedule) if hasattr(parts.schedule, "__len__") else 0
    results = len(values.items("result")) if hasattr(parts.store, "items") else 0
    return Counts(ready=_length(parts.queue), scheduled=scheduled, running=sum(row.holds for row in holders.rows()), results=results)


def _length(part: Any) -> int:
    try:
        with translating_errors(QueueReadException, part, "__len__"):
            return len(part)
    except QueueReadException as error:
        if isinstance(error.__cause__, NotImplementedError | TypeError):
            raise unsupported("counting messages", part) from error
        raise
