"""Where tasks live. ``base`` is the contract; each storage fulfils it alone and knows none of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huey.clock import Rng
    from huey.storage.base import Storage


def open_default(name: str, **options: Any) -> Storage:
    """The storage of ``Huey(name)``: SQLite, file ``huey.db`` in the current directory unless ``filename=`` says otherwise (C33)."""
    from huey.storage.sql.sqlite import SqliteStorage

    return SqliteStorage(name, **options)


def open_memory(name: str, *, rng: Rng, **options: Any) -> Storage:
    """A storage in the memory of this process. It needs nothing of chance."""
    from huey.storage.memory import MemoryStorage

    return MemoryStorage(name, **options)


def open_redis(name: str, **options: Any) -> Storage:
    """A storage in Redis or Valkey. ConfigurationError: redis-py is not installed."""
    from huey.storage.redis import RedisStorage

    return RedisStorage(name, **options)
