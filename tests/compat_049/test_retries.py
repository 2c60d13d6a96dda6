"""Section G: tasks that fail are run again."""

from __future__ import annotations

import time

import pytest

from huey import Huey
from huey.exceptions import TaskException
from tests.support.helpers import noting, read_until, running, statuses, wait_until


def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize("retries", [1, 3])
def test_S82_a_failing_task_is_tried_again(huey: Huey, retries: int) -> None:
    ran = []

    @huey.task(retries=retries)
    def bad() -> None:
        ran.append("bad")
        raise ValueError("nope")

    handle, sentinel = bad(), huey.task()(add)

    with running(huey):
        with pytest.raises(TaskException):
            handle.get(blocking=True, timeout=10)
        assert sentinel(1, 2).get(blocking=True, timeout=10) == 3
    assert len(ran) == retries + 1
    assert len(huey) == 0


def test_S83_without_retries_a_task_runs_once(huey: Huey) -> None:
    ran = []

    @huey.task()
    def bad() -> None:
        ran.append("bad")
        raise ValueError("nope")

    handle, sentinel = bad(), huey.task()(add)

    with running(huey):
        with pytest.raises(TaskException):
            handle.get(blocking=True, timeout=10)
        assert sentinel(1, 2).get(blocking=True, timeout=10) == 3
    assert len(ran) == 1
    assert len(huey) == 0


def test_S84_without_a_delay_it_is_put_back_at_once(huey: Huey) -> None:
    @huey.task(retries=1)
    def bad() -> None:
        raise ValueError("nope")

    events = huey.events(timeout=10)
    handle = bad()

    with running(huey):
        told = read_until(events, "retrying", handle.id) + read_until(events, "error", handle.id)

    told_of_it = statuses(told, handle.id)
    assert told_of_it[told_of_it.index("error") :] == ["error", "retrying", "enqueued", "started", "error"]


def test_S84_it_is_put_back_behind_what_waits(huey: Huey) -> None:
    ran = []

    @huey.task(retries=1)
    def bad() -> None:
        ran.append("bad")
        raise ValueError("nope")

    note = noting(huey, ran)
    bad()
    note("a")
    note("b")

    with running(huey):
        wait_until(lambda: len(ran) == 4)
    assert ran == ["bad", "a", "b", "bad"]


def test_S85_the_delay_is_the_least_wait(huey: Huey) -> None:
    ran = []

    @huey.task(retries=2, retry_delay=0.3)
    def bad() -> None:
        ran.append(time.monotonic())
        raise ValueError("nope")

    handle = bad()

    with running(huey), pytest.raises(TaskException):
        handle.get(blocking=True, timeout=10)
    first, second, third = ran
    assert min(second - first, third - second) >= 0.3


def test_S85_a_delayed_retry_goes_to_the_schedule(huey: Huey) -> None:
    @huey.task(retries=1, retry_delay=3600)
    def bad() -> None:
        raise ValueError("nope")

    events = huey.events(timeout=10)
    handle = bad()

    with running(huey):
        told = read_until(events, "scheduled", handle.id)

    assert statuses(told, handle.id)[-3:] == ["error", "retrying", "scheduled"]
    assert huey.storage.counts().scheduled == 1
    row = huey.storage.get(handle.id)
    assert row is not None
    assert (row.state, row.attempt) == ("queued", 1)


def test_S86_other_work_goes_on_between_retries(huey: Huey) -> None:
    ran = []

    @huey.task(retries=1, retry_delay=0.5)
    def try_twice() -> None:
        ran.append("try")
        raise ValueError("nope")

    @huey.task()
    def count_beans() -> str:
        ran.append("beans")
        return "beans"

    handle = try_twice()
    with running(huey):
        wait_until(lambda: ran)
        assert count_beans().get(blocking=True, timeout=10) == "beans"
        with pytest.raises(TaskException):
            handle.get(blocking=True, timeout=10)

    assert ran == ["try", "beans", "try"]


def test_S87_success_after_retries_is_the_result(huey: Huey) -> None:
    ran = []

    @huey.task(retries=3)
    def third_time_lucky() -> str:
        ran.append("run")
        if len(ran) < 3:
            raise ValueError("nope")
        return "ok"

    handle, sentinel = third_time_lucky(), huey.task()(add)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == "ok"
        assert sentinel(1, 2).get(blocking=True, timeout=10) == 3
    assert len(ran) == 3
