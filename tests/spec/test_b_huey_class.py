"""Section B: the class ``Huey`` and its options."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from huey import Huey
from huey.exceptions import DataStoreTimeout
from tests.helpers import running

MakeHuey = Callable[..., Huey]


def nothing() -> None:
    """Return None."""


def add(a: int, b: int) -> int:
    return a + b


def test_S17_a_task_that_returns_none_leaves_nothing_in_the_store(huey: Huey) -> None:
    noop, sentinel = huey.task()(nothing), huey.task()(add)
    handle, after = noop(), sentinel(1, 2)

    with running(huey):
        assert after.get(blocking=True, timeout=10) == 3

    assert huey.storage.get(handle.id) is None, "it has not run"
    assert huey.storage.peek("result", handle.id) is None
    assert handle.get() is None
    with pytest.raises(DataStoreTimeout):
        handle.get(blocking=True, timeout=0.05)


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
