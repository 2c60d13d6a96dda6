"""The decorators for Django."""

from __future__ import annotations

from typing import assert_type

from huey.api import Result
from huey.djhuey import HUEY, db_periodic_task, db_task, on_commit_task, periodic_task, task


@task(retries=2)
def plain(number: int) -> int:
    return number


@db_task(retries=2)
def stored(number: int) -> int:
    return number


@on_commit_task(using="other", retries=2)
def later(number: int) -> int:
    return number


@periodic_task("0 * * * *")
def hourly() -> None: ...


@db_periodic_task("0 * * * *")
def nightly() -> None: ...


assert_type(plain(1), Result[int])
assert_type(stored(1), Result[int])
assert_type(later(1), Result[int])
assert_type(stored(1, delay=5).get(True), int)
assert_type(HUEY.enqueue(stored.s(1)), Result[int])
assert_type(HUEY.enqueue(plain.s(1)), Result[int])
plain("1")  # E
stored("1")  # E
later("1")  # E
stored.s("1")  # E


@db_task(retriess=2)  # E
def misspelt() -> None: ...
