"""Where tasks live. ``base`` is the contract; each storage fulfils it alone and knows none of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huey.clock import Clock, Rng
    from huey.storage.base import Storage


def open_default(name: str, **options: Any) -> Storage:
    """The storage of ``Huey(name)``: SQLite, file ``huey.db`` in the current directory unless ``filename=`` says otherwise (C33)."""
    from huey.storage.sql.sqlite import SqliteStorage

    return SqliteStorage(name, **options)


def open_black_hole(name: str, *, rng: Rng, **options: Any) -> Storage:
    """A storage that keeps nothing."""
    from huey.storage.memory.blackhole import BlackHoleStorage

    return BlackHoleStorage(name, **options)


def __getattr__(name: str) -> Any:
    """Storages by the names of 3.x."""
    if name not in _HOMES:
        raise AttributeError(f"module 'huey.storage' has no attribute {name!r}")
    from importlib import import_module

    home, own_name = _HOMES[name]
    return getattr(import_module(home), own_name)


_HOMES = {
    "MemoryStorage": ("huey.storage.memory", "MemoryStorage"),
    "BlackHoleStorage": ("huey.storage.memory.blackhole", "BlackHoleStorage"),
    "SqliteStorage": ("huey.storage.sql.sqlite", "SqliteStorage"),
    "CySqliteStorage": ("huey.storage.sql.sqlite", "SqliteStorage"),
    "FileStorage": ("huey.storage.sql.sqlite", "SqliteStorage"),
}


def open_memory(name: str, *, rng: Rng, **options: Any) -> Storage:
    """A storage in the memory of this process. It needs nothing of chance."""
    from huey.storage.memory import MemoryStorage

    return MemoryStorage(name, **options)


def open_redis(name: str, **options: Any) -> Storage:
    """A storage in Redis or Valkey. ConfigurationError: redis-py is not installed."""
    from huey.storage.redis import RedisStorage

    return RedisStorage(name, **options)


def open_parts(queue: Any, store: Any, schedule: Any, events: Any, *, clock: Clock) -> Storage:
    """The storage of ``Huey(queue, result_store, schedule, events)``: the four parts of 0.4.9."""
    from huey.storage.legacy.parts import Parts
    from huey.storage.legacy.storage import LegacyStorage

    return LegacyStorage(Parts(queue, store, schedule, events), clock=clock)


def is_queue_part(thing: Any) -> bool:
    """It is a queue of 0.4.9, or looks like one, rather than a name."""
    return not isinstance(thing, str) and all(callable(getattr(thing, method, None)) for method in ("write", "read"))
