"""``async def`` tasks, on threads and in an event loop: they end, fail, retry and stop as plain functions do."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from huey import Huey, MemoryHuey
from huey.exceptions import CancelExecution, RetryTask, TaskException, TaskLockedException, TaskTimeout
from huey.signals import SIGNAL_COMPLETE, SIGNAL_ERROR, SIGNAL_EXECUTING
from tests.support.helpers import wait_until
from tests.support.loops import serving

MakeHuey = Callable[..., Huey]


@pytest.fixture
def huey(make_huey: MakeHuey) -> Any:
    return make_huey()


@pytest.fixture(params=["thread", "async"])
def serve(request: pytest.FixtureRequest) -> Any:
    """Runs a consumer of that kind: ``with serve(huey):``."""
    return partial(serving, kind=request.param)


# -- like plain functions -----------------------------------------------------------------------------------------------------------------


def test_its_value_is_the_result(huey: Any, serve: Any) -> None:
    @huey.task()
    async def add(a: int, b: int = 2) -> int:
        await asyncio.sleep(0)
        return a + b

    with serve(huey):
        assert add(1).get(blocking=True, timeout=20) == 3
        assert add(1, b=4).get(blocking=True, timeout=20) == 5


def test_its_error_is_that_of_the_task(huey: Any, serve: Any) -> None:
    @huey.task()
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("no")

    with serve(huey), pytest.raises(TaskException, match="ZeroDivisionError") as raised:
        fail().get(blocking=True, timeout=20)

    assert "in fail" in raised.value.metadata["traceback"]
    assert "huey/" not in raised.value.metadata["traceback"]
    assert "asyncio/" not in raised.value.metadata["traceback"]


def test_it_is_tried_again(huey: Any, serve: Any) -> None:
    tries: list[int] = []

    @huey.task(retries=2, retries_as_argument=True)
    async def fail_twice(retries: int) -> str:
        tries.append(retries)
        if retries == 2:
            raise ValueError(retries)
        if len(tries) == 2:
            raise RetryTask
        return "at last"

    with serve(huey):
        assert fail_twice().get(blocking=True, timeout=20) == "at last"
    assert tries == [2, 1, 1]


def test_it_may_cancel_itself(huey: Any, serve: Any) -> None:
    @huey.task()
    async def give_up() -> None:
        raise CancelExecution("not today")

    with serve(huey), pytest.raises(TaskException, match="CancelExecution"):
        give_up().get(blocking=True, timeout=20)


def test_it_gets_its_task_and_hooks_and_handlers_see_it(huey: Any, serve: Any) -> None:
    seen: list[Any] = []
    huey.pre_execute("before")(lambda task: seen.append("before"))
    huey.post_execute("after")(lambda task, value, error: seen.append(("after", value)))
    huey.signal(SIGNAL_EXECUTING, SIGNAL_COMPLETE, SIGNAL_ERROR)(lambda signal, task, *error: seen.append(signal))

    @huey.task(context=True)
    async def name_it(task: Any) -> str:
        await asyncio.sleep(0)
        seen.append("body")
        return str(task.id)

    with serve(huey):
        handle = name_it()
        assert handle.id == handle.get(blocking=True, timeout=20)
        wait_until(lambda: SIGNAL_COMPLETE in seen)

    assert ["before", SIGNAL_EXECUTING, "body", ("after", handle.id), SIGNAL_COMPLETE] == seen


def test_a_pipeline_passes_values_through_coroutines(huey: Any, serve: Any) -> None:
    @huey.task()
    async def double(number: int) -> int:
        return 2 * number

    with serve(huey):
        assert huey.enqueue(double.s(1).then(double).then(double)).get(blocking=True, timeout=20) == [2, 4, 8]


def test_a_lock_and_a_context_are_held_until_the_coroutine_ends(huey: Any, serve: Any) -> None:
    steps: list[str] = []

    @contextlib.contextmanager
    def noting() -> Any:
        steps.append("enter")
        yield "given"
        steps.append("leave")

    class Reusable:
        def __enter__(self) -> Any:
            self.inner = noting()
            return self.inner.__enter__()

        def __exit__(self, *error: Any) -> Any:
            return self.inner.__exit__(*error)

    @huey.context_task(Reusable(), as_argument=True)
    async def inside(entered: str) -> str:
        await asyncio.sleep(0)
        steps.append(entered)
        return "held" if huey.lock_task("lock").is_locked() else "free"

    @huey.task()
    @huey.lock_task("lock")
    async def locked() -> bool:
        await asyncio.sleep(0)
        with pytest.raises(TaskLockedException):
            huey.lock_task("lock").acquire()
        return huey.lock_task("lock").is_locked()

    with serve(huey):
        assert locked().get(blocking=True, timeout=20)
        assert inside().get(blocking=True, timeout=20) == "free"
    assert steps == ["enter", "given", "leave"]


# -- its loop -----------------------------------------------------------------------------------------------------------------------------


def test_a_runner_keeps_its_loop_and_each_run_has_its_context(huey: Any, serve: Any) -> None:
    word: ContextVar[str] = ContextVar("word", default="none")
    loops: list[Any] = []

    @huey.task()
    async def set_it() -> str:
        loops.append(asyncio.get_running_loop())
        before = word.get()
        word.set("set")
        await asyncio.sleep(0)
        return before

    with serve(huey):
        assert [set_it().get(blocking=True, timeout=20) for _ in range(2)] == ["none", "none"]

    assert loops[0] is loops[1]
    wait_until(loops[0].is_closed)


def test_what_is_left_in_the_loop_is_cancelled_at_its_end(serve: Any) -> None:
    huey: Any = MemoryHuey()
    ended = threading.Event()
    left: list[Any] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @huey.task()
    async def leave() -> None:
        left.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    with serve(huey):
        leave().get(blocking=True, timeout=20)
        assert not ended.is_set()
    assert ended.wait(20)


# -- when it is to stop -------------------------------------------------------------------------------------------------------------------


def test_a_coroutine_past_its_limit_is_cancelled(huey: Any, serve: Any) -> None:
    seen: list[str] = []

    @huey.task(timeout=0.1)
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with serve(huey), pytest.raises(TaskException, match="TaskTimeout"):
        endless().get(blocking=True, timeout=20)

    assert seen == ["cancelled"]
    (row,) = huey.storage.find("failed")
    assert row.reason == "timeout"


def test_a_coroutine_may_clean_up_and_return(huey: Any, serve: Any) -> None:
    @huey.task(timeout=0.1)
    async def careful() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "cleaned up"
        return "never"

    with serve(huey):
        assert careful().get(blocking=True, timeout=20) == "cleaned up"


def test_a_revoked_coroutine_is_cancelled(huey: Any, serve: Any) -> None:
    has_begun = threading.Event()

    @huey.task(retries=3)
    async def endless() -> None:
        has_begun.set()
        await asyncio.Event().wait()

    with serve(huey):
        handle = endless()
        assert has_begun.wait(20)
        handle.revoke()
        wait_until(lambda: huey.storage.find("cancelled"))

    (row,) = huey.storage.find("cancelled")
    assert row.reason == "revoked"


def test_one_that_cancels_itself_fails_and_the_next_one_runs(huey: Any, serve: Any) -> None:
    @huey.task()
    async def cancel_itself(how: str) -> str:
        if how == "raise":
            raise asyncio.CancelledError
        if how == "exit":
            raise SystemExit(3)
        return how

    with serve(huey):
        with pytest.raises(TaskException, match="CancelledError"):
            cancel_itself("raise").get(blocking=True, timeout=20)
        with pytest.raises(TaskException, match="SystemExit"):
            cancel_itself("exit").get(blocking=True, timeout=20)
        assert cancel_itself("fine").get(blocking=True, timeout=20) == "fine"


def test_a_cooperative_coroutine_checks_its_time_itself(serve: Any) -> None:
    huey: Any = MemoryHuey()

    @huey.task(timeout=0.1, context=True)
    async def watch(task: Any) -> str:
        while not task.is_timed_out:
            await asyncio.sleep(0.01)
        return "in time"

    with serve(huey):
        assert watch().get(blocking=True, timeout=20) == "in time"


# -- without a consumer -------------------------------------------------------------------------------------------------------------------


async def twice(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail() -> None:
    await asyncio.sleep(0)
    raise TaskTimeout("mine")


def test_it_runs_to_its_end_without_a_consumer() -> None:
    immediate: Any = MemoryHuey(immediate=True)
    eager: Any = MemoryHuey(always_eager=True)
    by_hand: Any = MemoryHuey()

    assert immediate.task()(twice)(2).get() == 4
    assert eager.task()(twice)(2) == 4
    handle = by_hand.task()(twice)(2)
    task = by_hand.dequeue()
    assert task is not None
    assert by_hand.execute(task) == 4
    assert handle.get() == 4
    assert task.execute() == 4


def test_where_a_loop_runs_it_has_another_thread() -> None:
    immediate: Any = MemoryHuey(immediate=True)
    eager: Any = MemoryHuey(always_eager=True)
    threads: list[int] = []

    async def here(number: int) -> int:
        threads.append(threading.get_ident())
        return await twice(number)

    async def main() -> list[Any]:
        with pytest.raises(TaskTimeout, match="mine"):
            eager.task()(fail)()
        return [immediate.task()(here)(2).get(), eager.task()(here)(3)]

    assert asyncio.run(main()) == [4, 6]
    assert threading.get_ident() not in threads


def test_call_local_returns_the_coroutine() -> None:
    huey: Any = MemoryHuey()
    double = huey.task()(twice)
    hourly = huey.periodic_task("0 * * * *")(quiet)

    async def main() -> Any:
        return await double.call_local(4), await hourly()

    assert asyncio.run(main()) == (8, "quiet")


async def quiet() -> str:
    return "quiet"


@pytest.mark.parametrize("is_in_loop", [False, True])
def test_immediate_tasks_may_call_others_also_inside_a_loop(make_huey: Any, is_in_loop: bool) -> None:
    """The loop of the caller stands still meanwhile; the inner task must not wait for the thread that waits for it."""
    huey = make_huey(immediate=True)

    @huey.task()
    async def inner(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    @huey.task()
    async def outer(number: int) -> Any:
        await asyncio.sleep(0)
        return inner(number).get()

    async def page() -> Any:
        return outer(1).get()

    assert (asyncio.run(page()) if is_in_loop else outer(1).get()) == 2


def test_asyncio_is_loaded_by_the_first_run_only() -> None:
    """A program that only enqueues need not load it, nor a worker without coroutines."""
    code = (
        "import sys\n"
        "from huey import MemoryHuey\n"
        "huey = MemoryHuey(immediate=True)\n"
        "async def one(): return 1\n"
        "late, plain = huey.task()(one), huey.task()(lambda: 2)\n"
        "late.schedule(delay=60)\n"
        "assert plain().get() == 2\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert late().get() == 1\n"
        "assert 'asyncio' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
