"""The four components in the memory of one process, for tests: nothing survives the process, and no other process sees it."""

from __future__ import annotations

import heapq
from collections import deque
from datetime import datetime
from itertools import count
from typing import Any

from huey.backends import base
from huey.backends.base import BaseDataStore, BaseEventEmitter, BaseQueue, BaseSchedule, Data, Part
from huey.utils import EmptyData


class _InMemory(Part):
    """A component that no other process can write to, so it is trusted."""

    is_trusted = True


class DummyQueue(_InMemory, BaseQueue):
    """A queue in a deque."""

    def __init__(self, name: str = "huey", **connection: Any) -> None:
        super().__init__(name, **connection)
        self._messages: deque[Data] = deque()

    def write(self, data: Data) -> None:
        self._messages.append(data)

    def read(self) -> Data | None:
        try:
            return self._messages.popleft()
        except IndexError:
            return None

    def remove(self, data: Data) -> int:
        removed = 0
        while data in self._messages:
            self._messages.remove(data)
            removed += 1
        return removed

    def flush(self) -> None:
        self._messages.clear()

    def __len__(self) -> int:
        return len(self._messages)


class DummyDataStore(_InMemory, BaseDataStore):
    """A result store in a dict."""

    def __init__(self, name: str = "huey", **connection: Any) -> None:
        super().__init__(name, **connection)
        self._values: dict[str, Any] = {}

    def put(self, key: str, value: Any) -> None:
        self._values[key] = value

    def peek(self, key: str) -> Any:
        return self._values.get(key, EmptyData)

    def get(self, key: str) -> Any:
        return self._values.pop(key, EmptyData)

    def flush(self) -> None:
        self._values.clear()


class DummySchedule(_InMemory, BaseSchedule):
    """A schedule in a heap."""

    def __init__(self, name: str = "huey", **connection: Any) -> None:
        super().__init__(name, **connection)
        self._order = count()
        self._messages: list[tuple[datetime, int, Data]] = []

    def add(self, data: Data, timestamp: datetime) -> None:
        heapq.heappush(self._messages, (timestamp, next(self._order), data))

    def read(self, timestamp: datetime) -> list[Any]:
        due: list[Any] = []
        while self._messages and self._messages[0][0] <= timestamp:
            due.append(heapq.heappop(self._messages)[2])
        return due

    def flush(self) -> None:
        self._messages.clear()

    def __len__(self) -> int:
        return len(self._messages)


class DummyEventEmitter(BaseEventEmitter):
    """An emitter that keeps the newest thousand events in ``emitted``."""

    def __init__(self, channel: str = "huey", **connection: Any) -> None:
        super().__init__(channel, **connection)
        self.emitted: deque[str] = deque(maxlen=1000)

    def emit(self, data: str) -> None:
        self.emitted.append(data)


Components = base.Components(DummyQueue, DummyDataStore, DummySchedule, DummyEventEmitter)
"""The classes of this module by role, as Django's settings name them."""
