"""Storages that applications wrote for huey 3.x (``huey.storage.BaseStorage``), used like the four components of 0.4.9.

They promise less than other storages: a running task is lost if its worker is killed, and there are no locks, no rate limits and no dead
letters. A consumer logs this at startup.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from huey.backends.base import BaseDataStore, BaseQueue, BaseSchedule, Part
from huey.exceptions import ConfigurationError
from huey.runtime.clock import Clock
from huey.storage.legacy.components import Components
from huey.storage.legacy.message import Message
from huey.storage.legacy.storage import LegacyStorage
from huey.utils import EmptyData

_NEEDED = ("enqueue", "dequeue", "add_to_schedule", "read_schedule", "put_data", "peek_data", "pop_data")


class BaseStorage:
    """Base class of a huey 3.x storage: subclass it and pass ``Huey(name, storage_class=...)``. Messages and values are ASCII bytes, keys
    are str, times are naive datetimes in UTC."""

    blocking = False
    """``dequeue`` waits about a second for a message."""
    priority = True
    """``enqueue`` accepts priorities."""

    def __init__(self, name: str = "huey", **storage_options: Any) -> None:
        self.name = name

    def close(self) -> None:
        """Close connections."""

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        """Add a message to the queue; higher priorities come first."""
        raise NotImplementedError

    def dequeue(self) -> bytes | None:
        """Remove and return the next message, or None if there is none. Of two callers only one gets it."""
        raise NotImplementedError

    def queue_size(self) -> int:
        """Return the number of messages in the queue."""
        raise NotImplementedError

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        """Return the messages in the queue without removing them."""
        raise NotImplementedError

    def flush_queue(self) -> None:
        """Remove all messages from the queue."""
        raise NotImplementedError

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        """Add a message to the schedule until that time."""
        raise NotImplementedError

    def read_schedule(self, ts: datetime) -> list[bytes]:
        """Remove and return all messages whose time is *ts* or earlier, soonest first."""
        raise NotImplementedError

    def schedule_size(self) -> int:
        """Return the number of messages in the schedule."""
        raise NotImplementedError

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        """Return the messages in the schedule, soonest first, without removing them."""
        raise NotImplementedError

    def flush_schedule(self) -> None:
        """Remove all messages from the schedule."""
        raise NotImplementedError

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None:
        """Store *value*, replacing any old one."""
        raise NotImplementedError

    def peek_data(self, key: str) -> Any:
        """Return the value, or ``huey.constants.EmptyData`` if there is none."""
        raise NotImplementedError

    def pop_data(self, key: str) -> Any:
        """Remove and return the value, or return ``EmptyData`` if there is none."""
        raise NotImplementedError

    def delete_data(self, key: str) -> bool:
        """Remove the value; return True if there was one."""
        return self.pop_data(key) is not EmptyData

    def has_data_for_key(self, key: str) -> bool:
        """Return True if there is a value."""
        return self.peek_data(key) is not EmptyData

    def put_if_empty(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Store *value* if there is none; return True if it was stored. Override this with an atomic version: this one takes two steps."""
        if self.has_data_for_key(key):
            return False
        self.put_data(key, value)
        return True

    def peek_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values that exist."""
        return {key: value for key in keys if (value := self.peek_data(key)) is not EmptyData}

    def result_store_size(self) -> int:
        """Return the number of values."""
        raise NotImplementedError

    def result_items(self) -> dict[str, bytes]:
        """Return all values by key."""
        raise NotImplementedError

    def flush_results(self) -> None:
        """Remove all values."""
        raise NotImplementedError

    def flush_all(self) -> None:
        """Remove everything."""
        self.flush_queue()
        self.flush_schedule()
        self.flush_results()


class PluginStorage(LegacyStorage):
    """An adapter for *plugin*, an application's ``BaseStorage``. Attributes outside the contract are looked up on *plugin*."""

    def __init__(self, plugin: Any, name: str, clock: Clock) -> None:
        self.plugin = plugin
        super().__init__(Components(_Queue(plugin, name), _Store(plugin, name), _Schedule(plugin, name)), clock=clock)

    def close(self) -> None:
        super().close()
        if callable(getattr(self.plugin, "close", None)):
            self.plugin.close()

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        name = type(self.plugin).__name__
        warnings = super().startup_warnings(processes, periodic)
        lossy = (
            f"{name} was written for huey 3.x: a task is lost if its worker is killed while it runs, or while it moves from the schedule "
            "to the queue; there are no locks, no rate limits and no list of failures. SqliteHuey and RedisHuey have these and lose none"
        )
        return [lossy, *(line for line in warnings if "Acknowledging" not in line)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "plugin":
            raise AttributeError(name)
        return getattr(self.plugin, name)

    def __repr__(self) -> str:
        return f"<{type(self.plugin).__name__} {self.name!r}>"


def adapted(thing: Any, name: str, clock: Clock) -> PluginStorage:
    """Return *thing*, a storage of huey 3.x, in an adapter. Raise ConfigurationError if it is not one."""
    missing = [method for method in _NEEDED if not callable(getattr(thing, method, None))]
    if missing or isinstance(thing, type):
        raise ConfigurationError(
            f"{thing!r} is not a storage"
            + (f", it has no {', '.join(missing)}" if missing else "")
            + "; storage_class= and get_storage() take a class of huey.storage, or a subclass of huey.storage.BaseStorage"
        )
    return PluginStorage(thing, name, clock)


class _Part(Part):
    """A component of a plug-in."""

    def __init__(self, plugin: Any, name: str) -> None:
        super().__init__(name)
        self.plugin = plugin
        self.label = type(plugin).__name__
        """Its name in messages to users."""

    @property
    def is_trusted(self) -> bool:
        return bool(getattr(self.plugin, "is_trusted", False))

    def __repr__(self) -> str:
        return f"<{self.label} {self.name!r}>"


class _Queue(_Part, BaseQueue):
    def __init__(self, plugin: Any, name: str) -> None:
        super().__init__(plugin, name)
        self.blocking = bool(getattr(plugin, "blocking", False))
        self.takes_priorities = bool(getattr(plugin, "priority", False))

    def write(self, data: Any) -> None:
        message = Message.read_or_none(data) if self.takes_priorities else None
        if message is None or not message.priority:
            self.plugin.enqueue(_bytes(data))
        else:
            self.plugin.enqueue(_bytes(data), message.priority)

    def read(self) -> Any:
        return self.plugin.dequeue()

    def flush(self) -> None:
        self.plugin.flush_queue()

    def __len__(self) -> int:
        return int(self.plugin.queue_size())


class _Schedule(_Part, BaseSchedule):
    def add(self, data: Any, timestamp: datetime) -> None:
        self.plugin.add_to_schedule(_bytes(data), timestamp)

    def read(self, timestamp: datetime) -> list[Any]:
        return list(self.plugin.read_schedule(timestamp))

    def flush(self) -> None:
        self.plugin.flush_schedule()

    def __len__(self) -> int:
        return int(self.plugin.schedule_size())


class _Store(_Part, BaseDataStore):
    def put(self, key: str, value: Any) -> None:
        if ":" in key:
            self.plugin.put_data(key, _bytes(value))
        else:
            self.plugin.put_data(key, _bytes(value), is_result=True)

    def peek(self, key: str) -> Any:
        return _found(self.plugin.peek_data(key))

    def get(self, key: str) -> Any:
        return _found(self.plugin.pop_data(key))

    def put_if_empty(self, key: str, value: Any) -> bool:
        return bool(self.plugin.put_if_empty(key, _bytes(value)))

    def items(self) -> dict[str, Any]:
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in dict(self.plugin.result_items()).items()}

    def flush(self) -> None:
        self.plugin.flush_results()


def _bytes(data: Any) -> bytes:
    return data.encode("ascii") if isinstance(data, str) else data


def _found(value: Any) -> Any:
    return EmptyData if value is None else value
