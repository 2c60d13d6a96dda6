"""Small values that an application keeps by key.

They are stored beside the results, in a space of their own: a key never collides with the id of a task, and nothing removes a value but
its ``ttl``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from huey.client.context import QueueContext
from huey.runtime.times import parse_ttl
from huey.serializer import Purpose
from huey.task.bounds import LONGEST_NAME, parse_text
from huey.utils import EmptyData


class KeyValueStore:
    """The values of one queue."""

    def __init__(self, context: QueueContext) -> None:
        self._storage = context.storage
        self._codec = context.codec

    def put(self, key: str, value: Any) -> None:
        """See ``Huey.put``."""
        self._storage.put("data", _parse_key(key), self._codec.encode("data", key, value))

    def get(self, key: str, peek: bool = False) -> Any:
        """See ``Huey.get``."""
        kind, data = self._stored(key, peek)
        return None if kind is None else self._codec.decode(kind, key, data)

    def get_raw(self, key: str, peek: bool = False) -> Any:
        """See ``Huey.get_raw``."""
        kind, data = self._stored(key, peek)
        return EmptyData if kind is None else data

    def _stored(self, key: str, peek: bool) -> tuple[Purpose | None, bytes]:
        """Return the kind and the bytes of what is stored under *key*; the kind is None if nothing is."""
        kinds: tuple[Purpose, ...] = ("data", "result")
        for kind in kinds:
            data = self._storage.peek(kind, _parse_key(key)) if peek else self._storage.pop(kind, _parse_key(key))
            if data is not None:
                return kind, data
        return None, b""

    def put_if_empty(self, key: str, value: Any, ttl: float | timedelta | None = None) -> bool:
        """See ``Huey.put_if_empty``."""
        return self._storage.put("data", _parse_key(key), self._codec.encode("data", key, value), parse_ttl(ttl), if_absent=True)

    def put_result(self, id: str, value: Any) -> None:
        """See ``Huey.put_result``."""
        self._storage.put("result", id, self._codec.encode("result", id, value))

    def delete(self, key: str) -> bool:
        """See ``Huey.delete``."""
        return self._storage.delete("data", _parse_key(key))


def _parse_key(key: str) -> str:
    return parse_text("key", key, LONGEST_NAME)
