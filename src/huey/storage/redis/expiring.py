"""A queue in Redis whose results, and what the application puts under keys of its own, stay when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from huey.storage.helpers import check_keys, in_chunks
from huey.storage.redis.storage import RedisStorage

if TYPE_CHECKING:
    from typing import Self

_KEPT = ("result", "data")


class RedisExpireStorage(RedisStorage):
    """``RedisStorage`` where results stay until their time is over, whoever reads them."""

    keeps_results = True

    @classmethod
    def from_options(cls, name: str, *, expire_time: float | None = 86400.0, **options: Any) -> Self:
        return super().from_options(name, expire_time=expire_time, **({"result_ttl": None} if expire_time is None else {}) | options)

    def pop(self, kind: str, key: str) -> bytes | None:
        return self.peek(kind, key) if kind in _KEPT else super().pop(kind, key)

    def pop_many(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        if kind not in _KEPT:
            return super().pop_many(kind, keys)
        check_keys(keys)
        return self._taken(kind, keys, is_removed=False)

    def flush_results(self) -> None:
        for ids in in_chunks(self.items("result")):
            super().pop_many("result", ids)

    def delete(self, kind: str, key: str) -> bool:
        return super().pop(kind, key) is not None
