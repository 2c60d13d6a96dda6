"""A storage that discards everything that is enqueued; otherwise it behaves like any other."""

from __future__ import annotations

from collections.abc import Sequence

from huey.runtime.clock import Micros
from huey.storage.memory.storage import MemoryStorage
from huey.storage.rows import EventFactory, TaskIds, TaskName
from huey.task.record import Record


class BlackHoleStorage(MemoryStorage):
    """A storage that accepts all tasks and returns none. Options as for ``MemoryStorage``."""

    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        return super().enqueue(records[:0], make_events, now)

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        return super().tick(name, tick, None, (), now) and record is None

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        """Do nothing: no task will ever have these ids."""

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        """Discard the value and return True."""
        return True
