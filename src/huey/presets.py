"""``Huey`` with a storage of its own: one class per storage, named as users of 0.4.9 and 3.x know them."""

from __future__ import annotations

from typing import Any

from huey.api import Huey


class _OfName(Huey):
    """Only the name is positional."""

    def __init__(self, name: str = "huey", **options: Any) -> None:
        super().__init__(name, **options)


class SqliteHuey(_OfName):
    """A queue in a SQLite file. *filename* and *location* are the same option, default ``huey.db``; others as ``SqliteStorage``: ``fsync``,
    ``cache_mb``, ``timeout``, ``file_mode``, ``result_ttl``. Those of 3.x are taken: ``journal_mode="wal"``, ``strict_fifo``,
    ``create_tables``, and ``pragmas`` that change nothing about what is promised."""

    _storage_kind = "SqliteStorage"


class MemoryHuey(Huey):
    """A queue in the memory of this process: for tests and for programs that are their own consumer."""

    _storage_kind = "MemoryStorage"


class RedisHuey(_OfName):
    """A queue in Redis or Valkey, for any number of hosts. Needs redis-py: ``pip install redis hiredis``.

    *host*, *port*, *db*, *username*, *password*, *ssl*, *unix_socket_path* and all else that ``redis.Redis`` takes; or one of *url*,
    *connection_pool*, *client* (a ``redis.Redis``, one of a Sentinel, a ``RedisCluster``). *durable*, *enqueue_timeout*, *result_ttl*,
    *keep_finished* as ``RedisStorage``. Priorities work. *expire_time*: 3.x's name of *result_ttl*. *read_timeout*, *blocking*,
    *notify_result*, *notify_result_ttl* and *clean_name* are taken and need no setting: a consumer is woken, so is who waits for a result,
    and two names never meet.
    """

    _storage_kind = "RedisStorage"


class PriorityRedisHuey(RedisHuey):
    """``RedisHuey`` by the name that 3.x gave the one with priorities."""


class RedisExpireHuey(RedisHuey):
    """``RedisHuey`` by the name that 3.x gave the one whose results stay when they are read, and so does what is under keys of your own.
    Results go after *expire_time* seconds; default a day."""

    _storage_kind = "RedisExpireStorage"


class PriorityRedisExpireHuey(RedisExpireHuey):
    """``RedisExpireHuey``; priorities work in all of them."""


CySqliteHuey = SqliteHuey
"""The same: what its own driver brought in 3.x, Python's has."""


class FileHuey(Huey):
    """A queue in a folder: a SQLite file ``huey.db`` in it. *path*: the folder, made when missing. *levels* (0 to 4) and *use_thread_lock*
    are taken from 3.x and have nothing to do here; other options as ``SqliteHuey``."""

    _storage_kind = "FileStorage"

    def __init__(self, name: str = "huey", path: Any = ".", levels: int = 2, use_thread_lock: bool = False, **options: Any) -> None:
        super().__init__(name, path=path, levels=levels, use_thread_lock=use_thread_lock, **options)


class BlackHoleHuey(Huey):
    """A queue that keeps nothing: what is put in is gone. For programs that shall run without their tasks."""

    _storage_kind = "BlackHoleStorage"
