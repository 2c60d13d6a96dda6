"""huey from coroutines: calls and waits that leave the caller's event loop free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from huey import Huey, chord, group
from huey.asyncio import lifespan
from huey.client import awaitable
from huey.contrib.asyncio import aget_result, aget_result_group
from huey.exceptions import HopelessWait, RateLimitExceeded, ResultTimeout, StorageUnavailable, TaskException, TaskLockedException
from huey.storage.memory import MemoryStorage
from tests.support.helpers import drain, running

LONG_S = 20.0


@pytest.fixture(autouse=True)
def _no_threads_are_left() -> Iterator[None]:
    yield
    awaitable.stop_threads()


@pytest.fixture
def consumer(huey: Huey) -> Iterator[None]:
    with running(huey, workers=4):
        yield


@pytest.fixture
def add(huey: Huey) -> Any:
    @huey.task()
    def add(a: int, b: int) -> int:
        return a + b

    return add


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), LONG_S))


async def ticks_of(waiting: Awaitable[Any]) -> tuple[Any, int]:
    """What *waiting* gives, and how often the loop went round meanwhile."""
    rounds = 0
    task = asyncio.ensure_future(waiting)
    while not task.done():
        await asyncio.sleep(0.001)
        rounds += 1
    return await task, rounds


# -- enqueue ------------------------------------------------------------------------------------------------------------------------------


def test_a_call_can_be_awaited(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        return await add.aenqueue(1, 2), await huey.aenqueue(add.s(3, 4))

    one, other = run(main)
    drain(huey)

    assert (one.get(), other.get()) == (3, 7)


def test_options_of_a_call_are_taken(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        return await add.aenqueue(1, 2, priority=5, delay=60)

    result = run(main)

    assert (result.task.priority, result.status) == (5, "scheduled")


def test_wrong_arguments_are_refused_where_they_are_given(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        await add.aenqueue(1)

    with pytest.raises(TypeError, match="lacks an argument"):
        run(main)
    assert huey.pending_count() == 0


def test_a_call_that_waits_for_the_store_leaves_the_loop_free(huey: Huey, add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue = huey.storage.enqueue
    monkeypatch.setattr(huey.storage, "enqueue", lambda *args, **options: (time.sleep(0.2), enqueue(*args, **options))[1])

    _, rounds = run(lambda: ticks_of(add.aenqueue(1, 2)))

    assert rounds > 20


def test_workflows_are_enqueued_from_coroutines(huey: Huey, add: Any, consumer: None) -> None:
    total = huey.task(name="total")(sum)

    async def main() -> Any:
        grouped = await huey.aenqueue(group([add.s(n, n) for n in range(3)]))
        joined = await huey.aenqueue(chord([add.s(n, n) for n in range(3)], total))
        return await grouped, await joined.callback

    assert run(main) == ([0, 2, 4], 6)


# -- results ------------------------------------------------------------------------------------------------------------------------------


def test_a_result_can_be_awaited(huey: Huey, add: Any, consumer: None) -> None:
    async def main() -> Any:
        result = await add.aenqueue(1, 2)
        return await result, await result, result.get()

    assert run(main) == (3, 3, 3)


def test_the_loop_is_free_while_a_task_runs(huey: Huey, consumer: None) -> None:
    slow = huey.task()(lambda: time.sleep(0.4) or 1)

    async def main() -> Any:
        return await ticks_of(slow().aget(timeout=LONG_S))

    value, rounds = run(main)
    assert value == 1
    assert rounds > 50


def test_an_error_is_raised(huey: Huey, consumer: None) -> None:
    @huey.task()
    def fail() -> None:
        raise ValueError("no")

    async def main() -> Any:
        await fail()

    with pytest.raises(TaskException, match="no"):
        run(main)


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_a_task_that_returns_none_ends_the_wait(huey: Huey, consumer: None, seconds: float) -> None:
    nothing = huey.task()(lambda: time.sleep(seconds))

    async def main() -> Any:
        return await nothing()

    assert run(main) is None


@pytest.mark.parametrize("timeout", [0, 0.01, 0.2])
def test_a_wait_ends_at_its_time(huey: Huey, add: Any, timeout: float) -> None:
    async def main() -> Any:
        await add(1, 2).aget(timeout=timeout)

    with pytest.raises(ResultTimeout, match=rf"no result of .*add .* within {timeout} s: "):
        run(main)


def test_a_cancelled_task_ends_a_wait_without_limit(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        result = add(1, 2)
        waiting = asyncio.ensure_future(result.aget())
        await asyncio.sleep(0.1)
        result.revoke()
        await asyncio.to_thread(drain, huey)
        await waiting

    with pytest.raises(ResultTimeout, match="will come: "):
        run(main)


def test_a_wait_that_is_cancelled_leaves_the_result(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        result = add(1, 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(result.aget(), 0.2)
        await asyncio.to_thread(drain, huey)
        return await result.aget(timeout=LONG_S)

    assert run(main) == 3


def test_preserve_leaves_it_to_others(huey: Huey, add: Any, consumer: None) -> None:
    async def main() -> Any:
        result = add(1, 2)
        return await result.aget(preserve=True), await huey_result(result.id)

    async def huey_result(id: str) -> Any:
        return await asyncio.to_thread(huey.result, id, True, 5)

    assert run(main) == (3, 3)


def test_wrong_arguments_of_a_wait_are_refused(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        await add(1, 2).aget(timeout="soon")

    with pytest.raises((TypeError, ValueError), match="timeout"):
        run(main)


def test_many_results_are_awaited_by_one_thread(huey: Huey, add: Any) -> None:
    before = set(threading.enumerate())

    async def main() -> Any:
        results = add.map([(n, n) for n in range(1100)])
        waiting = asyncio.ensure_future(results.aget(timeout=LONG_S))
        await asyncio.sleep(0.3)
        more = [thread.name for thread in threading.enumerate() if thread not in before and not thread.name.startswith("Calls")]
        await asyncio.to_thread(drain, huey)
        return more, await waiting

    threads, values = run(main)
    assert (threads, values) == (["Results"], [2 * n for n in range(1100)])


def test_results_come_in_the_order_of_their_ends(huey: Huey, consumer: None) -> None:
    wait = huey.task(name="wait")(lambda seconds: time.sleep(seconds) or seconds)

    async def main() -> Any:
        results = wait.map([0.6, 0.3, 0.0])
        await asyncio.sleep(0)
        return [value async for value in results]

    assert run(main) == [0.0, 0.3, 0.6]


def test_a_group_is_awaited_in_order_and_an_empty_one_too(huey: Huey, add: Any, consumer: None) -> None:
    async def main() -> Any:
        return await add.map([(n, 1) for n in range(5)]), await add.map([]), [value async for value in add.map([])]

    assert run(main) == ([1, 2, 3, 4, 5], [], [])


def test_the_first_failure_of_a_group_ends_its_wait(huey: Huey) -> None:
    @huey.task()
    def fail_if(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        return number

    async def main() -> Any:
        results = fail_if.map([0, 1])
        await asyncio.to_thread(drain, huey)
        await results.aget(timeout=LONG_S)

    with pytest.raises(TaskException, match="one"):
        run(main)


def test_an_outage_is_told_to_who_awaits(huey: Huey, add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise StorageUnavailable("gone")

    async def main() -> Any:
        result = add(1, 2)
        waiting = asyncio.ensure_future(result.aget())
        await asyncio.sleep(0.2)
        for verb in ("wait", "take", "get"):
            monkeypatch.setattr(huey.storage, verb, refuse)
        await waiting

    with pytest.raises(StorageUnavailable, match="gone"):
        run(main)


def test_two_loops_await_at_the_same_time(huey: Huey, add: Any) -> None:
    found: list[int] = []

    async def main(number: int) -> None:
        found.append(await add(number, 1).aget(timeout=LONG_S))

    threads = [threading.Thread(target=asyncio.run, args=(main(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LONG_S
    while len(found) < 3 and time.monotonic() < deadline:
        drain(huey)
    for thread in threads:
        thread.join(LONG_S)

    assert sorted(found) == [1, 2, 3]


def test_a_coroutine_whose_only_worker_waits_for_it_is_refused(huey: Huey, add: Any) -> None:
    @huey.task()
    async def outer() -> Any:
        return await add(1, 2)

    with running(huey, workers=1), pytest.raises(TaskException, match=HopelessWait.__name__):
        outer().get(True, timeout=LONG_S)


def test_a_coroutine_may_await_another_task(huey: Huey, add: Any, consumer: None) -> None:
    @huey.task()
    async def outer(n: int) -> Any:
        return await (await add.aenqueue(n, 1)) + 1

    assert outer(1).get(True, timeout=LONG_S) == 3


def test_threads_that_were_stopped_are_started_again(huey: Huey, add: Any, consumer: None) -> None:
    async def main() -> Any:
        first = await add(1, 2)
        awaitable.stop_threads()
        return first, await add(3, 4)

    assert run(main) == (3, 7)


# -- batches, events, locks ---------------------------------------------------------------------------------------------------------------


def test_a_batch_of_a_coroutine_is_enqueued_at_its_end(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        async with huey.abatch():
            first = await add.aenqueue(1, 2)
            second = add(3, 4)
            before = await asyncio.to_thread(huey.pending_count)
        return before, huey.pending_count(), first, second

    before, after, first, second = run(main)
    drain(huey)

    assert (before, after, first.get(), second.get()) == (0, 2, 3, 7)


def test_a_batch_that_fails_enqueues_nothing(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        async with huey.abatch():
            await add.aenqueue(1, 2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(main)
    assert huey.pending_count() == 0


def test_a_batch_collects_no_calls_of_other_coroutines(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        async with huey.abatch():
            await asyncio.gather(add.aenqueue(1, 2), asyncio.create_task(add.aenqueue(3, 4)))
            return await asyncio.to_thread(huey.pending_count)

    assert run(main) == 2


def test_events_are_followed(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        found: list[str] = []
        following = huey.aevents(timeout=LONG_S)
        first = asyncio.ensure_future(anext(following))
        while not first.done():
            await add.aenqueue(1, 2)
            await asyncio.sleep(0.05)
        found.append(await first)
        await following.aclose()  # type: ignore[attr-defined]
        return found

    (event,) = run(main)
    assert "enqueued" in event


def test_following_ends_at_its_time(huey: Huey) -> None:
    async def main() -> Any:
        return [event async for event in huey.aevents(timeout=0.05)]

    assert run(main) == []


def test_a_lock_is_held_by_one_coroutine(huey: Huey) -> None:
    lock = huey.lock_task("report")

    async def main() -> Any:
        async with lock as held:
            token = held.token
            with pytest.raises(TaskLockedException):
                await asyncio.create_task(enter())
            is_held = await asyncio.to_thread(huey.is_locked, "report")
        return token, is_held, await asyncio.to_thread(huey.is_locked, "report"), await enter()

    async def enter() -> str:
        async with huey.lock_task("report"):
            return "entered"

    token, is_held, is_held_after, entered = run(main)
    assert (token is not None, is_held, is_held_after, entered) == (True, True, False, "entered")


def test_a_lock_of_a_coroutine_is_freed_though_its_block_raises(huey: Huey) -> None:
    async def main() -> Any:
        async with huey.lock_task("report"):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(main)
    assert not huey.is_locked("report")


def test_a_rate_is_used_up_by_coroutines(huey: Huey) -> None:
    async def main() -> Any:
        async with huey.rate_limit("mail", 1, 3600):
            pass
        async with huey.rate_limit("mail", 1, 3600):
            pass

    with pytest.raises(RateLimitExceeded):
        run(main)


def test_a_coroutine_task_takes_a_lock_for_its_run(huey: Huey, consumer: None) -> None:
    @huey.task()
    async def work() -> bool:
        async with huey.lock_task("report"):
            return await asyncio.to_thread(huey.is_locked, "report")

    assert work().get(True, timeout=LONG_S) is True
    assert not huey.is_locked("report")


# -- names of 3.x, and applications -------------------------------------------------------------------------------------------------------


def test_the_names_of_3x_work(huey: Huey, add: Any, consumer: None) -> None:
    async def main() -> Any:
        return await aget_result(add(1, 2)), await aget_result_group(add.map([(1, 1)]), timeout=LONG_S)

    assert run(main) == (3, [2])


def test_the_timeout_of_3x_looks_once_at_0(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        await aget_result(add(1, 2), timeout=0)

    with pytest.raises(ResultTimeout):
        run(main)


def test_an_application_may_run_a_consumer_for_its_lifetime(huey: Huey, add: Any) -> None:
    async def main() -> Any:
        async with lifespan(huey, worker=True, workers=2)(None):
            return await add(1, 2).aget(timeout=LONG_S)

    assert run(main) == 3
    assert add(1, 2).get() is None


def test_without_a_worker_it_only_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    huey, closed = Huey("app", storage=MemoryStorage("app")), list[int]()
    monkeypatch.setattr(huey, "close", lambda: closed.append(1))

    async def main() -> Any:
        async with lifespan(huey)(None):
            assert closed == []

    run(main)
    assert closed == [1]
