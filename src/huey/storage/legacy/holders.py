"""The holders of messages: which workers are known, and whether they are alive."""

from __future__ import annotations

import json
from typing import Any

from huey.exceptions import QueueReadException, QueueWriteException
from huey.runtime.clock import Clock, Micros
from huey.storage.base import LEASE
from huey.storage.legacy.components import translating_errors
from huey.storage.rows import Worker, WorkerRow


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
