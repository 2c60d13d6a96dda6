"""0.4.9 parts for tests: shipped ones in SQLite and in a private Redis, and ones that a user wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey
from huey.backends import redis_backend, sqlite_backend
from tests.compat_049.parts import own
from tests.support.helpers import leaving_no_thread
from tests.support.redis_server import shared_server

MakeParts = Callable[..., tuple[Any, Any, Any]]


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    with leaving_no_thread():
        yield


@pytest.fixture
def port() -> int:
    """Of a private Redis that is empty."""
    server = shared_server()
    emptied = redis_backend.RedisQueue("any", host="127.0.0.1", port=server.port)
    emptied.conn.flushall()
    emptied.conn.close()
    return server.port


def in_sqlite(folder: Path, name: str = "app") -> tuple[Any, Any, Any]:
    return tuple(kind(name, folder / "parts.db") for kind in sqlite_backend.Components[:3])  # type: ignore[misc, return-value]


def in_redis(port: int, name: str = "app", *, blocking: bool = True) -> tuple[Any, Any, Any]:
    queue = redis_backend.RedisBlockingQueue if blocking else redis_backend.RedisQueue
    kinds = (queue, redis_backend.RedisDataStore, redis_backend.RedisSchedule)
    return tuple(kind(name, host="127.0.0.1", port=port) for kind in kinds)  # type: ignore[return-value]


@pytest.fixture(params=["sqlite", "redis"])
def make_shipped(request: pytest.FixtureRequest, tmp_path: Path) -> MakeParts:
    """Makes queue, store and schedule of one kind that ships, ``make_shipped(name="app")``."""
    if request.param == "sqlite":
        return lambda name="app": in_sqlite(tmp_path, name)
    port = request.getfixturevalue("port")
    return lambda name="app": in_redis(port, name)


@pytest.fixture(params=["sqlite", "redis", "polled redis", "own"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any, Any]:
    """A queue, a store, a schedule."""
    if request.param == "own":
        return own.ListQueue(), own.DictStore(), own.ListSchedule()
    if request.param == "sqlite":
        return in_sqlite(tmp_path)
    return in_redis(request.getfixturevalue("port"), blocking=request.param == "redis")


@pytest.fixture
def emitter() -> own.ListEmitter:
    return own.ListEmitter()


@pytest.fixture
def huey(parts: tuple[Any, Any, Any], emitter: own.ListEmitter) -> Huey:
    return Huey(*parts, emitter)
