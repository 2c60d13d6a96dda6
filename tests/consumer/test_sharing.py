"""Unique tasks, limits, ids that stay known, at most once: from the decorator to the consumer."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from huey import Huey, MemoryHuey
from huey.api import Result
from huey.client.build import build_executor
from huey.consumer.janitor import Janitor
from huey.exceptions import ConfigurationError, TaskException
from huey.storage.locks import Holder
from huey.storage.memory import MemoryStorage
from huey.storage.rows import Features
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, claim
from tests.support.helpers import Project, read_until, running, wait_until

MakeHuey = Callable[..., Huey]


def waiting(huey: Huey) -> int:
    counts = huey.storage.counts()
    return counts.ready + counts.scheduled + counts.blocked


# unique


def test_a_call_that_is_held_returns_the_first_ones_handle(huey: Huey) -> None:
    @huey.task(unique=True)
    def add(a: int, b: int = 1) -> int:
        return a + b

    first, again, other = add(1), add.schedule(args=(1,), kwargs={"b": 1}, delay=60), add(2)

    assert isinstance(again, Result)
    assert (again.id, waiting(huey)) == (first.id, 2)
    assert again.task.data == ((1,), {"b": 1})
    with running(huey):
        assert [handle.get(blocking=True, timeout=10, preserve=True) for handle in (first, again, other)] == [2, 2, 3]
        assert add(1).id != first.id


def test_many_calls_at_once_are_unique_among_each_other(huey: Huey) -> None:
    @huey.task(unique="a")
    def add(a: int, b: int) -> int:
        return a + b

    group = [handle.id for handle in add.map([(1, 2), (1, 3), (2, 2)])]
    more = [handle.id for handle in huey.enqueue_many([add.s(2, 9), add.s(3, 9)])]
    with huey.batch():
        collected = [add(3, 1), add(4, 1), add(4, 2)]

    assert (group[0], group[1] == group[0], more[0]) == (group[0], True, group[2])
    assert [handle.id for handle in collected[:2]] == [more[1], collected[2].id]
    assert waiting(huey) == 4


def test_followers_and_handlers_hear_of_a_unique_task_once(huey: Huey) -> None:
    told: list[tuple[str, str]] = []

    @huey.signal("enqueued")
    def note(signal: str, task: Any) -> None:
        told.append((signal, task.id))

    @huey.task(unique=True)
    def work() -> None:
        """Nothing."""

    position = huey.storage.follow(None)[0]
    first = work()
    work()

    assert told == [("enqueued", first.id)]
    assert [json.loads(text)["id"] for text in huey.storage.follow(position)[1]] == [first.id]


def test_a_periodic_task_may_be_unique_and_limited(huey: Huey) -> None:
    @huey.periodic_task(lambda minute: True, unique=True, concurrency=1)
    def tick() -> None:
        """Nothing."""

    with running(huey, periodic=True):
        wait_until(lambda: huey.storage.ticks())
        wait_until(lambda: waiting(huey) == 0)
    row = huey.storage.stats(0)
    assert sum(stat.enqueued for stat in row) == 1


def test_a_key_that_cannot_be_made_is_refused_where_it_is_called(huey: Huey) -> None:
    @huey.task(unique=True)
    def work(thing: object) -> None:
        """Nothing."""

    with pytest.raises(ValueError, match=r"a value of type builtins\.object cannot be used in a key"):
        work(object())
    assert waiting(huey) == 0


def test_a_unique_task_can_be_rescheduled_or_revoked_and_called(huey: Huey) -> None:
    @huey.task(unique=True)
    def work() -> int:
        return 7

    first = work.schedule(delay=3600)
    second = first.reschedule(delay=1800)
    same = work()
    second.revoke()
    third = work()

    assert len({first.id, second.id, third.id}) == 3
    assert same.id == second.id
    with running(huey):
        assert third.get(blocking=True, timeout=10) == 7


# ids


def test_keep_ids_asks_for_a_longer_memory(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock, keep_ids=3600)
    ran: list[int] = []

    @huey.task()
    def work() -> int:
        ran.append(1)
        return 7

    with running(huey):
        assert work.schedule(id="mine").get(blocking=True, timeout=10, preserve=True) == 7
        assert work.schedule(id="mine").get(blocking=True, timeout=10) == 7
        clock.forward(3601)
        assert work.schedule(id="mine").get(blocking=True, timeout=10) == 7
    assert len(ran) == 2


# limits


def test_no_more_run_than_the_limit_allows_over_all_consumers(huey: Huey) -> None:
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    guard = threading.Lock()

    @huey.task(concurrency=2, key="who", retries=1)
    def work(who: str, n: int) -> int:
        with guard:
            now[who] += 1
            most[who] = max(most[who], now[who])
        threading.Event().wait(0.004)
        with guard:
            now[who] -= 1
        if n == 3:
            raise ValueError("once more")
        return n

    handles = [work(who, n) for n in range(8) for who in "ab"]
    with running(huey, workers=4), running(huey, workers=4):
        wait_until(lambda: waiting(huey) == 0 and huey.storage.counts().running == 0)
    assert most == {"a": 2, "b": 2}
    assert sorted(h.get(True) for h in handles if h.task.args[1] != 3) == sorted([0, 1, 2, 4, 5, 6, 7] * 2)


def test_tasks_that_wait_for_a_limit_stand_in_nobodys_way(huey: Huey) -> None:
    gate = threading.Event()

    @huey.task(concurrency=1, priority=10)
    def slow(n: int) -> int:
        gate.wait(10)
        return n

    @huey.task()
    def quick() -> str:
        return "done"

    slow.map(range(200))
    with running(huey, workers=2):
        try:
            assert quick().get(blocking=True, timeout=10) == "done"
            assert huey.storage.counts().blocked == 199
        finally:
            gate.set()
            huey.storage.pause(True)


def test_a_limited_task_waits_without_a_failed_try(huey: Huey) -> None:
    @huey.task(concurrency=1)
    def work(n: int) -> int:
        return n

    handles = work.map(range(20))
    with running(huey, workers=4):
        assert handles.get(blocking=True, timeout=20) == list(range(20))
    assert huey.storage.counts().failed == 0


# at most once


def test_an_at_most_once_task_is_lost_with_its_worker(make_huey: MakeHuey, clock: FakeClock) -> None:
    huey = make_huey(clock=clock)

    @huey.task(at_most_once=True, retries=5)
    def work() -> None:
        """Nothing."""

    handle = work()
    claim(huey.storage, by=ME._replace(host_scope="of another machine"))
    janitor = Janitor(huey.storage, OTHER, clock, build_executor(huey.client.context, huey.client.overrides).finalize)
    for _ in range(16):
        janitor.run_once()
        clock.forward(1)

    row = huey.storage.get(handle.id)
    assert row is not None
    assert (row.state, row.reason) == ("failed", "lost")
    with pytest.raises(TaskException, match="lost: its worker died"):
        handle.get()


def test_an_exception_is_no_death(huey: Huey) -> None:
    ran: list[int] = []

    @huey.task(at_most_once=True, retries=1)
    def work() -> int:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError
        return 7

    with running(huey):
        assert work().get(blocking=True, timeout=10) == 7


# refusals


class Plain(MemoryStorage):
    """A storage that keeps no terms."""

    features = Features(is_shared=False)


@pytest.mark.parametrize("wish", [{"unique": True}, {"concurrency": 1}, {"rate": "1/s"}, {"at_most_once": True}])
def test_a_storage_that_keeps_no_terms_refuses_at_the_call(wish: dict[str, Any]) -> None:
    huey = MemoryHuey(storage=Plain("app"))
    task = huey.task(**wish)(lambda: None)

    with pytest.raises(ConfigurationError, match=r"Plain: .* need a storage that supports them"):
        task()
    assert waiting(huey) == 0


def test_and_takes_ids_as_before() -> None:
    huey = MemoryHuey(storage=Plain("app"))
    task = huey.task()(lambda: None)

    assert task.schedule(id="mine").id == "mine"
    assert huey.storage.find()[0].id == "mine"


def test_wishes_that_contradict_are_refused_at_the_decorator(huey: Huey) -> None:
    with pytest.raises(ValueError, match="without concurrency="):
        huey.task(key="a")
    with pytest.raises(ValueError, match="without unique="):
        huey.periodic_task(lambda minute: minute > datetime.min, unique_for=5)


def test_events_tell_of_a_limited_task_what_they_tell_of_any(huey: Huey) -> None:
    told = huey.events(timeout=10)

    @huey.task(concurrency=1)
    def work() -> None:
        """Nothing."""

    handle = work()
    with running(huey):
        statuses = [event["status"] for event in read_until(told, "finished", handle.id)]
    assert statuses == ["enqueued", "started", "finished"]


# the command

APP = """
import os
import signal

@huey.task(at_most_once=True)
def die_locked():
    huey.lock_task("l").acquire()
    os.kill(os.getpid(), signal.SIGKILL)

@huey.task(concurrency=1, key="k")
def add(k, b):
    return b
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_killed_workers_lock_and_place_are_free_at_once(project: Project, kind: str) -> None:
    project.write(APP)
    handle = project.task("main.die_locked", at_most_once=True)()
    add = project.task("main.add", concurrency=1, key=lambda k, b: k)
    adds = [add("x", n) for n in range(5)]

    consumer = project.start("main.huey", "-k", kind, "-w", "2")

    with pytest.raises(TaskException, match=r"lost: its worker died by signal 9"):
        handle.get(blocking=True, timeout=20)
    assert not project.huey.is_locked("l")
    assert [handle.get(blocking=True, timeout=20) for handle in adds] == [0, 1, 2, 3, 4]
    assert consumer.stop() == 0


def test_the_command_frees_locks_at_its_start_if_told_to(project: Project) -> None:
    project.write(APP)
    project.huey.storage.acquire_lock("nightly", Holder("somebody"))

    consumer = project.start("main.huey", "--flush-locks")

    wait_until(lambda: not project.huey.is_locked("nightly"))
    assert consumer.stop() == 0
    assert "locks freed: nightly" in consumer.log
