"""``RedisExpireHuey``: what is read stays until its time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from huey import Huey, PriorityRedisExpireHuey, RedisExpireHuey
from huey.exceptions import DecodeError, TaskException
from huey.storage import RedisExpireStorage
from huey.testing.clock import FakeClock
from tests.support.helpers import running
from tests.support.redis_server import shared_server

Make = Callable[..., Huey]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Huey] = []

    def make(kind: Any = RedisExpireHuey, **options: Any) -> Huey:
        made.append(kind("app", port=shared_server().port, **options))
        return made[-1]

    yield make
    for huey in made:
        huey.close()
    with redis.Redis(port=shared_server().port) as server:
        server.flushdb()


@pytest.mark.parametrize("kind", [RedisExpireHuey, PriorityRedisExpireHuey])
def test_a_result_stays_when_it_is_read_in_whatever_way(make: Make, kind: Any) -> None:
    huey = make(kind)
    double = huey.task(name="double")(lambda n: 2 * n)
    group = double.map([1, 2])
    with running(huey):
        assert group.get(blocking=True, timeout=10) == [2, 4]
        ids = [handle.id for handle in group]
        assert [huey.result(id) for id in ids] == [2, 4]
        assert [huey.result(id, blocking=True, timeout=1) for id in ids] == [2, 4]
        assert sorted(group.as_completed()) == [2, 4]
        handle = double(5)
        assert handle.get(blocking=True, timeout=10) == 10
        handle.reset()
        assert (handle.is_ready(), handle(), handle.get(preserve=True)) == (True, 10, 10)
    assert huey.result_count() == 3
    assert set(huey.all_results()) == {*ids, handle.id}


def test_an_error_stays_too(make: Make) -> None:
    huey = make()
    handle = huey.task(name="fail")(lambda: 1 // 0)()
    with running(huey), pytest.raises(TaskException):
        handle.get(blocking=True, timeout=10)
    for _ in range(2):
        with pytest.raises(TaskException, match="ZeroDivisionError"):
            huey.result(handle.id)


def test_it_goes_after_its_time_however_often_it_was_read(make: Make, clock: FakeClock) -> None:
    huey = make(expire_time=50, clock=clock)
    huey.put_result("a", 7)
    seen = []
    for _ in range(6):
        seen.append(huey.result("a"))
        clock.forward(10)

    assert seen == [7, 7, 7, 7, 7, None]


def test_one_that_cannot_be_read_keeps_its_time(make: Make, clock: FakeClock) -> None:
    huey = make(expire_time=50, clock=clock)
    huey.storage.put("result", "a", b"broken", 50)
    clock.forward(40)
    with pytest.raises(DecodeError):
        huey.result("a")
    clock.forward(20)

    assert huey.result("a") is None


def test_user_data_stays_until_it_is_deleted(make: Make, clock: FakeClock) -> None:
    huey = make(clock=clock)
    huey.put("k", 1)
    clock.forward(10**6)

    assert [huey.get("k"), huey.get("k"), huey.get("k", peek=True)] == [1, 1, 1]
    assert (huey.delete("k"), huey.delete("k"), huey.get("k")) == (True, False, None)


def test_they_go_when_they_are_flushed(make: Make) -> None:
    huey = make()
    huey.put_result("a", 1)
    huey.put("k", 2)
    huey.storage.flush_results()

    assert (huey.result("a"), huey.result_count(), huey.get("k")) == (None, 0, 2)


def test_results_expire_after_a_day_on_all_queues(make: Make) -> None:
    assert make().storage.result_ttl == 86400.0  # type: ignore[attr-defined]
    assert make(expire_time=60).storage.result_ttl == 60.0  # type: ignore[attr-defined]
    for_queue = make(expire_time=60).storage.for_queue("other")
    assert (type(for_queue), for_queue.result_ttl, for_queue.features.keeps_results) == (RedisExpireStorage, 60.0, True)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="expire_time"):
        make(expire_time=-1)
