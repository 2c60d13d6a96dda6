"""A queue in Redis whose results and user data stay when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from huey.storage.helpers import in_chunks
from huey.storage.redis.storage import RedisStorage
from huey.storage.rows import Features

if TYPE_CHECKING:
    from typing import Self

_KEPT = ("result", "data")


class RedisExpireStorage(RedisStorage):
    """A ``RedisStorage`` in which reading a result does not remove it: it stays until it expires."""

    features = Features(supports_constraints=True, keeps_results=True)

    @classmethod
    def from_options(cls, name: str, *, expire_time: float | None = 86400.0, **options: Any) -> Self:
        return super().from_options(name, expire_time=expire_time, **({"result_ttl": None} if expire_time is None else {}) | options)

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        return super().take(kind, keys, remove and kind not in _KEPT)

    def flush_results(self) -> None:
        for ids in in_chunks(self.items("result")):
            super().take("result", ids, remove=True)

    def delete(self, kind: str, key: str) -> bool:
        return bool(super().take(kind, [key], remove=True))
