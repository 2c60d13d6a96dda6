"""Section 9 of 3.x: what a body, a hook or a caller makes of an exception."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import CancelExecution, HueyException, RetryTask, TaskException
from huey.runtime.clock import SECOND
from huey.testing.clock import FakeClock
from tests.support.helpers import never, running, wait_until

MakeHuey = Callable[..., Huey]


def raising(huey: Huey, *errors: BaseException, **options: Any) -> tuple[Any, list[int]]:
    """A task that raises these one after the other, and then returns; and its runs."""
    ran: list[int] = []

    @huey.task(**options)
    def work() -> str:
        ran.append(1)
        if len(ran) <= len(errors):
            raise errors[len(ran) - 1]
        return "done"

    return work, ran


def test_what_a_body_may_raise_is_no_huey_exception() -> None:
    assert not any(issubclass(error, HueyException) for error in (RetryTask, CancelExecution, TaskException))


# RetryTask


def test_a_body_that_asks_is_run_again_at_no_cost(huey: Huey) -> None:
    work, ran = raising(huey, RetryTask(), RetryTask("not yet"), ValueError(), retries=1)

    with running(huey):
        assert work().get(blocking=True, timeout=10) == "done"
    assert len(ran) == 4


@pytest.mark.parametrize(("asked", "wait"), [({"delay": 90}, 90), ({"delay": timedelta(minutes=1)}, 60), ({}, 10), ({"delay": 0}, None)])
def test_the_delay_it_asks_for_takes_the_place_of_the_usual_one(
    make_huey: MakeHuey, clock: FakeClock, asked: dict[str, Any], wait: float | None
) -> None:
    huey = make_huey(clock=clock)
    work, ran = raising(huey, RetryTask(**asked), retry_delay=10, retry_backoff=3)
    handle = work()

    with running(huey):
        if wait is None:
            assert handle.get(blocking=True, timeout=10) == "done"
            return
        row = wait_until(lambda: (row := huey.storage.get(handle.id)) and row.due and row)
    assert (row.due - clock.now()) / SECOND == wait
    assert row.attempt == 0
    assert len(ran) == 1


def test_a_time_it_asks_for(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)
    when = datetime.fromtimestamp(clock.now() / SECOND + 3600)
    work, _ = raising(huey, RetryTask(eta=when))
    handle = work()

    with running(huey):
        row = wait_until(lambda: (row := huey.storage.get(handle.id)) and row.due and row)
    assert row.due == clock.now() + 3600 * SECOND


def test_who_asks_for_both_is_told() -> None:
    with pytest.raises(ValueError, match="use only one of them"):
        RetryTask(eta=datetime(2025, 1, 1), delay=1)


def test_a_delay_that_cannot_work_is_a_failure(huey: Huey) -> None:
    work, _ = raising(huey, RetryTask(delay=float("nan")))

    with running(huey), pytest.raises(TaskException, match="up to a hundred years"):
        work().get(blocking=True, timeout=10)


# CancelExecution


@pytest.mark.parametrize(
    ("retry", "retries", "runs"),
    [(None, 0, 1), (None, 1, 2), (True, 0, 2), (True, 5, 2), (False, 5, 1)],
)
def test_a_cancelled_run_is_tried_again_as_it_says(huey: Huey, retry: bool | None, retries: int, runs: int) -> None:
    work, ran = raising(huey, CancelExecution(retry=retry), retries=retries)
    handle = work()

    with running(huey):
        if runs == 2:
            assert handle.get(blocking=True, timeout=10) == "done"
        else:
            with pytest.raises(TaskException, match="CancelExecution"):
                handle.get(blocking=True, timeout=10)
            assert huey.storage.get(handle.id).state == "cancelled"  # type: ignore[union-attr]
            assert huey.storage.get(handle.id).reason == "canceled"  # type: ignore[union-attr]
    assert len(ran) == runs


# Errors of tries that are not the last


def test_get_without_waiting_raises_the_last_tries_error(huey: Huey) -> None:
    work, ran = raising(huey, ValueError("first"), retries=2, retry_delay=3600)
    handle = work()
    assert handle.get() is None

    with running(huey):
        wait_until(lambda: huey.storage.get(handle.id).error)  # type: ignore[union-attr]
    for _ in range(2):
        with pytest.raises(TaskException, match="first") as raised:
            handle.get()
    assert raised.value.metadata["retries"] == 2
    assert raised.value.metadata["task_id"] == handle.id
    assert len(ran) == 1


def test_a_get_that_waits_goes_on_waiting(huey: Huey) -> None:
    work, _ = raising(huey, ValueError("first"), ValueError("second"), retries=2, retry_delay=0.05)

    with running(huey):
        assert work().get(blocking=True, timeout=10) == "done"


def test_without_intermediate_errors_nothing_is_between_tries(make_huey: MakeHuey) -> None:
    huey = make_huey(store_intermediate_errors=False)
    work, _ = raising(huey, ValueError("first"), retries=1, retry_delay=3600)
    handle = work()

    with running(huey):
        wait_until(lambda: huey.storage.get(handle.id).error)  # type: ignore[union-attr]
    assert handle.get() is None


def test_a_task_that_has_succeeded_after_all_leaves_no_error(huey: Huey) -> None:
    ran: list[int] = []

    @huey.task(retries=1)
    def nothing() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError

    handle = nothing()
    with running(huey):
        wait_until(lambda: huey.storage.get(handle.id) is None)
    assert handle.get() is None


# What is told of an error


def test_an_application_may_tell_errors_in_its_own_way(huey: Huey) -> None:
    def tell(task: Any, exception: BaseException) -> dict[str, Any]:
        return {"error": f"{task.name}: {exception}", "code": 7}

    huey.build_error_result = tell  # type: ignore[method-assign]
    work, _ = raising(huey, ValueError("nope"))

    with running(huey), pytest.raises(TaskException, match="work: nope") as raised:
        work().get(blocking=True, timeout=10)
    assert raised.value.metadata["code"] == 7


def test_what_cannot_be_stored_of_it_is_told_as_usual(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    huey.build_error_result = lambda task, exception: {"error": object()}  # type: ignore[method-assign,assignment,misc]
    work, _ = raising(huey, ValueError("nope"))

    with running(huey), pytest.raises(TaskException, match="nope"):
        work().get(blocking=True, timeout=10)
    assert "build_error_result" in caplog.text


def test_as_usual_it_has_four_keys(huey: Huey) -> None:
    told = huey.build_error_result(huey.task()(lambda: 1).s(), ValueError("nope"))

    assert sorted(told) == ["error", "retries", "task_id", "traceback"]


# Revoking what runs


def test_a_body_that_runs_is_asked_to_stop_when_it_is_revoked(huey: Huey) -> None:
    started, over, cleaned = threading.Event(), threading.Event(), threading.Event()

    @huey.task(retries=5)
    def endless() -> None:
        started.set()
        try:
            while not over.is_set():
                over.wait(0.001)
        finally:
            cleaned.set()

    handle = endless()
    with running(huey):
        assert started.wait(10)
        handle.revoke()
        with pytest.raises(TaskException, match="CancelExecution"):
            handle.get(blocking=True, timeout=10)
    row = huey.storage.get(handle.id)
    assert row is not None
    assert (row.state, row.reason) == ("cancelled", "revoked")
    assert cleaned.is_set()


def test_a_neighbour_of_a_stopped_task_runs_on(huey: Huey) -> None:
    over = threading.Event()

    @huey.task()
    def endless(name: str) -> str:
        while not over.is_set():
            over.wait(0.001)
        return name

    stopped, other = endless("a"), endless("b")
    with running(huey, workers=2):
        wait_until(lambda: huey.inspector.counts().running == 2)
        stopped.revoke()
        with pytest.raises(TaskException):
            stopped.get(blocking=True, timeout=10)
        assert never(other.is_ready, within=0.05)
        over.set()
        assert other.get(blocking=True, timeout=10) == "b"


def test_a_value_that_cannot_be_stored_fails_the_task_at_once(huey: Huey, told: Any) -> None:
    ran: list[int] = []

    @huey.task(retries=3, name="returns")
    def returns() -> object:
        ran.append(1)
        return threading.Lock()

    with running(huey):
        result = returns()
        with pytest.raises(TaskException, match="cannot be written"):
            result.get(blocking=True, timeout=10)

    assert ran == [1]
    assert told.of(result.id) == ["enqueued", "executing", "error"]


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("cannot travel")
        self.lock = threading.Lock()


def test_an_exception_that_cannot_be_stored_is_told_in_words(huey: Huey) -> None:
    ran: list[int] = []

    @huey.task(retries=1, name="raises")
    def raises() -> None:
        ran.append(1)
        raise Unpicklable

    with running(huey), pytest.raises(TaskException, match="cannot travel"):
        raises().get(blocking=True, timeout=10)

    assert ran == [1, 1]


def test_a_failure_has_the_error_class_and_the_traceback(huey: Huey) -> None:
    class Refused(Exception):
        pass

    @huey.task()
    def pay(error: str) -> None:
        raise Refused("no") if error == "own" else ValueError("bad")

    handles = [pay("own"), pay("builtin")]
    told = []
    with running(huey):
        for handle in handles:
            with pytest.raises(TaskException) as raised:
                handle.get(blocking=True, timeout=10)
            told.append(raised.value)
    own, builtin = told

    assert own.error_type.endswith("Refused")
    assert own.error_type.startswith(f"{__name__}.")
    assert builtin.error_type == "ValueError"
    assert sorted(builtin.metadata) == ["error", "retries", "task_id", "traceback"]
    assert 'raise Refused("no")' in "".join(own.__notes__)
    assert TaskException({"error": "x"}).error_type == ""


def test_a_task_that_returns_a_handle_is_told_to_return_its_id(huey: Huey) -> None:
    inner = huey.task()(lambda: 7)
    one, many = huey.task(name="one")(lambda: inner()), huey.task(name="many")(lambda: inner.map([(), ()]))

    handles: list[Any] = [one(), many()]
    with running(huey):
        for handle in handles:
            with pytest.raises(TaskException, match="a handle cannot be returned: return its id"):
                handle.get(blocking=True, timeout=10)
