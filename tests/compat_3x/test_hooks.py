"""Section 2 of 3.x: hooks around the runs of tasks, and at the start and end of each runner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import CancelExecution, ResultTimeout, TaskException
from huey.task.task import Task
from tests.compat_3x.conftest import Told
from tests.support.helpers import running, wait_until

MakeHuey = Callable[..., Huey]


def test_hooks_and_signals_come_in_the_documented_order(huey: Huey) -> None:
    order: list[Any] = []
    huey.signal("executing", "complete")(lambda signal, task: order.append(signal))
    huey.pre_execute(name="second")(lambda task: order.append("pre"))
    huey.post_execute()(lambda task, value, error: order.append(("post", value, error, huey.result(task.id, preserve=True))))

    @huey.task()
    def body() -> int:
        order.append("body")
        return 5

    with running(huey):
        body()
        wait_until(lambda: "complete" in order)
    assert order == ["pre", "executing", "body", ("post", 5, None, 5), "complete"]


def test_hooks_run_in_declared_order_in_the_runners_thread(huey: Huey) -> None:
    order: list[Any] = []
    threads: set[int] = set()
    for number in range(3):
        huey.pre_execute()(lambda task, number=number: (order.append(number), threads.add(threading.get_ident())))
        huey.post_execute()(lambda task, value, error, number=number: (order.append(-number), threads.add(threading.get_ident())))

    @huey.task()
    def body() -> None:
        threads.add(threading.get_ident())

    with running(huey, workers=3):
        body()
        wait_until(lambda: len(order) == 6)
    assert order == [0, 1, 2, 0, -1, -2]
    assert len(threads) == 1


def test_post_execute_is_told_the_exception(huey: Huey) -> None:
    told: list[Any] = []
    huey.post_execute()(lambda task, value, error: told.append((task.args, value, repr(error))))

    @huey.task()
    def fail(n: int) -> None:
        raise ValueError(n)

    with running(huey):
        with pytest.raises(TaskException):
            fail(3).get(blocking=True, timeout=10)
        wait_until(lambda: told)
    assert told == [((3,), None, "ValueError(3)")]


def test_a_hook_that_raises_is_logged_and_all_else_goes_on(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    @huey.pre_execute()
    def broken(task: Task) -> None:
        raise RuntimeError("broken before")

    @huey.post_execute()
    def broken_too(task: Task, value: Any, error: BaseException | None) -> None:
        raise CancelExecution("broken after")

    huey.pre_execute()(lambda task: told.append("pre"))
    huey.post_execute()(lambda task, value, error: told.append("post"))

    with running(huey):
        assert huey.task()(lambda: 1)().get(blocking=True, timeout=10) == 1
        wait_until(lambda: told == ["pre", "post"])
    assert "broken before" in caplog.text
    assert "has an effect only in pre_execute" in caplog.text


def test_a_pre_execute_hook_can_cancel_a_task(huey: Huey, told: Told) -> None:
    ran: list[int] = []
    after: list[Any] = []

    @huey.pre_execute()
    def guard(task: Task) -> None:
        if task.args == (1,):
            raise CancelExecution

    huey.post_execute()(lambda task, value, error: after.append(task.args))
    task = huey.task(retries=3)(ran.append)

    handle, other = task(1), task(2)
    with running(huey):
        wait_until(lambda: after == [(2,)] and told.of(handle.id)[-1] == "canceled")
        with pytest.raises(ResultTimeout):
            handle.get(blocking=True, timeout=0)
    assert ran == [2]
    assert told.of(handle.id) == ["enqueued", "canceled"]
    assert told.of(other.id)[-1] == "complete"
    assert handle.get() is None


def test_startup_and_shutdown_hooks_run_once_in_each_runner(huey: Huey) -> None:
    at_start: list[int] = []
    at_end: list[int] = []
    huey.on_startup()(lambda: at_start.append(threading.get_ident()))
    huey.on_shutdown()(lambda: at_end.append(threading.get_ident()))
    used: list[int] = []

    @huey.task()
    def look() -> None:
        assert threading.get_ident() in at_start
        used.append(1)

    with running(huey, workers=3):
        look()
        wait_until(lambda: used and len(at_start) == 3)
        assert at_end == []
    assert len(set(at_start)) == 3
    assert sorted(at_end) == sorted(at_start)


def test_a_startup_hook_that_raises_does_not_stop_the_runner(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    @huey.on_startup()
    def broken() -> None:
        raise RuntimeError("no connection")

    with running(huey):
        assert huey.task()(lambda: 1)().get(blocking=True, timeout=10) == 1
    assert "no connection" in caplog.text


def test_hooks_are_unregistered_by_function_or_by_name(huey: Huey) -> None:
    def before(task: Task) -> None:
        raise CancelExecution

    huey.pre_execute(name="guard")(before)
    assert huey.unregister_pre_execute("guard") is True
    assert huey.unregister_pre_execute("guard") is False
    huey.pre_execute()(before)
    assert huey.unregister_pre_execute(before) is True
    for kind in ("post_execute", "on_startup", "on_shutdown"):
        getattr(huey, kind)()(before)
        assert getattr(huey, f"unregister_{kind}")("before") is True
        assert getattr(huey, f"unregister_{kind}")(before) is False

    with running(huey):
        assert huey.task()(lambda: 1)().get(blocking=True, timeout=10) == 1


def test_a_hook_without_parentheses_is_refused(huey: Huey) -> None:
    with pytest.raises(ValueError, match="parentheses"):
        huey.pre_execute(lambda task: None)  # type: ignore[arg-type]


def test_interrupted_tells_of_each_task_in_flight(huey: Huey, told: Told) -> None:
    over = threading.Event()

    @huey.task()
    def wait() -> None:
        over.wait(10)

    huey.notify_interrupted_tasks()
    handles = [wait(), wait()]
    with running(huey, workers=2):
        wait_until(lambda: all("executing" in told.of(handle.id) for handle in handles))
        huey.notify_interrupted_tasks()
        over.set()
    assert [told.of(handle.id)[:3] for handle in handles] == [["enqueued", "executing", "interrupted"]] * 2
    before = list(told)
    huey.notify_interrupted_tasks()
    assert list(told) == before
