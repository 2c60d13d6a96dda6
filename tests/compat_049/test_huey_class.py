"""Section B: the class ``Huey`` and its options."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import redis

from huey import Huey, PriorityRedisExpireHuey, PriorityRedisHuey, RedisExpireHuey, RedisHuey
from huey.api import AsyncData
from huey.testing.contract.tools import is_followed
from tests.support.helpers import running, wait_until
from tests.support.redis_server import shared_server

MakeHuey = Callable[..., Huey]


def nothing() -> None:
    """Return None."""


def add(a: int, b: int) -> int:
    return a + b


def test_S17_a_task_that_returns_none_leaves_no_result(huey: Huey) -> None:
    noop, sentinel = huey.task()(nothing), huey.task()(add)
    handle, after = noop(), sentinel(1, 2)

    with running(huey):
        assert after.get(blocking=True, timeout=10) == 3

    assert huey.storage.get(handle.id) is None, "it has not run"
    assert huey.storage.peek("result", handle.id) is None
    assert handle.get() is None
    assert handle.get(blocking=True, timeout=10) is None, "and whoever waits for it does not wait for ever"


def test_S18_with_store_none_the_value_none_is_a_result(make_huey: MakeHuey) -> None:
    huey = make_huey(store_none=True)
    handle = huey.task()(nothing)()

    with running(huey):
        assert handle.get(blocking=True, timeout=10, preserve=True) is None

    assert huey.storage.peek("result", handle.id) is not None


def test_S19_always_eager_runs_the_task_at_the_call(make_huey: MakeHuey) -> None:
    huey = make_huey(always_eager=True)
    eager = huey.task()(add)

    assert eager(1, 2) == 3
    assert len(huey) == 0


def test_S19_always_eager_runs_a_future_task_now(make_huey: MakeHuey) -> None:
    huey = make_huey(always_eager=True)
    eager = huey.task()(add)

    assert eager.schedule(args=(1, 2), delay=3600) == 3
    assert eager.schedule(args=(1,), kwargs={"b": 3}, eta=datetime.now() + timedelta(days=1)) == 4
    assert len(huey) == 0


def test_S19_always_eager_lets_exceptions_pass(make_huey: MakeHuey) -> None:
    huey = make_huey(always_eager=True)
    ran = []

    @huey.task(retries=3)
    def bad() -> None:
        ran.append("bad")
        raise ValueError("nope")

    with pytest.raises(ValueError, match=r"^nope$"):
        bad()
    assert ran == ["bad"]
    assert len(huey) == 0


def test_S19_always_eager_passes_what_the_task_asks_for(make_huey: MakeHuey) -> None:
    huey = make_huey(always_eager=True)

    @huey.task(retries=3, retries_as_argument=True, include_task=True)
    def look(x: int, retries: int | None = None, task: object = None) -> tuple[int, int | None, str]:
        return x, retries, type(task).__name__

    assert look(1) == (1, 3, "queuecmd_look")


def test_S20_each_instance_has_a_queue_of_its_own(make_huey: MakeHuey) -> None:
    one, two = make_huey("one"), make_huey("two")
    ran = []

    @one.task(name="note")
    def note_one(word: str) -> str:
        ran.append(("one", word))
        return word

    @two.task(name="note")
    def note_two(word: str) -> str:
        ran.append(("two", word))
        return word

    waits, done = note_one("a"), note_two("b")
    with running(two):
        assert done.get(blocking=True, timeout=10) == "b"
        assert note_two("c").get(blocking=True, timeout=10) == "c"

    assert ran == [("two", "b"), ("two", "c")]
    assert (len(one), len(two)) == (1, 0)
    assert waits.get() is None


def test_S20_flushing_one_queue_leaves_the_other(make_huey: MakeHuey) -> None:
    one, two = make_huey("one"), make_huey("two")
    one.task()(add)(1, 2)
    two.task()(add)(1, 2)

    one.flush()

    assert (len(one), len(two)) == (0, 1)


def test_S20_each_instance_has_a_queue_of_its_own_in_redis_too() -> None:
    one, other = (RedisHuey(name, port=shared_server().port) for name in ("my-app", "My-App"))

    one.task()(add)(1, 2)

    assert (len(one), len(other)) == (1, 0)
    for huey in (one, other):
        huey.flush()
        huey.close()


def test_S21_redis_huey_is_the_short_form_for_all_of_a_queue() -> None:
    huey = RedisHuey("my-app", host="127.0.0.1", port=shared_server().port)
    task = huey.task()(add)
    handle, later = task(1, 2), task.schedule(args=(3, 4), delay=0.05)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3
        assert later.get(blocking=True, timeout=10) == 7
    huey.flush()
    huey.close()


def test_S21_its_options_of_0_4_9_and_3_x_are_taken() -> None:
    huey = RedisHuey("my-app", store_none=True, always_eager=True, read_timeout=1, blocking=True, notify_result=True, host="127.0.0.1")

    assert (huey.store_none, huey.always_eager, huey.task()(add)(1, 2)) == (True, True, 3)
    assert [kind("app").storage.result_ttl for kind in (PriorityRedisHuey, RedisExpireHuey, PriorityRedisExpireHuey)] == [  # type: ignore[attr-defined]
        7 * 86400.0,
        86400.0,
        86400.0,
    ]
    assert RedisExpireHuey("app", expire_time=60).storage.result_ttl == 60  # type: ignore[attr-defined]


def test_S22_redis_huey_without_arguments_connects_to_nothing() -> None:
    huey = RedisHuey()

    assert (huey.name, repr(huey.storage)) == ("huey", "<RedisStorage 'huey' in Redis localhost:6379/0>")


def test_S23_redis_huey_publishes_on_the_channel_of_its_name() -> None:
    huey = RedisHuey("my-app", port=shared_server().port)
    task = huey.task()(add)
    with redis.Redis(port=shared_server().port) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("my-app")
        wait_until(lambda: is_followed(huey.storage))

        with running(huey):
            handle = task(1, 2)
            told: list[dict[str, object]] = []
            wait_until(lambda: _heard(listener, told) and told[-1]["status"] == "finished")
            assert handle.get() == 3, "at finished the result is readable"

    assert [event["status"] for event in told] == ["enqueued", "started", "finished"]
    assert {event["id"] for event in told} == {handle.id}
    huey.flush()
    huey.close()


def _heard(listener: redis.client.PubSub, told: list[dict[str, object]]) -> bool:
    message = listener.get_message(timeout=1)
    if message:
        told.append(json.loads(message["data"]))
    return bool(told)


def test_S24_a_call_on_redis_huey_returns_a_handle() -> None:
    huey = RedisHuey("my-app", port=shared_server().port)

    assert isinstance(huey.task()(add)(1, 2), AsyncData)

    huey.flush()
    huey.close()
