"""``Huey`` with a built-in storage: one class per storage, under its name in 0.4.9 and 3.x."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from huey.api import Huey
from huey.runtime.clock import Clock, Rng


class HueyOptions(TypedDict, total=False):
    """Options of every ``Huey``, which documents them."""

    storage: Any
    storage_class: Any
    results: bool
    store_none: bool
    always_eager: bool
    utc: bool
    immediate: bool
    immediate_use_memory: bool
    store_intermediate_errors: bool
    serializer: Any
    secret: str | bytes | Sequence[str | bytes] | None
    compression: bool
    use_zlib: bool
    allow_pickle: bool | None
    keep_ids: float | None
    clock: Clock
    rng: Rng


class SqliteFileOptions(HueyOptions, total=False):
    """The same, and the options of ``SqliteStorage`` except for the file name."""

    result_ttl: float | None
    keep_finished: int | timedelta
    fsync: bool | None
    cache_mb: int
    timeout: float
    enqueue_timeout: float | None
    file_mode: int
    allow_network: bool
    pragmas: Mapping[str, Any] | Iterable[tuple[str, Any]] | None
    journal_mode: str | None
    strict_fifo: bool
    create_tables: bool
    isolation_level: str | None
    check_same_thread: bool


class SqliteOptions(SqliteFileOptions, total=False):
    """The same, and the file name."""

    filename: str | os.PathLike[str] | None
    location: str | os.PathLike[str] | None


class SqliteHuey(Huey):
    """A queue in a SQLite file. *filename* and *location* are the same option, default ``huey.db``; the others are those of
    ``SqliteStorage``: ``fsync``, ``cache_mb``, ``timeout``, ``file_mode``, ``result_ttl``. Those of 3.x are accepted:
    ``journal_mode="wal"``, ``strict_fifo``, ``create_tables``, and ``pragmas`` that do not weaken a promise."""

    _storage_kind = "SqliteStorage"

    def __init__(self, name: str = "huey", **options: Unpack[SqliteOptions]) -> None:
        super().__init__(name, **options)


class MemoryHuey(Huey):
    """A queue in the memory of this process: for tests and for programs that are their own consumer."""

    _storage_kind = "MemoryStorage"


class RedisHuey(Huey):
    """A queue in Redis or Valkey, for any number of hosts. Needs redis-py: ``pip install redis hiredis``.

    *host*, *port*, *db*, *username*, *password*, *ssl*, *unix_socket_path* and everything else that ``redis.Redis`` takes; or one of *url*,
    *connection_pool*, *client* (a ``redis.Redis``, one of a Sentinel, a ``RedisCluster``). *durable*, *enqueue_timeout*, *result_ttl*,
    *keep_finished* as ``RedisStorage``. Priorities work. *expire_time*: 3.x's name of *result_ttl*. *read_timeout*, *blocking*,
    *notify_result*, *notify_result_ttl* and *clean_name* are accepted and have no effect: consumers and callers that wait for a result are
    woken, and two names never collide.
    """

    _storage_kind = "RedisStorage"

    def __init__(self, name: str = "huey", **options: Any) -> None:
        super().__init__(name, **options)


class PriorityRedisHuey(RedisHuey):
    """The class ``RedisHuey`` under the 3.x name of the one with priorities."""


class RedisExpireHuey(RedisHuey):
    """A queue like ``RedisHuey``, but reading a result or a value of your own does not remove it. Results expire after *expire_time*
    seconds, default one day. The name is from 3.x."""

    _storage_kind = "RedisExpireStorage"


class PriorityRedisExpireHuey(RedisExpireHuey):
    """The class ``RedisExpireHuey`` under another 3.x name."""


CySqliteHuey = SqliteHuey
"""The same class: Python's driver does what 3.x needed a separate driver for."""


class FileHuey(Huey):
    """A queue in a folder: a SQLite file ``huey.db`` in it. *path*: the folder, created if missing. *levels* (0 to 4) and
    *use_thread_lock* are accepted for 3.x and have no effect; other options as ``SqliteHuey``."""

    _storage_kind = "FileStorage"

    def __init__(
        self,
        name: str = "huey",
        path: str | os.PathLike[str] = ".",
        levels: int = 2,
        use_thread_lock: bool = False,
        **options: Unpack[SqliteFileOptions],
    ) -> None:
        super().__init__(name, path=path, levels=levels, use_thread_lock=use_thread_lock, **options)


class BlackHoleHuey(Huey):
    """A queue that discards everything that is enqueued: for programs that run without their tasks."""

    _storage_kind = "BlackHoleStorage"
