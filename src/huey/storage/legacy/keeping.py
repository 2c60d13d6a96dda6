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

    def _drop_queued(self, *, is_scheduled: bool) -> int:
        """A queue or schedule is emptied as a whole, with what its workers hold."""
        part, counts = self.parts.schedule if is_scheduled else self.parts.queue, self.counts()
        with self._lock, failing_as(QueueWriteException, part, "flush"):
            part.flush()
        return counts.scheduled if is_scheduled else counts.ready

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        if if_absent:
            return self._values.put_if_empty(kind, key, value, ttl)
        self._values.put(kind, key, value, ttl)
        with self._changed:
            self._changed.notify_all()
        return True

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        """One after the other: no part can do it in one step."""
        if keys is None:
            return self._values.items(kind)
        check_keys(keys)
        take = self._values.pop if remove else self._values.peek
        return {key: value for key in keys if (value := take(kind, key)) is not None}
