"""A worker with an event loop: many coroutines at a time, plain functions beside it, and bodies that hold the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey, MemoryHuey
from huey.consumer.process_table import PLAIN_THREADS
from huey.engine.scoreboard import Scoreboard
from huey.runtime.clock import FOREVER, system_clock
from tests.support.helpers import wait_until
from tests.support.loops import serving

MakeHuey = Callable[..., Huey]


@pytest.fixture
def huey(make_huey: MakeHuey) -> Any:
    return make_huey()


def values(handles: list[Any]) -> list[Any]:
    return [handle.get(blocking=True, timeout=20) for handle in handles]


def test_coroutines_run_side_by_side(huey: Any) -> None:
    here: list[int] = []

    @huey.task()
    async def meet(number: int) -> int:
        here.append(number)
        while len(here) < 50:
            await asyncio.sleep(0.001)
        return number

    with serving(huey, 50):
        assert [*range(50)] == values([meet(number) for number in range(50)])


def test_no_more_run_than_there_are_workers(huey: Any) -> None:
    now, most = [0], [0]

    @huey.task()
    async def count() -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.001)
        now[0] -= 1

    @huey.task()
    def plain() -> str:
        return threading.current_thread().name

    with serving(huey, 3):
        values([count() for _ in range(60)])
        assert most[0] == 3
        assert plain().get(blocking=True, timeout=20).startswith("Plain")


def test_plain_functions_never_run_in_the_loop(huey: Any) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @huey.task()
    def block() -> str:
        has_begun.set()
        assert may_end.wait(20)
        return "plain"

    @huey.task()
    async def quick() -> str:
        return threading.current_thread().name

    with serving(huey, 4):
        blocked = block()
        assert has_begun.wait(20)
        assert quick().get(blocking=True, timeout=20) == "Event loop"
        may_end.set()
        assert blocked.get(blocking=True, timeout=20) == "plain"


def test_plain_functions_that_wait_delay_no_coroutine(huey: Any) -> None:
    """Their finishes do not wait either, nor their turn at a free thread."""
    may_end = threading.Event()

    @huey.task()
    def block(number: int) -> int:
        assert may_end.wait(20)
        return number

    @huey.task()
    async def quick() -> str:
        return "quick"

    with serving(huey, 200):
        blocked = [block(number) for number in range(3 * PLAIN_THREADS)]
        wait_until(lambda: huey.storage.counts().running == 3 * PLAIN_THREADS)
        begun = time.monotonic()
        assert [quick().get(blocking=True, timeout=20) for _ in range(10)] == ["quick"] * 10
        took = time.monotonic() - begun
        may_end.set()
        assert [*range(3 * PLAIN_THREADS)] == values(blocked)
    assert took < 3


def test_hooks_and_handlers_are_called_outside_the_loop(huey: Any) -> None:
    threads: set[str] = set()
    huey.pre_execute("before")(lambda task: threads.add(threading.current_thread().name))
    huey.post_execute("after")(lambda task, value, error: threads.add(threading.current_thread().name))

    @huey.task(context=True)
    async def quick(task: Any) -> str:
        return str(task.id)

    with serving(huey, 10):
        handles = [quick() for _ in range(40)]
        assert [handle.id for handle in handles] == values(handles)
    assert {"Before", "After"} == {name.partition("_")[0] for name in threads}


def test_what_on_startup_sets_reaches_each_run(huey: Any) -> None:
    from contextvars import ContextVar

    word: ContextVar[str] = ContextVar("word", default="none")
    huey.on_startup("word")(lambda: word.set("started"))

    @huey.task()
    async def read() -> str:
        before = word.get()
        word.set("changed")
        return before

    with serving(huey, 2):
        assert values([read() for _ in range(3)]) == ["started"] * 3


def test_a_replaced_execute_runs_coroutines_in_threads() -> None:
    ran: list[str] = []

    class Traced(MemoryHuey):
        def _execute(self, task: Any, timestamp: Any = None) -> Any:
            ran.append(threading.current_thread().name)
            return super()._execute(task, timestamp)

    huey: Any = Traced()

    @huey.task()
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    with serving(huey, 2):
        assert values([double(1), double(2)]) == [2, 4]
    assert all(name.startswith("Plain") for name in ran)


def test_a_task_that_ends_the_loop_ends_no_other(huey: Any) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    @huey.task()
    async def start_it() -> str:
        started = asyncio.get_running_loop().create_task(leave())
        while not started.done():
            await asyncio.sleep(0.001)
        return "fine" if isinstance(started.exception(), SystemExit) else "not so"

    with serving(huey, 2):
        assert start_it().get(blocking=True, timeout=20) == "fine"
        assert start_it().get(blocking=True, timeout=20) == "fine"


def test_one_that_swallows_its_cancellation_goes_on(huey: Any) -> None:
    """The consumer command kills its worker after a while; here it can only be asked."""
    asked, may_end = threading.Event(), threading.Event()

    @huey.task(timeout=0.05)
    async def stubborn() -> str:
        while not may_end.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                asked.set()
        return "in the end"

    @huey.task()
    async def other() -> str:
        return "fine"

    with serving(huey, 2):
        handle = stubborn()
        assert asked.wait(20)
        assert other().get(blocking=True, timeout=20) == "fine"
        may_end.set()
        assert handle.get(blocking=True, timeout=20) == "in the end"


def test_one_that_holds_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    huey: Any = MemoryHuey()
    may_end = threading.Event()

    @huey.task(name="app.hold")
    async def hold() -> None:
        assert may_end.wait(20)

    @huey.task()
    async def other() -> str:
        return "fine"

    with serving(huey, 2), caplog.at_level(logging.WARNING, "huey.consumer"):
        handle = hold()
        wait_until(lambda: "holds the event loop" in caplog.text)
        waiting = other()
        may_end.set()
        assert waiting.get(blocking=True, timeout=20) == "fine"
        wait_until(lambda: "was held for" in caplog.text)

    (named,) = [record.getMessage() for record in caplog.records if "holds" in record.getMessage()]
    assert f"task app.hold {handle.id}" in named
    assert f"{__file__}:" in named
    assert "in hold" in named


def test_many_that_compute_a_little_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    huey: Any = MemoryHuey()

    @huey.task()
    async def compute() -> None:
        end = time.monotonic() + 0.004
        while time.monotonic() < end:
            await asyncio.sleep(0)

    with serving(huey, 100), caplog.at_level(logging.WARNING, "huey.consumer"):
        values([compute() for _ in range(100)])
    assert "holds the event loop" not in caplog.text


# -- what the supervisor reads ------------------------------------------------------------------------------------------------------------


def test_the_board_shows_the_first_limit(huey: Any) -> None:
    may_end = threading.Event()

    @huey.task()
    async def wait() -> None:
        while not may_end.is_set():
            await asyncio.sleep(0.002)

    with serving(huey, 4) as consumer:
        board = consumer.scoreboard
        handles = [wait(), wait(timeout=100)]
        wait_until(lambda: board.has_limits)
        now = system_clock.monotonic()
        assert not board.overdue(now + 90_000_000)
        (late,) = board.overdue(now + 200_000_000)
        assert handles[1].id == late.id
        may_end.set()
        values(handles)
        wait_until(lambda: not board.has_limits)


def test_the_board_shows_whether_the_loop_answers() -> None:
    huey: Any = MemoryHuey()
    may_end = threading.Event()

    @huey.task()
    async def hold() -> None:
        assert may_end.wait(20)

    with serving(huey, 2) as consumer:
        handle, board = hold(), consumer.scoreboard
        wait_until(lambda: board.running())
        last = system_clock.monotonic()
        assert not board.is_loop_held(last)
        assert board.is_loop_held(last + 3_500_000)
        may_end.set()
        handle.get(blocking=True, timeout=20)


def test_a_board_without_a_first_limit_is_read_slot_by_slot() -> None:
    board = Scoreboard(2)
    board.set_running(1, "a", 1, 1, 5)
    assert board.has_limits
    assert [task.id for task in board.overdue(100_000_000)] == ["a"]
    board.set_first_limit(FOREVER)
    assert not board.has_limits
    assert not board.overdue(100_000_000)
    assert not board.is_loop_held(100_000_000)
    board.close()
