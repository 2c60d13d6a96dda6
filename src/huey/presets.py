"""``Huey`` with a storage of its own: one class per storage, named as users of 0.4.9 and 3.x know them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from huey.api import Huey
from huey.exceptions import ConfigurationError
from huey.storage import open_black_hole, open_default, open_memory, open_redis


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
        options = without_settled(options)
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


CySqliteHuey = SqliteHuey
"""The same: what its own driver brought in 3.x, Python's has."""


class FileHuey(SqliteHuey):
    """A queue in a folder: a SQLite file ``huey.db`` in it. *path*: the folder, made when missing. *levels* (0 to 4) and *use_thread_lock*
    are taken from 3.x and have nothing to do here; other options as ``SqliteHuey``."""

    def __init__(
        self, name: str = "huey", path: str | os.PathLike[str] = ".", levels: int = 2, use_thread_lock: bool = False, **options: Any
    ) -> None:
        if isinstance(levels, bool) or levels not in range(5):
            raise ConfigurationError(f"levels={levels!r}: give 0 to 4, as in 3.x, or leave it out: there is one file, whatever it says")
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"path={path!r}: this folder cannot be made ({error.strerror}); give one that this user may use"
            ) from error
        super().__init__(name, filename=os.path.join(path, "huey.db"), **options)


class BlackHoleHuey(Huey):
    """A queue that keeps nothing: what is put in is gone. For programs that shall run without their tasks."""

    storage_factory = staticmethod(open_black_hole)


_SETTLED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "journal_mode": (
        lambda mode: str(mode).lower() == "wal",
        "only 'wal' lets workers and producers go on beside each other, and keeps what was written through a kill; leave it out",
    ),
    "strict_fifo": (lambda on: isinstance(on, bool | int), "give True or False; tasks of one priority run in their order in any case"),
    "create_tables": (bool, "the tables are made when they are missing, and checked at each start; leave it out"),
    "pragmas": (lambda pragmas: not pragmas, "what its guarantees rest on is set by huey itself; there are cache_mb= and fsync="),
    "isolation_level": (
        lambda level: level is None,
        "each step is one statement in autocommit, or other processes would wait for this one",
    ),
    "check_same_thread": (lambda on: not on, "connections are shared by the threads of a process, under locks; leave it out"),
}
"""Options of 3.x that are settled here: which values say what is so anyway, and why there are no others."""


def without_settled(options: dict[str, Any]) -> dict[str, Any]:
    """*options* without those that ask for what is so anyway. ConfigurationError: one that asks for something else, with the reason."""
    for name, (is_so, why) in _SETTLED.items():
        if name in options and not is_so(options[name]):
            raise ConfigurationError(f"{name}={options[name]!r}: {why}")
    return {name: value for name, value in options.items() if name not in _SETTLED}
