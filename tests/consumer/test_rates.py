"""Rates of tasks, from the decorator to the consumer: no more start in a window than the rate allows, and none starts in vain."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from huey import Huey
from huey.exceptions import RetryTask
from tests.support.helpers import running, wait_until

MakeHuey = Callable[..., Huey]
WINDOW = 0.1


def test_as_many_bodies_start_as_there_are_tasks(make_huey: MakeHuey) -> None:
    huey, other = make_huey(), make_huey()
    started: list[tuple[str, float]] = []

    def body(customer: str, number: int) -> None:
        started.append((customer, time.time()))

    work = huey.task(name="work", rate=(20, WINDOW), rate_key="customer")(body)
    other.task(name="work")(body)
    before = time.time()
    work.map([(customer, number) for number in range(150) for customer in ("ann", "bob")])

    with running(huey, workers=4), running(other if other.storage.features.is_shared else huey, workers=2):
        wait_until(lambda: len(started) == 300 and huey.inspector.counts().running == 0)

    assert Counter(customer for customer, _ in started) == {"ann": 150, "bob": 150}
    for customer in ("ann", "bob"):
        times = sorted(at for who, at in started if who == customer)
        windows = [int(at / WINDOW) - int(before / WINDOW) + 1 for at in times]
        assert all(number <= 20 * passed for number, passed in enumerate(windows, 1))
    stats = huey.storage.stats(0)
    assert (sum(stat.succeeded for stat in stats), sum(stat.retried for stat in stats)) == (300, 0)


def test_each_run_of_a_task_counts(huey: Huey) -> None:
    started: list[int] = []

    @huey.task(rate="2/d", retries=3)
    def work(number: int) -> None:
        started.append(number)
        if number == 0:
            raise RetryTask

    work.map([0, 1, 2])
    with running(huey):
        wait_until(lambda: len(started) == 2 and huey.inspector.counts().running == 0)

    assert huey.inspector.counts().blocked == 2


def test_a_worker_that_waits_wakes_when_the_next_window_begins(huey: Huey) -> None:
    started: list[float] = []

    @huey.task(rate=(1, 0.5))
    def work(number: int) -> None:
        started.append(time.time())

    with running(huey):
        before = time.time()
        work.map([1, 2, 3])
        wait_until(lambda: len(started) == 3)

    assert all(int(at / 0.5) >= int(before / 0.5) + n for n, at in enumerate(started))


def test_a_rate_and_a_concurrency_limit_hold_together(huey: Huey) -> None:
    gauge: list[int] = [0, 0]

    @huey.task(concurrency=2, key="who", rate=(5, WINDOW), rate_key="who")
    def work(who: str, number: int) -> None:
        gauge[0] += 1
        gauge[1] = max(gauge)
        gauge[0] -= 1

    work.map([("ann", number) for number in range(20)])
    with running(huey, workers=6):
        wait_until(lambda: sum(stat.succeeded for stat in huey.storage.stats(0)) == 20)

    assert gauge[1] <= 2


def test_a_periodic_task_may_have_a_rate(huey: Huey) -> None:
    ran: list[int] = []

    @huey.periodic_task(lambda minute: True, rate="1/d")
    def tick() -> None:
        ran.append(1)

    with running(huey, periodic=True):
        wait_until(lambda: ran)


def test_in_immediate_mode_what_is_over_the_rate_waits(make_huey: MakeHuey) -> None:
    huey = make_huey(immediate=True)
    ran: list[Any] = []
    work = huey.task(rate="2/d")(ran.append)

    for number in range(4):
        work(number)

    assert ran == [0, 1]
    assert huey.inspector.counts().blocked == 2
