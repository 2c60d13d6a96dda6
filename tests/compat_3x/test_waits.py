"""Waits that end, or say why they do not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import HopelessWait, ResultTimeout, TaskException
from huey.testing.contract.tools import Call
from tests.support.helpers import running, wait_until

MakeHuey = Callable[..., Huey]


# -- tasks that end without a result ------------------------------------------------------------------------------------------------------


def test_waiting_for_a_task_that_returned_none_gives_none(huey: Huey) -> None:
    handle = huey.task()(lambda: None)()

    with running(huey):
        assert handle.get(blocking=True, timeout=10) is None
    assert handle.get(blocking=True) is None


def test_so_does_one_that_came_after_its_end(huey: Huey) -> None:
    handle = huey.task()(lambda: None)()
    with running(huey):
        wait_until(lambda: huey.storage.get(handle.id) is None)

    assert handle.get(blocking=True, timeout=10) is None


def test_a_waiter_that_came_early_needs_only_the_id(huey: Huey) -> None:
    gate = threading.Event()
    handle = huey.task()(lambda: gate.wait(10) and None)()

    with running(huey):
        waiting = Call(lambda: huey.result(handle.id, blocking=True, timeout=10))
        wait_until(lambda: huey.inspector.counts().running)
        threading.Event().wait(0.1)
        gate.set()
        assert waiting.answer() is None


def test_so_does_a_group_and_each_of_its_places(huey: Huey) -> None:
    group = huey.task()(lambda n: n or None).map([0, 1, 0, 2, 0])

    with running(huey, workers=2):
        assert group.get(blocking=True, timeout=10) == [None, 1, None, 2, None]
        assert group[4] is None


def test_so_does_one_that_iterates_values_as_they_come(huey: Huey) -> None:
    group = huey.task()(lambda n: n or None).map([0, 1, 0])

    with running(huey):
        assert sorted(group.as_completed(), key=str) == [1, None, None]


def test_so_does_one_in_immediate_mode(huey: Huey) -> None:
    huey.immediate = True

    assert huey.task()(lambda: None)().get(blocking=True) is None


def test_an_id_that_was_never_known_times_out(huey: Huey) -> None:
    with pytest.raises(ResultTimeout, match="no task of that id is held"):
        huey.result("never", blocking=True, timeout=0.1)


def test_a_result_that_another_one_took_leaves_nobody_waiting(huey: Huey) -> None:
    handle = huey.task()(lambda: 7)()
    other = handle.__copy__()
    other.is_held = True
    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 7

    assert other.get(blocking=True, timeout=10) is None


def test_a_failure_whose_error_was_read_is_raised_again(huey: Huey) -> None:
    handle = huey.task()(lambda: 1 // 0)()
    with running(huey), pytest.raises(TaskException):
        handle.get(blocking=True, timeout=10)
    handle.reset()

    with pytest.raises(TaskException, match="ZeroDivisionError"):
        handle.get(blocking=True, timeout=10)


def test_what_is_still_collected_has_not_ended(huey: Huey) -> None:
    work = huey.task()(lambda: None)

    with huey.batch():
        handle = work()
        with pytest.raises(ResultTimeout):
            handle.get(blocking=True, timeout=0.1)


# -- why ----------------------------------------------------------------------------------------------------------------------------------


def reason(handle: Any, **options: Any) -> str:
    with pytest.raises(ResultTimeout) as raised:
        handle.get(blocking=True, **{"timeout": 0.05, **options})
    return str(raised.value)


def test_a_timeout_names_the_task_the_queue_and_missing_workers(huey: Huey) -> None:
    handle = huey.task(name="app.add")(lambda: 7)()

    told = reason(handle)

    assert f"no result of app.add {handle.id} within 0.05 s" in told
    assert f"queue {huey.storage.name!r}" in told
    assert "it has been waiting to run for 0 s" in told
    assert "no worker is alive on that queue" in told


def test_a_timeout_says_that_the_task_runs_and_where(huey: Huey) -> None:
    gate = threading.Event()
    handle = huey.task()(lambda: gate.wait(10))()
    with running(huey):
        wait_until(lambda: huey.inspector.counts().running)
        told = reason(handle)
        gate.set()

    assert "it is running in process" in told
    assert "1 worker is alive" in told


def test_a_timeout_says_scheduled_or_paused(huey: Huey) -> None:
    handle = huey.task()(lambda: 7).schedule(delay=3600)
    huey.storage.pause(True)

    told = reason(handle)

    assert "it is scheduled to run in 3600 s" in told or "3599 s" in told
    assert "the queue is paused" in told


def test_a_timeout_says_that_the_task_is_revoked(huey: Huey) -> None:
    handle = huey.task()(lambda: 7)()
    handle.revoke()
    assert "it is revoked and will not run" in reason(handle)

    with running(huey):
        wait_until(lambda: huey.inspector.counts().cancelled)
        assert "it was cancelled (revoked)" in reason(handle)


def test_a_caller_without_a_limit_hears_of_the_cancellation(huey: Huey) -> None:
    handle = huey.task()(lambda: 7)()
    handle.revoke()

    with running(huey):
        assert "no result" in reason(handle, timeout=None)


def test_a_group_says_of_what_it_misses_why(huey: Huey) -> None:
    group = huey.task(name="app.add")(lambda n: n).map([1, 2])

    with pytest.raises(ResultTimeout, match=r"2 of 2 results are missing after 0\.05 s; the last of them, app\.add .*no worker is alive"):
        group.get(blocking=True, timeout=0.05)


# -- arguments ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5, 0.5, 2.0, -1])
def test_seconds_in_place_of_blocking_are_a_type_error(huey: Huey, seconds: float) -> None:
    handle = huey.task()(lambda: 7)()

    for get in (handle.get, handle, huey.task(name="b")(lambda n: n).map([1]).get, lambda it: huey.result("a", it)):
        with pytest.raises(TypeError, match=f"timeout={seconds}"):
            get(seconds)


@pytest.mark.parametrize("blocking", [0, 1, False, True])
def test_zero_and_one_are_a_claim(huey: Huey, blocking: int) -> None:
    huey.immediate = True

    assert huey.task()(lambda: 7)().get(blocking, timeout=5) == 7


def test_a_timeout_without_blocking_looks_once_and_says_so_once(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    handle = huey.task(name="app.add")(lambda: 7)()

    with caplog.at_level(logging.WARNING, "huey"):
        assert [handle.get(timeout=3), handle.get(timeout=3)] == [None, None]

    (line,) = [record.getMessage() for record in caplog.records if "blocking=True" in record.getMessage()]
    assert "app.add" in line
    assert "timeout=3" in line


@pytest.mark.parametrize("timeout", ["5", True, [1]])
def test_a_timeout_that_is_no_number_is_a_type_error(huey: Huey, timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout="):
        huey.task()(lambda: 7)().get(blocking=True, timeout=timeout)


# -- inside a task ------------------------------------------------------------------------------------------------------------------------


def waits_inside(huey: Huey, wait: Callable[[Any], Any]) -> Any:
    inner = huey.task(name="app.inner")(lambda: 5)

    @huey.task(name="app.outer")
    def outer() -> Any:
        return wait(inner.map([()]))

    return outer


WAITS: dict[str, Callable[[Any], Any]] = {
    "get": lambda group: next(iter(group)).get(blocking=True),
    "group": lambda group: group.get(blocking=True)[0],
    "as_completed": lambda group: next(group.as_completed()),
    "index": lambda group: group[0],
}


@pytest.mark.parametrize("how", WAITS)
def test_a_task_whose_only_worker_waits_in_it_fails_and_says_so(how: str, huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    outer = waits_inside(huey, WAITS[how])

    with caplog.at_level(logging.WARNING, "huey"), running(huey), pytest.raises(TaskException, match="HopelessWait") as raised:
        outer().get(blocking=True, timeout=10)

    assert HopelessWait.__name__ in str(raised.value)
    assert len([record for record in caplog.records if "app.outer waits inside a task for app.inner" in record.getMessage()]) == 1


def test_a_task_that_waits_for_another_is_warned_once(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    outer = waits_inside(huey, WAITS["get"])

    with caplog.at_level(logging.WARNING, "huey"), running(huey, workers=2):
        assert [outer().get(blocking=True, timeout=10) for _ in range(2)] == [5, 5]

    assert len([record for record in caplog.records if "waits inside a task" in record.getMessage()]) == 1


def test_allow_wait_silences_both(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    outer = waits_inside(huey, lambda group: next(iter(group)).get(blocking=True, timeout=0.2, allow_wait=True))

    with caplog.at_level(logging.WARNING, "huey"), running(huey), pytest.raises(TaskException, match="ResultTimeout"):
        outer().get(blocking=True, timeout=10)

    assert not [record for record in caplog.records if "waits inside a task" in record.getMessage()]


def test_a_task_may_wait_for_one_of_another_queue(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    inner = huey.task(name="app.inner", queue="mail")(lambda: 5)

    @huey.task(name="app.outer")
    def outer() -> Any:
        return inner().get(blocking=True, timeout=10)

    with caplog.at_level(logging.WARNING, "huey"), running(huey), running(huey.on("mail")):
        assert outer().get(blocking=True, timeout=10) == 5

    assert not [record for record in caplog.records if "waits inside a task" in record.getMessage()]
