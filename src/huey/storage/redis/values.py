"""Values by kind and key: results, user data, settings. A stored value begins with 16 digits that say when it expires."""

from __future__ import annotations

from collections.abc import Sequence

from huey.runtime.clock import micros
from huey.storage.helpers import check_keys
from huey.storage.redis.messages import text_of, whole_or
from huey.storage.redis.queue import RedisQueue

STAMP = 16
"""Digits before a stored value."""


class Values:
    """``put`` and ``take``. *result_ttl*: seconds that results are kept, or None."""

    def __init__(self, queue: RedisQueue, result_ttl: float | None) -> None:
        self._queue = queue
        self._result_ttl = result_ttl

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        ttl = self._result_ttl if ttl is None and kind == "result" else ttl
        length = "" if ttl is None else micros(ttl)
        return bool(self._queue.call("put_value", kind, key, value, length, int(if_absent), once=if_absent))

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        if keys is None:
            return self._take_all(kind)
        if not keys:
            return {}
        check_keys(keys)
        queue = self._queue
        values = queue.connections.call("take_values", queue.prefix, queue.now(), kind, int(remove), *keys)
        return {key: value[STAMP:] for key, value in zip(keys, values, strict=True) if value is not None}

    def _take_all(self, kind: str) -> dict[str, bytes]:
        found, now = self._queue.call("list_values", kind)
        pairs = zip(found[::2], found[1::2], strict=True)
        return {text_of(key): value[STAMP:] for key, value in pairs if not 0 < whole_or(int, value[:STAMP], 0) <= int(now)}
