"""Who holds what: the workers that are known, and whether they still say that they live."""

from __future__ import annotations

import json
from typing import Any

from huey.exceptions import QueueReadException, QueueWriteException
from huey.runtime.clock import Clock, Micros
from huey.storage.base import LEASE
from huey.storage.legacy.components import translating_errors
from huey.storage.rows import Worker, WorkerRow


class Holders:
    """Workers as the parts that hold messages know them, or as this process does when none does.

    Whether one has gone silent is judged by who looks: its text did not change for the time of a lease on the looker's own clock, so hosts
    need not agree about the time.
    """

    def __init__(self, parts: list[Any], clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._own: dict[str, str] = {}
        self._until: dict[str, Micros] = {}
        self._seen: dict[str, tuple[str, Micros]] = {}

    def heartbeat(self, worker: Worker) -> None:
        """A sign of life."""
        # A clock may stand still in a test: two signs of life still differ.
        until = max(self._clock.monotonic() + LEASE, self._until.get(worker.id, 0) + 1)
        self._until[worker.id] = until
        text = json.dumps([*worker, until])
        for part in self._parts:
            with translating_errors(QueueWriteException, part, "register"):
                part.register(worker.id, text)
        self._own[worker.id] = text
        self._seen[worker.id] = text, self._clock.monotonic()

    def silent_for(self, worker: Worker) -> Micros:
        """How long this process did not beat for it."""
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
            # Not written by a huey that we know.
            return None
        if id not in self._seen or self._seen[id][0] != text:
            self._seen[id] = text, self._clock.monotonic()
        is_expired = self._clock.monotonic() - self._seen[id][1] >= LEASE
        return WorkerRow(worker, until, is_expired, sum(len(self.held(part, id)) for part in self._parts))

    def held(self, part: Any, holder: str) -> list[Any]:
        """The messages that a holder holds of a part."""
        with translating_errors(QueueReadException, part, "held"):
            return list(part.held(holder))

    def forget(self, worker: Worker) -> None:
        """Forget it, unless it holds something."""
        for part in self._parts:
            with translating_errors(QueueWriteException, part, "deregister"):
                part.deregister(worker.id)
        self._own.pop(worker.id, None)
