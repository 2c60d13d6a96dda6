"""Calls of tasks and their handles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, assert_type

from huey import Huey, crontab
from huey.api import Result, ResultGroup

huey = Huey("app")


@huey.task(retries=3)
def add(a: int, b: int = 0) -> int:
    return a + b


@huey.task()
def note(text: str, *, loud: bool = False) -> None:
    print(text)


# -- what a call gives --------------------------------------------------------------------------------------------------------------------

assert_type(add(1, 2), Result[int])
assert_type(add(1), Result[int])
assert_type(add(a=1, b=2), Result[int])
assert_type(note("a", loud=True), Result[None])
assert_type(add.call_local(1, 2), int)

assert_type(add(1).get(), int | None)
assert_type(add(1)(), int | None)
assert_type(add(1).get(blocking=True), int)
assert_type(add(1).get(True, timeout=5), int)
assert_type(add(1)(blocking=True), int)
assert_type(add(1).get(blocking=False), int | None)
blocking: bool = bool(add)
assert_type(add(1).get(blocking=blocking), int | None)

assert_type(add.map([1, 2, 3]), ResultGroup[int])
assert_type(add.map([(1, 2), (3, 4)]).get(), list[int | None])
assert_type(add.map(range(3)).get(blocking=True), list[int])
assert_type(add.map(range(3))[0], int)
assert_type([result for result in add.map(range(3))], list[Result[int]])
assert_type(list(add.map(range(3)).as_completed()), list[int])

assert_type(add.schedule((1, 2), delay=3), Result[int])
assert_type(add.schedule((1,), eta=datetime.now()), Result[int])

# -- wrong calls --------------------------------------------------------------------------------------------------------------------------

add("1", 2)  # E
add(1, b="2")  # E
add()  # E
add(1, 2, 3)  # E
add(1, c=2)  # E
note("a", True)  # E
note(text=1)  # E
add(1).get(blocking=True).upper()  # E
add(1).get() + 1  # E
add.schedule((1, 2), dely=3)  # E
add.call_local("1")  # E

# -- options of a call --------------------------------------------------------------------------------------------------------------------

assert_type(add(1, 2, delay=3), Result[int])
assert_type(add(1, 2, delay=timedelta(minutes=1)), Result[int])
assert_type(add(1, 2, eta=datetime.now()), Result[int])
assert_type(add(1, 2, priority=5, retries=2, retry_delay=1.5), Result[int])
assert_type(add(1, b=2, expires=60), Result[int])
assert_type(add(1, id="order-7", timeout=2.5), Result[int])
assert_type(add(1, retry_backoff=2), Result[int])
add(1, 2, delay="3")  # E
add(1, 2, eta=3)  # E
add(1, 2, dely=3)  # E
add(1, 2, priority="high")  # E

# -- what huey passes ---------------------------------------------------------------------------------------------------------------------


@huey.task(context=True)
def with_task(path: str, task: Any = None) -> bytes:
    task.progress(0.5)
    return path.encode()


@huey.task(retries=2, retries_as_argument=True)
def with_retries(path: str, retries: int) -> int:
    return retries


assert_type(with_task("a"), Result[bytes])
assert_type(with_retries("a").get(True), int)
with_retries("a").get(True).upper()  # E

# -- coroutines --------------------------------------------------------------------------------------------------------------------------


@huey.task()
async def fetch(page: int) -> str:
    return str(page)


@huey.task(context=True)
async def fetch_with_task(page: int, task: Any = None) -> str:
    return str(page)


assert_type(fetch(1), Result[str])
assert_type(fetch(1).get(True), str)
assert_type(fetch_with_task(1), Result[str])
fetch("1")  # E


async def locally() -> None:
    assert_type(await fetch.call_local(1), str)
    assert_type(await fetch.aenqueue(1), Result[str])
    assert_type(await fetch.aenqueue(1, delay=5), Result[str])
    assert_type(await add.aenqueue(1, 2), Result[int])
    assert_type(await huey.aenqueue(add.s(1, 2)), Result[int])
    assert_type(await add(1, 2), int)
    assert_type(await add(1, 2).aget(timeout=3), int)
    assert_type(await add.map([1, 2]), list[int])
    async for value in add.map([1, 2]):
        assert_type(value, int)
    await fetch.aenqueue("1")  # E


# -- periodic tasks -----------------------------------------------------------------------------------------------------------------------


@huey.periodic_task(crontab(minute="0"))
def hourly(dry: bool = False) -> int:
    return 1


@huey.periodic_task("0 3 * * *")
def nightly() -> None: ...


assert_type(hourly(), int)
assert_type(hourly(dry=True), int)
assert_type(hourly.schedule(delay=5), Result[int])
hourly(dry="no", wet=1)  # E

# -- options of a task --------------------------------------------------------------------------------------------------------------------


@huey.task(retriess=3)  # E
def misspelt() -> None: ...


@huey.task(retries="3")  # E
def mistyped() -> None: ...


@huey.task(keep=timedelta(days=1), rate="5/s", rate_key="customer", unique=True, timeout=3, retry_on=(OSError, ValueError))
def many(customer: int) -> None: ...


@huey.task(typing=False)
def loose(a: int) -> str:
    return str(a)


assert_type(loose(1), Result[str])


def declare(func: Callable[[int], str]) -> Result[str]:
    return huey.task(name="declared")(func)(1)
