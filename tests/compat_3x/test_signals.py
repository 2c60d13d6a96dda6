"""Section 10 of 3.x: which signals come, in which order, and what a handler may do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import CancelExecution, RetryTask, TaskException
from huey.signals import SIGNAL_COMPLETE, SIGNAL_ENQUEUED, SIGNAL_ERROR, SIGNAL_EXECUTING, SIGNALS
from huey.task.task import Task
from tests.compat_3x.conftest import Told
from tests.support.helpers import running, wait_until

MakeHuey = Callable[..., Huey]


def ends_with(told: Told, id: str, *signals: str) -> list[str]:
    """Wait until these were told last about a task, and return all."""
    wait_until(lambda: told.of(id)[-len(signals) :] == list(signals), told=lambda: f"told: {told.of(id)}")
    return told.of(id)


def failing(huey: Huey, error: BaseException, **options: Any) -> Any:
    @huey.task(**options)
    def fail() -> None:
        raise error

    return fail


def test_success_is_enqueued_executing_complete(huey: Huey, told: Told) -> None:
    handle = huey.task()(lambda: 1)()

    with running(huey):
        assert ends_with(told, handle.id, "complete") == ["enqueued", "executing", "complete"]


def test_complete_comes_when_the_result_is_stored(huey: Huey) -> None:
    found: list[Any] = []

    @huey.signal(SIGNAL_COMPLETE)
    def look(signal: str, task: Task) -> None:
        found.append((signal, huey.result(task.id, preserve=True)))

    handle = huey.task()(lambda: 7)()

    with running(huey):
        wait_until(lambda: found)
    assert found == [("complete", 7)]
    assert handle.get() == 7


def test_a_failure_that_is_tried_again_at_once(huey: Huey, told: Told) -> None:
    handle = failing(huey, ValueError(), retries=1)()

    with running(huey, workers=2):
        seen = ends_with(told, handle.id, "executing", "error")
    assert seen == ["enqueued", "executing", "error", "retrying", "enqueued", "executing", "error"]


def test_a_failure_that_is_tried_again_later(huey: Huey, told: Told) -> None:
    handle = failing(huey, ValueError(), retries=1, retry_delay=3600)()

    with running(huey):
        assert ends_with(told, handle.id, "scheduled") == ["enqueued", "executing", "error", "retrying", "scheduled"]


def test_a_scheduled_task_is_enqueued_again_when_due(huey: Huey, told: Told) -> None:
    handle = huey.task()(lambda: 1).schedule(delay=0.4)

    with running(huey):
        assert ends_with(told, handle.id, "complete") == ["enqueued", "scheduled", "enqueued", "executing", "complete"]


def test_a_revoked_and_an_expired_task(huey: Huey, told: Told) -> None:
    task = huey.task()(lambda: 1)
    revoked, expired = task(), task.schedule(delay=0.05, expires=datetime.now(UTC) + timedelta(seconds=0.01))
    revoked.revoke()

    with running(huey):
        assert ends_with(told, revoked.id, "revoked") == ["enqueued", "revoked"]
        assert ends_with(told, expired.id, "expired")[-1] == "expired"


def test_a_task_that_passed_its_time_limit(huey: Huey, told: Told) -> None:
    never = threading.Event()

    @huey.task(timeout=0.05)
    def endless() -> None:
        while not never.is_set():
            never.wait(0.001)

    handle = endless()

    with running(huey):
        assert ends_with(told, handle.id, "timeout") == ["enqueued", "executing", "timeout"]


def test_a_cancelled_body(huey: Huey, told: Told) -> None:
    handle = failing(huey, CancelExecution())()

    with running(huey):
        assert ends_with(told, handle.id, "canceled") == ["enqueued", "executing", "canceled"]


def test_a_body_that_asks_for_another_run_is_no_error(huey: Huey, told: Told) -> None:
    runs: list[int] = []

    @huey.task()
    def again() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise RetryTask
        return 1

    handle = again()

    with running(huey):
        seen = ends_with(told, handle.id, "complete")
    assert seen == ["enqueued", "executing", "retrying", "enqueued", "executing", "complete"]


# Handlers


def test_a_handler_is_called_with_the_task_and_the_exception(huey: Huey) -> None:
    told: list[Any] = []

    @huey.signal(SIGNAL_ERROR, SIGNAL_ENQUEUED)
    def note(signal: str, task: Task, *extra: Any) -> None:
        told.append((signal, task.args, task.kwargs, *map(repr, extra)))

    @huey.task()
    def fail(a: int, b: int = 0) -> None:
        raise ValueError(a)

    fail(1, b=2)

    with running(huey):
        wait_until(lambda: len(told) == 2)
    assert told == [("enqueued", (1,), {"b": 2}), ("error", (1,), {"b": 2}, "ValueError(1)")]


def test_a_handler_that_raises_disturbs_nothing(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    @huey.signal()
    def broken(signal: str, task: Task, *extra: Any) -> None:
        raise RuntimeError("broken handler")

    told: list[str] = []

    @huey.signal()
    def note(signal: str, task: Task) -> None:
        told.append(signal)

    handle = huey.task()(lambda: 1)()
    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 1
        wait_until(lambda: told == ["enqueued", "executing", "complete"])
    assert caplog.text.count("broken handler") >= 3


def test_handlers_are_called_in_the_order_of_their_registration(huey: Huey) -> None:
    order: list[int] = []
    for number in range(3):
        huey.signal(SIGNAL_ENQUEUED)(lambda signal, task, number=number: order.append(number))

    huey.task()(lambda: 1)()

    assert order == [0, 1, 2]


def test_a_disconnected_handler_is_not_called(huey: Huey) -> None:
    told: list[str] = []

    @huey.signal()
    def note(signal: str, task: Task, *extra: Any) -> None:
        told.append(signal)

    task = huey.task()(lambda: 1)
    huey.disconnect_signal(note, SIGNAL_EXECUTING)
    with running(huey):
        task()
        wait_until(lambda: told == ["enqueued", "complete"])
        huey.disconnect_signal(note)
        assert task().get(blocking=True, timeout=10) == 1
    assert told == ["enqueued", "complete"]


def test_a_signal_that_does_not_exist_is_refused(huey: Huey) -> None:
    with pytest.raises(ValueError, match="'done' is not a signal; there are canceled, complete"):
        huey.signal("done")(print)
    with pytest.raises(ValueError, match=r"'completed' is not a signal; did you mean 'complete'\?"):
        huey.signal("completed")(print)
    assert len(SIGNALS) == 13


def test_a_handler_may_wait_for_a_task_of_its_own(huey: Huey) -> None:
    found: list[Any] = []
    other = huey.task(name="other")(lambda: "other")

    @huey.signal(SIGNAL_COMPLETE)
    def more(signal: str, task: Task) -> None:
        if task.name != "other":
            found.append(other().get(blocking=True, timeout=10))

    huey.task(name="first")(lambda: 1)()

    with running(huey, workers=2):
        wait_until(lambda: found == ["other"])


def test_tasks_of_a_batch_and_of_map_are_told_too(huey: Huey, told: Told) -> None:
    task = huey.task()(lambda n: n)
    with huey.batch():
        first = task(1)
        assert told == []
    group = task.map([2, 3])

    assert told.of(first.id) == ["enqueued"]
    assert [told.of(handle.id) for handle in group] == [["enqueued"]] * 2


def test_a_tick_is_told(huey: Huey, told: Told) -> None:
    ran = threading.Event()
    huey.periodic_task(lambda now: True)(ran.set)

    with running(huey, periodic=True):
        assert ran.wait(10)
        wait_until(lambda: "complete" in [signal for signal, _ in told])
    assert [signal for signal, _ in told][:3] == ["enqueued", "executing", "complete"]


def test_signals_of_many_tasks_keep_their_order(huey: Huey, told: Told) -> None:
    """A retry may be taken by another runner while the first is still telling."""
    fail = failing(huey, ValueError(), retries=2)
    handles = [fail() for _ in range(10)]

    with running(huey, workers=4):
        for handle in handles:
            with pytest.raises(TaskException):
                handle.get(blocking=True, timeout=20)
        wait_until(lambda: all(told.of(handle.id).count("error") == 3 for handle in handles))
    once = ["enqueued", "executing", "error", "retrying"]
    assert {tuple(told.of(handle.id)) for handle in handles} == {(*once, *once, *once[:3])}
