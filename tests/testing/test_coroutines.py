"""Tasks that are coroutines, in a test: their sleeps move the clock, and they may be drained inside an ``async def`` test."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from huey import Huey
from huey.exceptions import TaskTimeout
from huey.testing.memory_queue import MemoryQueue


def passed(queue: MemoryQueue, begin: float) -> float:
    """Seconds that the clock has moved since *begin*."""
    return queue.clock.monotonic() / 1_000_000 - begin


@pytest.fixture
def begin(queue: MemoryQueue) -> float:
    return queue.clock.monotonic() / 1_000_000


def test_sleeps_move_the_clock(huey: Huey, queue: MemoryQueue, begin: float) -> None:
    @huey.task()
    async def sleeps() -> str:
        await asyncio.sleep(3600)
        return "rested"

    sleeps()

    assert [run.value for run in queue.drain()] == ["rested"]
    assert passed(queue, begin) == pytest.approx(3600)


def test_sleeps_at_the_same_time_are_not_added(huey: Huey, queue: MemoryQueue, begin: float) -> None:
    order: list[int] = []

    async def sleep(seconds: int) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    @huey.task()
    async def sleeps() -> None:
        await asyncio.gather(sleep(30), sleep(10), sleep(20))

    sleeps()
    queue.drain()

    assert order == [10, 20, 30]
    assert passed(queue, begin) == pytest.approx(30)


def test_a_timeout_of_asyncio_passes(huey: Huey, queue: MemoryQueue, begin: float) -> None:
    @huey.task()
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(60)
        except TimeoutError:
            return "gave up"
        return "slept"

    gives_up()

    assert [run.value for run in queue.drain()] == ["gave up"]
    assert passed(queue, begin) == pytest.approx(5)


def test_a_coroutine_is_cancelled_at_its_limit(huey: Huey, queue: MemoryQueue, begin: float) -> None:
    cleaned: list[float] = []

    @huey.task(timeout=10)
    async def sleeps() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(passed(queue, begin))

    sleeps()
    [run] = queue.drain()

    assert (run.reason, type(run.error)) == ("timeout", TaskTimeout)
    assert cleaned == [pytest.approx(10)]


def test_a_thread_that_is_waited_for_takes_its_time(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task()
    async def waits() -> str:
        may_end = threading.Event()
        asyncio.get_running_loop().call_soon(lambda: threading.Timer(0.02, may_end.set).start())
        async with asyncio.timeout(3600):
            await asyncio.to_thread(may_end.wait)
        return "ended"

    waits()

    assert [run.value for run in queue.drain()] == ["ended"]


def test_a_socket_that_is_waited_for_takes_its_time(huey: Huey, queue: MemoryQueue) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    @huey.task()
    async def asks() -> str:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(3600):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
        return line.decode()

    asks()

    assert [run.value for run in queue.drain()] == ["hello\n"]


def test_drain_works_inside_a_coroutine(huey: Huey, queue: MemoryQueue, begin: float) -> None:
    @huey.task()
    async def sleeps() -> None:
        await asyncio.sleep(3600)

    huey.task(name="plain")(lambda: asyncio.run(asyncio.sleep(0, "run")))()
    sleeps()

    async def test() -> list[object]:
        await asyncio.sleep(0)
        values = [run.value for run in queue.drain()]
        await asyncio.sleep(0)
        return values

    assert asyncio.run(test()) == ["run", None]
    assert passed(queue, begin) == pytest.approx(3600)


def test_no_loop_is_left_open(huey: Huey, queue: MemoryQueue) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    @huey.task()
    async def looks() -> None:
        loops.append(asyncio.get_running_loop())
        assert loops[0].time() == queue.clock.monotonic() / 1_000_000

    looks()
    before = time.sleep
    [run] = queue.drain()

    assert (run.state, loops[0].is_closed(), time.sleep) == ("succeeded", True, before)
