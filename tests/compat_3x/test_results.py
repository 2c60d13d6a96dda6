"""Section 5 of 3.x: handles, beside what section D of 0.4.9 promises (tests/compat_049/test_results.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import ResultTimeout, TaskException
from huey.testing.contract.tools import Call
from tests.support.helpers import running, wait_until

MakeHuey = Callable[..., Huey]


def test_values_are_iterated_as_they_come(huey: Huey) -> None:
    gates = [threading.Event() for _ in range(3)]

    @huey.task()
    def wait(n: int) -> int:
        gates[n].wait(10)
        return n

    group = wait.map(range(3))
    came: list[int] = []
    with running(huey, workers=3):
        reading = Call(lambda: [came.append(value) for value in group.as_completed()])
        for n in (1, 2, 0):
            gates[n].set()
            wait_until(lambda n=n: came[-1:] == [n])  # type: ignore[misc]
        reading.answer()
    assert came == [1, 2, 0]
    assert group.get() == [0, 1, 2]
    assert list(group.as_completed()) == [0, 1, 2]


def test_values_of_several_queues_are_iterated_as_they_come(huey: Huey) -> None:
    mail = huey.task(queue="mail", name="mail")(lambda n: n)
    plain = huey.task(name="plain")(lambda n: n)
    group = huey.enqueue_many([mail.s(0), plain.s(1), mail.s(2), plain.s(3)])

    with running(huey):
        reading = group.as_completed()
        assert {next(reading), next(reading)} == {1, 3}
        with running(huey.on("mail")):
            assert set(reading) == {0, 2}


def test_a_group_over_several_queues_waits_for_all(huey: Huey) -> None:
    mail = huey.task(queue="mail", name="mail")(lambda n: n)
    plain = huey.task(name="plain")(lambda n: n)
    group = huey.enqueue_many([mail.s(0), plain.s(1)])

    with running(huey):
        group[1]
        with pytest.raises(ResultTimeout):
            group.get(blocking=True, timeout=0.05)
        with running(huey.on("mail")):
            assert group.get(blocking=True, timeout=10) == [0, 1]


def test_a_failure_among_them_is_raised(huey: Huey) -> None:
    group = huey.task()(lambda n: 1 // n).map([1, 0])

    with running(huey), pytest.raises(TaskException):
        list(group.as_completed())


def test_preserve_leaves_the_result_and_reset_forgets_it(huey: Huey) -> None:
    handle = huey.task()(lambda: 7)()
    with running(huey):
        assert handle.get(blocking=True, timeout=10, preserve=True) == 7
    handle.reset()
    assert handle.is_ready()
    assert handle() == 7
    handle.reset()
    assert handle() is None


def test_a_handle_says_whose_it_is(huey: Huey) -> None:
    handle: Any = huey.task()(lambda: 7)()

    assert repr(handle) == f"<Result: task {handle.id}>"
    assert handle.huey is huey
    assert handle.task.id == handle.task.task_id == handle.id


def test_a_timeout_may_revoke(huey: Huey) -> None:
    handle = huey.task()(lambda: 7)()

    with pytest.raises(ResultTimeout):
        handle.get(blocking=True, timeout=0.01, revoke_on_timeout=True)

    assert handle.is_revoked()
    assert huey.dequeue() is None
