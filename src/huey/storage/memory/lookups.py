"""The verbs that only look, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from huey.runtime.clock import SECOND, Clock, Micros
from huey.storage.base import Storage
from huey.storage.memory.condition import ChangeCondition
from huey.storage.memory.statistics import Statistics
from huey.storage.memory.tables import Tasks, Values
from huey.storage.rows import Counts, TaskRow, Worker, WorkerRow
from huey.storage.stats import MINUTE, Stat, start_of, with_waiting
from huey.task.lifecycle import State
from huey.task.record import Lease


class LookingInMemory(Storage):
    """What is held by a ``MemoryStorage``, as rows and numbers."""

    _clock: Clock
    _changed: ChangeCondition
    _values: Values
    _tasks: Tasks
    _statistics: Statistics
    _workers: dict[str, tuple[Worker, Micros]]
    _family: Mapping[str, Storage]
    _is_paused: bool

    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        with self._changed:
            if ids is not None:
                return [self._tasks.rows[id].to_task_row() for id in ids if id in self._tasks.rows]
            rows = [row for row in self._tasks.listed(state) if name is None or row.record.name == name]
            return [row.to_task_row() for row in rows[:limit]]

    def counts(self) -> Counts:
        with self._changed:
            states = [row.state for row in self._tasks.rows.values()]
            return Counts(
                ready=len(self._tasks.ready) + len(self._tasks.suspects),
                scheduled=len(self._tasks.scheduled) - len(self._tasks.missing),
                running=states.count(State.RUNNING),
                failed=states.count(State.FAILED),
                cancelled=states.count(State.CANCELLED),
                results=len(self._values.items("result", self._clock.now())),
                succeeded=states.count(State.SUCCEEDED),
                blocked=states.count(State.BLOCKED) + len(self._tasks.missing),
                is_paused=self._is_paused,
            )

    def queues(self) -> list[str]:
        return sorted(self._family)

    def stats(self, since: Micros) -> list[Stat]:
        with self._changed:
            waiting = Counter((row.record.name, start_of(row.created, MINUTE)) for row in self._tasks.living())
            return with_waiting(
                self._statistics.since(since), [(*key, n) for key, n in waiting.items() if key[1] + MINUTE * SECOND > since]
            )

    def workers(self) -> list[WorkerRow]:
        with self._changed:
            now = self._clock.monotonic()
            return [WorkerRow(worker, until, until <= now, len(self._tasks.held_by(id))) for id, (worker, until) in self._workers.items()]

    def leases(self, worker: Worker) -> list[Lease]:
        with self._changed:
            return [row.lease() for row in self._tasks.held_by(worker.id)]
