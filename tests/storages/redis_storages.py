"""Makes storages in the shared servers of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from huey.storage.redis import RedisStorage
from tests.support.redis_server import PROGRAMS, Server, shared_server

NAMES = (f"test {n}" for n in count())
Make = Callable[..., RedisStorage]


def server_of(which: str, *options: str) -> Server:
    """The shared server of that kind. Where there is none the test is skipped."""
    if PROGRAMS[which] is None:
        pytest.skip(f"there is no {which} server for this machine")
    return shared_server(which, *options)


def makes(server: Server, **always: object) -> Iterator[Make]:
    """What makes storages of one new name, with the options *always* and its own; at the end they are closed."""
    made: list[RedisStorage] = []
    name = next(NAMES)

    def make(name: str = name, **options: object) -> RedisStorage:
        made.append(RedisStorage(name, port=server.port, **always, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for storage in made:
        storage.close()
