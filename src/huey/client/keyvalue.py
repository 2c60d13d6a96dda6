"""The part of ``Huey`` that reads and writes small values of the application, and lists what waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from huey.engine.task_decoder import TaskDecoder
from huey.registry import Registry
from huey.runtime.logs import SafeLogger
from huey.runtime.times import parse_ttl
from huey.serializer import Codec, Purpose
from huey.storage.base import Storage
from huey.task.bounds import LONGEST_NAME, parse_text
from huey.task.task import Task
from huey.utils import EmptyData

log = SafeLogger("huey")

ALL = 2**31 - 1
"""More tasks than anybody lists."""


class UserData:
    """User data lives beside the results, in a room of its own: a key never meets a task's id, and nothing of it goes by itself."""

    storage: Storage
    codec: Codec
    registry: Registry

    def put(self, key: str, value: Any) -> None:
        """Store *value* under *key*, replacing what was there. EncodeError: it cannot be stored."""
        self.storage.put("data", _key(key), self.codec.encode("data", key, value))

    def get(self, key: str, peek: bool = False) -> Any:
        """What is stored under *key*; None when there is nothing. It is removed, unless *peek*."""
        kind, data = self._stored(key, peek)
        return None if kind is None else self.codec.decode(kind, key, data)

    def get_raw(self, key: str, peek: bool = False) -> Any:
        """The bytes stored under *key*, of user data or else of the result of the task with that id; ``EmptyData`` when there are none."""
        kind, data = self._stored(key, peek)
        return EmptyData if kind is None else data

    def _stored(self, key: str, peek: bool) -> tuple[Purpose | None, bytes]:
        """What is stored under *key*, and as what; None when there is nothing."""
        kinds: tuple[Purpose, ...] = ("data", "result")
        for kind in kinds:
            data = self.storage.peek(kind, _key(key)) if peek else self.storage.pop(kind, _key(key))
            if data is not None:
                return kind, data
        return None, b""

    def put_if_empty(self, key: str, value: Any, ttl: float | timedelta | None = None) -> bool:
        """Store *value* unless there is one; True if it was stored. Of several callers at once one gets True. *ttl*: seconds (int, float)
        or a timedelta after which it goes by itself; None: it stays. ValueError: a *ttl* of 0 or less."""
        return self.storage.put_if_empty("data", _key(key), self.codec.encode("data", key, value), parse_ttl(ttl))

    def delete(self, key: str) -> bool:
        """Remove what is stored under *key*; True if there was something."""
        return self.storage.delete("data", _key(key))

    # -- what waits -----------------------------------------------------------------------------------------------------------------------

    def pending(self, limit: int | None = None) -> list[Task]:
        """Tasks that are ready, in the order in which they will run. One whose arguments cannot be read here is told in the log and left
        out; *limit* counts it too, and it stays where it is."""
        return self._listed("ready", limit)

    def scheduled(self, limit: int | None = None) -> list[Task]:
        """Tasks that wait for their time, the soonest first; as ``pending``."""
        return self._listed("scheduled", limit)

    def _listed(self, state: str, limit: int | None) -> list[Task]:
        if limit is not None and limit <= 0:
            return []
        reviver = TaskDecoder(self.registry, self.codec)
        found = []
        for row in self.storage.find(state, limit=ALL if limit is None else limit):
            try:
                found.append(reviver.task(row, row.due))
            except Exception as error:  # Classes of the application build themselves here: they may raise anything.
                log.error("task %s %s is left out of the list: %s: %s", row.name, row.id, type(error).__name__, error)
        return found

    def pending_count(self) -> int:
        return self.storage.counts().ready

    def scheduled_count(self) -> int:
        return self.storage.counts().scheduled

    def result_count(self) -> int:
        return self.storage.counts().results

    def all_results(self) -> dict[str, bytes]:
        """What is stored as results, by the id of the task, as bytes."""
        return self.storage.items("result")


def _key(key: str) -> str:
    return parse_text("key", key, LONGEST_NAME)
