"""The verbs of small values, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from huey.runtime.clock import Clock, Micros, Rng, micros
from huey.storage.base import FOREVER, Storage
from huey.storage.helpers import check_keys
from huey.storage.memory.tables import Values
from huey.storage.memory.waking import Alarm

if TYPE_CHECKING:
    from typing import Self


class ValuesInMemory(Storage):
    """Results and user data of a ``MemoryStorage``."""

    @classmethod
    def from_options(cls, name: str, *, rng: Rng | None = None, **options: Any) -> Self:
        # It needs nothing of chance.
        return super().from_options(name, **options)

    _clock: Clock
    _changed: Alarm
    _values: Values

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> None:
        with self._changed:
            self._put(kind, key, value, ttl)

    def _put(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> None:
        self._values.put(kind, key, value, end_of(ttl, self._clock.now()))
        self._changed.notify_all()

    def put_if_empty(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> bool:
        with self._changed:
            if self._peek(kind, key) is not None:
                return False
            self._put(kind, key, value, ttl)
            return True

    def peek(self, kind: str, key: str) -> bytes | None:
        with self._changed:
            return self._peek(kind, key)

    def _peek(self, kind: str, key: str) -> bytes | None:
        return self._values.peek(kind, key, self._clock.now())

    def pop(self, kind: str, key: str) -> bytes | None:
        with self._changed:
            return self._values.pop(kind, key, self._clock.now())

    def pop_many(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        check_keys(keys)
        with self._changed:
            now = self._clock.now()
            return {key: value for key in keys if (value := self._values.pop(kind, key, now)) is not None}

    def delete(self, kind: str, key: str) -> bool:
        return self.pop(kind, key) is not None

    def items(self, kind: str) -> dict[str, bytes]:
        with self._changed:
            return self._values.items(kind, self._clock.now())


def end_of(ttl: float | None, now: Micros) -> Micros:
    """When something goes that is kept for *ttl* seconds from now."""
    return FOREVER if ttl is None else now + micros(ttl)
