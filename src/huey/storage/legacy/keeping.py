"""The verbs of small values over the parts of a 0.4.9 queue, and those that empty a part."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from huey.exceptions import QueueWriteException
from huey.storage.base import Storage
from huey.storage.helpers import check_keys
from huey.storage.legacy.parts import Parts, failing_as
from huey.storage.legacy.values import Values


class ValuesInParts(Storage):
    """Results and user data of a ``LegacyStorage``."""

    parts: Parts
    _lock: threading.RLock
    _changed: threading.Condition
    _values: Values

    def drop_waiting(self, *, scheduled: bool) -> int:
        """A queue or schedule is emptied as a whole, with what its workers hold."""
        part, counts = self.parts.schedule if scheduled else self.parts.queue, self.counts()
        with self._lock, failing_as(QueueWriteException, part, "flush"):
            part.flush()
        return counts.scheduled if scheduled else counts.ready

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> None:
        self._values.put(kind, key, value, ttl)
        with self._changed:
            self._changed.notify_all()

    def put_if_empty(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> bool:
        return self._values.put_if_empty(kind, key, value, ttl)

    def peek(self, kind: str, key: str) -> bytes | None:
        return self._values.peek(kind, key)

    def pop(self, kind: str, key: str) -> bytes | None:
        return self._values.pop(kind, key)

    def pop_many(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """One after the other: no part can do it in one step."""
        check_keys(keys)
        return {key: value for key in keys if (value := self.pop(kind, key)) is not None}

    def delete(self, kind: str, key: str) -> bool:
        return self.pop(kind, key) is not None

    def items(self, kind: str) -> dict[str, bytes]:
        return self._values.items(kind)
