"""What was decided where 3.5.4 and the promises of this release differ: results, values, ids. One test for each, by its number."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import RateLimitExceeded, RetryTask, TaskException, TaskLockedException
from huey.testing.clock import FakeClock
from tests.support.helpers import running

MakeHuey = Callable[..., Huey]


def drain(huey: Huey) -> None:
    while (step := huey.dequeue()) is not None:
        huey.execute(step)


@pytest.mark.parametrize(
    "error",
    [RetryTask(delay=60), RetryTask(), TaskLockedException("held"), RateLimitExceeded("r", 60, True), RateLimitExceeded("r", 60, False)],
    ids=["asks for a time", "asks", "lock", "free limit", "limit"],
)
def test_c40_a_run_that_only_waits_is_no_failure(make_huey: MakeHuey, clock: FakeClock, error: Exception) -> None:
    huey = make_huey(clock=clock)

    @huey.task(retries=3, retry_delay=60)
    def work() -> str:
        if not ran:
            ran.append(1)
            raise error
        return "done"

    ran: list[int] = []
    handle = work()
    drain(huey)
    assert (len(ran), handle.get(), handle.is_ready(), huey.result_count()) == (1, None, False, 0)
    clock.forward(61)
    drain(huey)

    assert handle.get() == "done"


def test_c40_neither_is_it_while_it_runs_again(huey: Huey) -> None:
    entered, gate = threading.Event(), threading.Event()

    @huey.task(retries=1)
    def work() -> str:
        if not ran:
            ran.append(1)
            raise TaskLockedException("held")
        entered.set()
        gate.wait(10)
        return "done"

    ran: list[int] = []
    with running(huey):
        handle = work()
        assert entered.wait(10)
        assert handle.get() is None
        gate.set()
        assert handle.get(blocking=True, timeout=10) == "done"


def test_c40_the_last_one_is_a_failure(huey: Huey) -> None:
    @huey.task()
    def work() -> None:
        raise TaskLockedException("held")

    handle = work()
    drain(huey)

    with pytest.raises(TaskException, match="TaskLockedException"):
        handle.get()


class Unstorable(Exception):
    """Its arguments cannot be pickled, and it cannot be told."""

    def __init__(self) -> None:
        super().__init__(lambda: 1, threading.Lock())

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def test_c42_an_exception_that_cannot_be_stored_is_retried(huey: Huey) -> None:
    @huey.task(retries=1)
    def work(n: int) -> str:
        ran.append(n)
        if len(ran) <= n:
            raise Unstorable
        return "done"

    ran: list[int] = []
    good = work(1)
    drain(huey)
    assert (good.get(), ran) == ("done", [1, 1])
    ran.clear()
    bad = work(2)
    drain(huey)

    with pytest.raises(TaskException, match="Unstorable") as caught:
        bad.get()
    assert ran == [2, 2]
    assert (caught.value.metadata["retries"], caught.value.metadata["task_id"]) == (0, bad.id)


@pytest.mark.parametrize("make", [lambda: lambda: 1, threading.Lock, lambda: (n for n in "ab")], ids=["function", "lock", "generator"])
def test_c43_a_value_that_cannot_be_stored_is_not_retried(huey: Huey, make: Callable[[], Any]) -> None:
    @huey.task(retries=3)
    def work() -> Any:
        ran.append(1)
        return [make()]

    ran: list[int] = []
    handle = work()
    drain(huey)

    with pytest.raises(TaskException):
        handle.get()
    assert (ran, huey.storage.counts().failed) == ([1], 1)


def test_c47_one_id_that_is_held_is_one_run_with_good_handles(huey: Huey) -> None:
    ran: list[int] = []
    work = huey.task(name="work")(lambda n: ran.append(n) or n)
    task = work.task_class((5,), id="mine")
    first, second = huey.enqueue(task), huey.enqueue(task)
    drain(huey)

    assert ran == [5]
    assert (first.get(preserve=True), second.get()) == (5, 5)


def test_c47_one_id_whose_task_has_ended_is_a_new_run(huey: Huey) -> None:
    ran: list[int] = []
    work = huey.task(name="work")(lambda n: ran.append(n) or n)
    for n in (1, 2, 3):
        handle = huey.enqueue(work.task_class((n,), id="mine"))
        drain(huey)
        assert handle.get() == n

    assert ran == [1, 2, 3]


def test_c47_a_longer_memory_is_asked_for(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock, keep_ids=60)
    ran: list[int] = []
    work = huey.task(name="work")(ran.append)
    for n, pause in enumerate((30, 31, 0)):
        huey.enqueue(work.task_class((n,), id="mine"))
        drain(huey)
        clock.forward(pause)

    assert ran == [0, 2]


def test_c59_results_are_counted_and_listed_and_nothing_else(huey: Huey) -> None:
    work = huey.task(name="work")(lambda n: n)
    fail = huey.task(name="fail")(lambda: 1 // 0)
    done, failed = work(1), fail()
    drain(huey)
    huey.put("user", 1)
    huey.put_if_empty("other", 2, ttl=60)
    work.revoke()
    waits = work.schedule((2,), delay=3600)
    waits.revoke()
    huey.revoke_by_id("unknown")
    lock = huey.lock_task("lock", ttl=60)
    lock.acquire()
    huey.rate_limit("rate", 1, 60).acquire()
    found = huey.all_results()
    counted = huey.result_count(), huey.storage.result_store_size()
    lock.release()

    assert set(found) == {done.id, failed.id}
    assert all(type(key) is str and type(value) is bytes for key, value in found.items())
    assert counted == (2, 2)


def test_the_length_of_a_queue_is_what_is_pending(huey: Huey) -> None:
    work = huey.task(name="work")(lambda n: n)
    work(1), work(2)
    work.schedule((3,), delay=3600)
    alone = huey.task(name="alone", concurrency=1)(lambda n: n)
    alone(1), alone(2)

    assert len(huey) == huey.pending_count() == len(huey.pending()) == huey.storage.queue_size() == 3
    assert (huey.scheduled_count(), bool(huey)) == (1, True)
    huey.flush()
    assert (len(huey), bool(huey)) == (0, True)


def test_items_of_the_storage_are_read_as_tasks(huey: Huey) -> None:
    work = huey.task(name="work")(lambda n: n)
    now, later = work(1, retries=2, priority=3), work.schedule((2,), delay=3600)

    (ready,) = map(huey.deserialize_task, huey.storage.enqueued_items())
    (waits,) = map(huey.deserialize_task, huey.storage.scheduled_items(1))

    assert (ready.id, ready.args, ready.retries, ready.priority) == (now.id, (1,), 2, 3)
    assert (waits.id, waits.args, waits.name) == (later.id, (2,), "work")
