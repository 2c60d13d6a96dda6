"""Tasks that are not enqueued yet, and what is made of them: pipelines, groups, chords, flows."""

from __future__ import annotations

from typing import Any, assert_type

from huey import Error, Huey, chord, group
from huey.api import ChordResult, Result, ResultGroup, Task

huey = Huey("app")


@huey.task()
def fetch(page: int) -> str:
    return str(page)


@huey.task()
def count(text: str) -> int:
    return len(text)


@huey.task()
def total(numbers: list[int]) -> int:
    return sum(numbers)


@huey.task()
def difference(a: int, b: int) -> int:
    return a - b


@huey.task()
def clean() -> None: ...


@huey.task()
def report(outcome: str | Error) -> None: ...


# -- tasks --------------------------------------------------------------------------------------------------------------------------------

assert_type(fetch.s(1), Task[str])
assert_type(fetch.s(page=1, priority=3, delay=5), Task[str])
assert_type(fetch.s(), Task[str])
assert_type(huey.enqueue(fetch.s(1)), Result[str])
assert_type(huey.enqueue(fetch.s(1)).get(True), str)
assert_type(huey.enqueue_many(fetch.s(n) for n in range(3)), ResultGroup[str])
fetch.s("1")  # E
fetch.s(1, 2)  # E
fetch.s(pages=1)  # E
fetch.s(1, delay="3")  # E
huey.enqueue(fetch)  # E
huey.enqueue(fetch(1))  # E

# -- pipelines, groups, chords ------------------------------------------------------------------------------------------------------------

assert_type(huey.enqueue(fetch.s(1).then(count)), ResultGroup[Any])
assert_type(huey.enqueue(fetch.s(1).then(count).then(difference, 3)), ResultGroup[Any])
assert_type(huey.enqueue(fetch.s(1).error(report)), Result[str])
assert_type(huey.enqueue(group([fetch.s(1), count.s("a")])), ResultGroup[Any])
assert_type(huey.enqueue(chord([difference.s(1, 2), count.s("a")], total)), ChordResult)
assert_type(huey.enqueue(group([count.s("a")]).then(total)), ChordResult)

# -- flows --------------------------------------------------------------------------------------------------------------------------------

flow = huey.flow("import")
page = flow.add(fetch.s(1))
size = flow.add(count.s(page))
flow.add(difference.s(size, 2))
flow.add(difference.s(size, b=flow.add(count.s("abc"))))
flow.add(total.s([size, size]))
flow.add(report.s(page), run_if="always")
flow.add(clean.s(), after=[page, size])
done = flow.add(clean.s())
flow.add(clean.s(), after=[done])
flow.add(count.s(size))  # E
flow.add(total.s([page, size]))  # E
flow.add(total.s(size))  # E
flow.add(difference.s(page, 1))  # E
flow.add(difference.s(1, b=page))  # E
flow.add(report.s(page), run_if="allways")  # E
flow.add(fetch)  # E
flow.enqueue().cancel()
flow.enqueue().stop()  # E
