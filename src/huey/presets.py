"""``Huey`` with a storage of its own: one class per storage, named as users of 0.4.9 and 3.x know them."""

from __future__ import annotations

import os
from typing import Any

from huey.api import Huey
from huey.exceptions import ConfigurationError
from huey.storage import open_default, open_memory, open_redis


class SqliteHuey(Huey):
    """A queue in a SQLite file. *filename* and *location* are the same option (C3), default ``huey.db`` (C33); others as ``SqliteStorage``:
    ``fsync``, ``cache_mb``, ``timeout``, ``file_mode``, ``result_ttl``."""

    storage_factory = staticmethod(open_default)

    def __init__(
        self,
        name: str = "huey",
        *,
        filename: str | os.PathLike[str] | None = None,
        location: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        if filename is not None and location is not None and filename != location:
            raise ConfigurationError(f"filename={filename!r} and location={location!r}: they are the same option; give one")
        path = filename if filename is not None else location
        super().__init__(name, **options if path is None else {**options, "filename": path})


class MemoryHuey(Huey):
    """A queue in the memory of this process: for tests and for programs that are their own consumer."""

    storage_factory = staticmethod(open_memory)


class RedisHuey(Huey):
    """A queue in Redis or Valkey, for any number of hosts. Needs redis-py: ``pip install 'huey[redis]'``.

    *host*, *port*, *db*, *username*, *password*, *ssl*, *unix_socket_path* and all else that ``redis.Redis`` takes; or one of *url*,
    *connection_pool*, *client* (a ``redis.Redis``, one of a Sentinel, a ``RedisCluster``). *durable*, *enqueue_timeout*, *result_ttl*,
    *keep_finished* as ``RedisStorage``. Priorities work. *expire_time*: 3.x's name of *result_ttl*. *read_timeout*, *blocking*,
    *notify_result* and *notify_result_ttl* are taken and need no setting: a consumer is woken, and so is who waits for a result.
    """

    storage_factory = staticmethod(open_redis)

    def __init__(
        self,
        name: str = "huey",
        *,
        read_timeout: float | None = None,
        blocking: bool = True,
        notify_result: bool = True,
        notify_result_ttl: float | None = None,
        expire_time: float | None = None,
        **options: Any,
    ) -> None:
        if expire_time is not None:
            options = {"result_ttl": float(expire_time)} | options
        super().__init__(name, **options)


class PriorityRedisHuey(RedisHuey):
    """``RedisHuey`` by the name that 3.x gave the one with priorities."""


class RedisExpireHuey(RedisHuey):
    """``RedisHuey`` by the name that 3.x gave the one whose results expire; after a day, as there (*expire_time*, seconds)."""

    def __init__(self, name: str = "huey", *, expire_time: float = 86400.0, **options: Any) -> None:
        super().__init__(name, expire_time=expire_time, **options)


class PriorityRedisExpireHuey(RedisExpireHuey):
    """``RedisExpireHuey``; priorities work in all of them."""
