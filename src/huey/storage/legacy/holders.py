"""The holders of messages: which workers are known, and whether they are alive. And which tasks wait or run, where a component can show
them."""

from __future__ import annotations

import json
from typing import Any

from huey.exceptions import QueueReadException, QueueWriteException
from huey.runtime.clock import Clock, Micros
from huey.storage.base import LEASE
from huey.storage.legacy.components import Components, translating_errors, unsupported
from huey.storage.legacy.message import Message
from huey.storage.legacy.values import Values
from huey.storage.rows import Counts, TaskRow, Worker, WorkerRow
from huey.task.lifecycle import State


class Holders:
    """The workers, as stored by the components that hold messages, or in this process if no component does.

    An observer considers a worker silent if its text has not changed for the lease time on the observer's own clock, so the clocks of hosts
    need not agree.
    """

    def __init__(self, parts: list[Any], clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._own: dict[str, str] = {}
        self._until: dict[str, Micros] = {}
        self._seen: dict[str, tuple[str, Micros]] = {}

    def heartbeat(self, worker: Worker) -> None:
        """Store a heartbeat of a worker."""
        # A test's clock may stand still: two heartbeats must still differ.
        until = max(self._clock.monotonic() + LEASE, self._until.get(worker.id, 0) + 1)
        self._until[worker.id] = until
        text = json.dumps([*worker, until])
        for part in self._parts:
            with translating_errors(QueueWriteException, part, "register"):
                part.register(worker.id, text)
        self._own[worker.id] = text
        self._seen[worker.id] = text, self._clock.monotonic()

    def silent_for(self, worker: Worker) -> Micros:
        """Return how long this process has seen no heartbeat of a worker."""
        return self._clock.monotonic() - self._seen[worker.id][1] if worker.id in self._seen else LEASE

    def rows(self) -> list[WorkerRow]:
        texts: dict[str, str] = {} if self._parts else dict(self._own)
        for part in self._parts:
            with translating_errors(QueueReadException, part, "registered"):
                texts.update(part.registered())
        self._seen = {id: seen for id, seen in self._seen.items() if id in texts}
        return [row for id, text in sorted(texts.items()) if (row := self._row(id, text)) is not None]

    def row(self, id: str) -> WorkerRow | None:
        return next((row for row in self.rows() if row.worker.id == id), None)

    def _row(self, id: str, text: str) -> WorkerRow | None:
        try:
            *fields, until = json.loads(text)
            worker, until = Worker(*fields), int(until)
        except (TypeError, ValueError):
            # Not written by a known release of huey.
            return None
        if id not in self._seen or self._seen[id][0] != text:
            self._seen[id] = text, self._clock.monotonic()
        is_expired = self._clock.monotonic() - self._seen[id][1] >= LEASE
        return WorkerRow(worker, until, is_expired, sum(len(self.held(part, id)) for part in self._parts))

    def held(self, part: Any, holder: str) -> list[Any]:
        """Return the messages of a component that a holder holds."""
        with translating_errors(QueueReadException, part, "held"):
            return list(part.held(holder))

    def forget(self, worker: Worker) -> None:
        """Remove a holder, unless it still holds a message."""
        for part in self._parts:
            with translating_errors(QueueWriteException, part, "deregister"):
                part.deregister(worker.id)
        self._own.pop(worker.id, None)


def task_rows(parts: Components, holders: Holders, state: str | None, limit: int) -> list[TaskRow]:
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


def task_counts(parts: Components, holders: Holders, values: Values) -> Counts:
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
