"""Short names, known from huey 3.x, with which test helpers and admin scripts inspect a storage. Each calls one or two methods of the
contract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from huey.storage.helpers import in_chunks
from huey.storage.locks import Held
from huey.storage.rows import TaskRow
from huey.task.record import Record

ALL = 2**31 - 1
"""More tasks than any list can ask for."""


class Administering:
    """A base class of storages with convenience methods on top of the contract."""

    if TYPE_CHECKING:

        def counts(self) -> Any: ...
        def find(
            self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None
        ) -> list[TaskRow]: ...
        def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]: ...
        def locks(self, names: Sequence[str] | None = None) -> list[Held]: ...
        def release_lock(self, name: str, token: int) -> bool: ...
        def flush(self, state: str | None = None) -> int: ...

    @classmethod
    def from_options(cls, name: str, **options: Any) -> Self:
        """Make a storage for the queue *name* from the options of ``Huey``; those of huey 3.x are accepted too. Raise TypeError for an
        unknown option, ConfigurationError for one that cannot work."""
        make: Any = cls
        return make(name, **options)  # type: ignore[no-any-return]

    def get(self, id: str) -> TaskRow | None:
        """Return the task with this id, in any state, or None."""
        return next(iter(self.find(ids=[id])), None)

    def peek(self, kind: str, key: str) -> bytes | None:
        """Read one value."""
        return self.take(kind, [key]).get(key)

    def pop(self, kind: str, key: str) -> bytes | None:
        """Read and remove one value."""
        return self.take(kind, [key], remove=True).get(key)

    def delete(self, kind: str, key: str) -> bool:
        """Remove one value; return True if there was one."""
        return bool(self.take(kind, [key], remove=True))

    def items(self, kind: str) -> dict[str, bytes]:
        """Return all values of one kind."""
        return self.take(kind)

    def find_lock(self, name: str) -> Held | None:
        """Return the lock *name* with its holder, or None if it is free."""
        return next(iter(self.locks([name])), None)

    def flush_locks(self, names: Sequence[str] | None = None) -> set[str]:
        """Release locks, no matter who holds them; None: all of this queue. Returns the names of those that were held."""
        return {held.name for held in self.locks(names) if self.release_lock(held.name, held.token)}

    def queue_size(self) -> int:
        """Return the number of ready tasks."""
        return int(self.counts().ready)

    def schedule_size(self) -> int:
        """Return the number of scheduled tasks."""
        return int(self.counts().scheduled)

    def result_store_size(self) -> int:
        """Return the number of stored results."""
        return int(self.counts().results)

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        """Return the ready tasks in claim order, as messages for ``Huey.deserialize_task``."""
        return self._messages("ready", limit)

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        """Return the scheduled tasks, soonest first, as messages for ``Huey.deserialize_task``."""
        return self._messages("scheduled", limit)

    def _messages(self, state: str, limit: int | None) -> list[bytes]:
        return [message(_record(row)) for row in self.find(state, limit=ALL if limit is None else max(0, limit))]

    def result_items(self) -> dict[str, bytes]:
        """Return the stored results, still encoded, by task id."""
        return self.items("result")

    def peek_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values stored under *keys*, as user data or else as results; missing keys are left out. Removes nothing."""
        found = ((key, self.peek("data", key) or self.peek("result", key)) for key in keys)
        return {key: value for key, value in found if value is not None}

    def flush_queue(self) -> None:
        """Remove the tasks that wait for a worker or for a limit."""
        self.flush("ready")

    def flush_schedule(self) -> None:
        """Remove the scheduled tasks."""
        self.flush("scheduled")

    def flush_results(self) -> None:
        """Remove the results. Values that the application stored under its own keys stay."""
        for ids in in_chunks(self.items("result")):
            self.take("result", ids, remove=True)

    def flush_all(self) -> None:
        """Remove everything in this queue, like ``flush``."""
        self.flush()


def message(record: Record) -> bytes:
    """Return *record* encoded as one message."""
    return json.dumps([record.id, record.name, *record[3:]]).encode() + b"\n" + record.payload


def read_message(data: bytes) -> Record:
    """Return the record in such a message. Raise ValueError or TypeError if it is not one."""
    head, _, payload = data.partition(b"\n")
    id, name, *rest = json.loads(head)
    return Record(id, name, payload, *rest)


def _record(row: Any) -> Record:
    left: dict[str, Any] = {"retries": max(0, row.retries - row.attempt), "retry_delay": row.retry_delay, "options": row.options}
    return Record(row.id, row.name, row.payload, row.priority, row.due, row.expires, **left)
