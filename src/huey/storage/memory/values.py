"""The verbs of small values, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from huey.runtime.clock import Clock, Micros, Rng, micros
from huey.storage.base import FOREVER, Storage
from huey.storage.helpers import check_keys
from huey.storage.memory.condition import ChangeCondition
from huey.storage.memory.tables import Values

if TYPE_CHECKING:
    from typing import Self


class ValuesInMemory(Storage):
    """Results and user data of a ``MemoryStorage``."""

    @classmethod
    def from_options(cls, name: str, *, rng: Rng | None = None, **options: Any) -> Self:
        # It needs nothing of chance.
        return super().from_options(name, **options)

    _clock: Clock
    _changed: ChangeCondition
    _values: Values
    result_ttl: float | None

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        with self._changed:
            now = self._clock.now()
            if if_absent and self._values.peek(kind, key, now) is not None:
                return False
            ttl = self.result_ttl if ttl is None and kind == "result" else ttl
            self._values.put(kind, key, value, end_of(ttl, now))
            self._changed.notify_all()
            return True

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        with self._changed:
            now = self._clock.now()
            if keys is None:
                return self._values.items(kind, now)
            check_keys(keys)
            take = self._values.pop if remove else self._values.peek
            return {key: value for key in keys if (value := take(kind, key, now)) is not None}


def end_of(ttl: float | None, now: Micros) -> Micros:
    """When something goes that is kept for *ttl* seconds from now."""
    return FOREVER if ttl is None else now + micros(ttl)
