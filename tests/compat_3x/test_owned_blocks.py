"""A batch and a transaction belong to the thread and the asyncio task that opened them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from huey import Huey, MemoryHuey, SqliteHuey
from huey.exceptions import ConfigurationError, HueyException
from huey.testing.contract.tools import Call


@pytest.fixture(params=["memory", "sqlite"])
def huey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Huey]:
    huey = MemoryHuey("app") if request.param == "memory" else SqliteHuey("app", filename=tmp_path / "app.db")
    yield huey
    huey.close()


@pytest.fixture
def send(huey: Huey) -> Callable[[Any], Any]:
    return huey.task(name="send")(lambda what: what)


def stored(huey: Huey) -> list[Any]:
    return sorted(task.args[0] for task in huey.pending())


def in_a_thread(act: Callable[[], object]) -> None:
    Call(act).answer()


def in_a_thread_with_this_context(act: Callable[[], object]) -> None:
    context = contextvars.copy_context()
    in_a_thread(lambda: context.run(act))


def by_executor(act: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, act).result(20)


CHILDREN: dict[str, Callable[[Callable[[], object]], Any]] = {
    "create_task": lambda act: asyncio.create_task(_as_coroutine(act)),
    "gather": lambda act: asyncio.gather(_as_coroutine(act)),
    "to_thread": lambda act: asyncio.to_thread(act),
    "wait_for": lambda act: asyncio.wait_for(_as_coroutine(act), 20),
    "a copied context": lambda act: _done(contextvars.copy_context().run(act)),
    "a thread with a copied context": lambda act: _done(in_a_thread_with_this_context(act)),
    "an executor": lambda act: _done(by_executor(act)),
    "call_soon": lambda act: _soon(act),
}
"""Ways of doing something by what inherits the context of a block."""


async def _as_coroutine(act: Callable[[], object]) -> None:
    await asyncio.sleep(0)
    act()


async def _done(_: object) -> None:
    pass


async def _soon(act: Callable[[], object]) -> None:
    future = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            future.set_result(act())
        except BaseException as error:
            future.set_exception(error)

    asyncio.get_running_loop().call_soon(call)
    await future


@pytest.mark.parametrize("how", CHILDREN)
def test_what_inherits_a_batch_enqueues_by_itself(huey: Huey, send: Callable[[Any], Any], how: str) -> None:
    async def main() -> None:
        with suppress(LookupError), huey.batch():
            send("mine")
            await CHILDREN[how](lambda: send("child's"))
            assert stored(huey) == ["child's"]
            raise LookupError

    asyncio.run(main())

    assert stored(huey) == ["child's"]


@pytest.mark.parametrize("how", CHILDREN)
def test_what_inherits_a_transaction_is_refused(tmp_path: Path, how: str) -> None:
    huey = SqliteHuey("app", filename=tmp_path / "app.db")
    send = huey.task(name="send")(lambda what: what)
    huey.storage.open()
    mine = sqlite3.connect(tmp_path / "app.db", check_same_thread=False)

    async def main() -> None:
        with huey.using(mine):
            send("mine")
            with pytest.raises(ConfigurationError, match="a transaction has one owner; nothing was enqueued"):
                await CHILDREN[how](lambda: send("child's"))
            mine.commit()

    asyncio.run(main())

    assert stored(huey) == ["mine"]
    mine.close()
    huey.close()


def test_a_batch_collects_only_calls_of_its_own_coroutine(huey: Huey, send: Callable[[Any], Any]) -> None:
    async def one(is_open: asyncio.Event, goes_on: asyncio.Event) -> None:
        with suppress(LookupError), huey.batch():
            send("collected")
            is_open.set()
            await goes_on.wait()
            raise LookupError

    async def main() -> None:
        is_open, goes_on = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(one(is_open, goes_on))
        await is_open.wait()
        send("other's")
        with huey.batch():
            send("in a batch of its own")
        goes_on.set()
        await first

    asyncio.run(main())

    assert stored(huey) == ["in a batch of its own", "other's"]


def test_a_child_that_outlives_the_block_enqueues_by_itself(huey: Huey, send: Callable[[Any], Any]) -> None:
    async def main() -> None:
        goes_on = asyncio.Event()

        async def child() -> None:
            await goes_on.wait()
            send("late")

        with huey.batch():
            running = asyncio.create_task(child())
            send("collected")
        goes_on.set()
        await running

    asyncio.run(main())

    assert stored(huey) == ["collected", "late"]


def test_a_forked_child_enqueues_by_itself(tmp_path: Path) -> None:
    huey = SqliteHuey("app", filename=tmp_path / "app.db")
    send = huey.task(name="send")(lambda what: what)
    with huey.batch():
        send("mine")
        pid = os.fork()
        if not pid:
            send("child's")
            os._exit(0)
        os.waitpid(pid, 0)
        assert stored(huey) == ["child's"]

    assert stored(huey) == ["child's", "mine"]
    huey.close()


def test_a_block_may_be_left_in_another_context(huey: Huey, send: Callable[[Any], Any]) -> None:
    """As fixtures and middlewares do."""
    batch = huey.batch()
    contextvars.copy_context().run(batch.__enter__)
    send("not in it")
    contextvars.copy_context().run(batch.__exit__, None, None, None)
    here = huey.batch()
    here.__enter__()
    send("in it")
    contextvars.copy_context().run(here.__exit__, None, None, None)
    send("after it")

    assert stored(huey) == ["after it", "in it", "not in it"]


def test_a_block_left_open_by_an_async_generator_is_closed(
    huey: Huey, send: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def generator() -> AsyncIterator[int]:
        with huey.batch():
            send("collected")
            yield 1

    async def main() -> None:
        async for _ in generator():
            break
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        send("after it")

    with caplog.at_level(logging.WARNING, "huey"):
        asyncio.run(main())

    assert stored(huey) == ["after it"]
    assert "1 calls were not enqueued" in caplog.text


def test_a_generator_ending_in_another_thread_leaves_no_batch(huey: Huey, send: Callable[[Any], Any]) -> None:
    def generator() -> Iterator[int]:
        with huey.batch():
            send("collected")
            yield 1

    waits = generator()
    next(waits)
    in_a_thread(waits.close)  # type: ignore[attr-defined]
    send("after it")
    with huey.batch():
        send("in the next")

    assert stored(huey) == ["after it", "in the next"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_a_block_that_is_given_up_in_any_way_is_over(huey: Huey, send: Callable[[Any], Any], error: type[BaseException]) -> None:
    with suppress(error), huey.batch():
        send("given up")
        raise error

    send("after it")

    assert stored(huey) == ["after it"]


def test_a_batch_is_of_all_queues(huey: Huey, send: Callable[[Any], Any]) -> None:
    mail = huey.task(name="mail", queue="mail")(lambda what: what)

    with huey.batch():
        send("a")
        mail("b")
        with pytest.raises(HueyException, match="inside batch"), huey.on("mail").batch():
            pass
        assert (stored(huey), stored(huey.on("mail"))) == ([], [])

    assert (stored(huey), stored(huey.on("mail"))) == (["a"], ["b"])


def test_batches_of_two_hueys_do_not_meet(huey: Huey, send: Callable[[Any], Any]) -> None:
    other = MemoryHuey("other")
    send_other = other.task(name="send")(lambda what: what)

    with suppress(LookupError), huey.batch():
        send("given up")
        send_other("by itself")
        with other.batch():
            send_other("collected")
            send("given up, too")
        raise LookupError

    assert (stored(huey), stored(other)) == ([], ["by itself", "collected"])


def test_a_transaction_is_of_all_queues(tmp_path: Path) -> None:
    huey = SqliteHuey("app", filename=tmp_path / "app.db", enqueue_timeout=0.2)
    mail = huey.task(name="mail", queue="mail")(lambda what: what)
    huey.storage.open()
    mine = sqlite3.connect(tmp_path / "app.db")

    with huey.using(mine):
        mine.execute("CREATE TABLE orders (id)")
        mine.execute("INSERT INTO orders VALUES (1)")
        mail("rolled back")
        mine.rollback()
        mine.execute("INSERT INTO huey_meta VALUES ('mine', '1')")
        mail("kept")
        mine.commit()

    assert stored(huey.on("mail")) == ["kept"]
    mine.close()
    huey.close()


def test_after_a_transaction_its_thread_enqueues_by_itself(tmp_path: Path) -> None:
    huey = SqliteHuey("app", filename=tmp_path / "app.db")
    send = huey.task(name="send")(lambda what: what)
    huey.storage.open()
    mine = sqlite3.connect(tmp_path / "app.db")
    using = huey.using(mine)
    using.__enter__()
    send("rolled back")
    mine.rollback()
    contextvars.copy_context().run(using.__exit__, None, None, None)

    send("by itself")

    assert stored(huey) == ["by itself"]
    mine.close()
    huey.close()


def test_a_call_made_while_a_chunk_is_encoded_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the chunks of a bulk call wait for the disk together."""
    from huey.storage.sqlite import syncing

    huey = SqliteHuey("app", filename=tmp_path / "app.db")
    send = huey.task(name="send")(lambda what: what)
    huey.storage.open()
    syncs: list[int] = []
    seen: list[int] = []
    monkeypatch.setattr(syncing, "to_disk", syncs.append)

    class Sends:
        def __reduce__(self) -> Any:
            before = len(syncs)
            send("inside")
            seen.append(len(syncs) - before)
            return str, ("outside",)

    huey.enqueue_many([*(send.s(n) for n in range(1500)), send.s(Sends())])

    assert seen == [1]
    huey.close()
