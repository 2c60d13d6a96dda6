"""`enqueue` and `_execute`, overridden or patched: everything that is put in, and every run, passes through them (section 2)."""

from __future__ import annotations

from typing import Any

import pytest

from huey import Huey, MemoryHuey, TaskException
from huey.consumer.scheduler import Scheduler
from huey.task.task import HEADERS, Task
from huey.testing.clock import FakeClock
from tests.support.helpers import running


class Watched(MemoryHuey):
    """As an application of 3.x may have it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.put_in: list[Any] = []
        self.ran: list[Any] = []

    def enqueue(self, task: Any) -> Any:
        self.put_in.append(task.args)
        return super().enqueue(task)

    def _execute(self, task: Task, timestamp: Any = None) -> Any:
        value = super()._execute(task, timestamp)
        self.ran.append((task.args, value))
        return value


@pytest.fixture
def watched() -> Watched:
    return Watched("watched")


def add(huey: Huey) -> Any:
    @huey.task()
    def add(a: int, b: int = 10) -> int:
        return a + b

    return add


def test_every_way_in_passes_through_an_overridden_enqueue(watched: Watched) -> None:
    task = add(watched)

    with watched.batch():
        task(1)
    task(2)
    task.schedule((3,), delay=0)
    watched.enqueue(task.s(4))
    group = watched.enqueue_many([task.s(5), task.s(6)])
    several = task.map([7, 8])

    assert watched.put_in == [(n,) for n in range(1, 9)]
    assert len(watched.pending()) == 8
    assert (len(group), len(several)) == (2, 2)


def test_bulk_through_an_overridden_enqueue_is_written_together(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    task = add(watched)
    calls: list[int] = []
    enqueue = watched.storage.enqueue
    monkeypatch.setattr(watched.storage, "enqueue", lambda records, *more: (calls.append(len(records)), enqueue(records, *more))[1])

    task.map(range(5))

    assert calls == [5]


def test_a_periodic_tick_passes_through_an_overridden_enqueue(watched: Watched) -> None:
    @watched.periodic_task("* * * * *")
    def tick() -> None: ...

    clock = FakeClock()
    scheduler = Scheduler(watched.storage, watched.registry, watched.codec, clock, ticket=watched.client.bulk.tick_builder)
    scheduler.run_once()
    scheduler.run_once()

    assert watched.put_in == [()]
    assert [task.name for task in watched.pending()] == [tick.name]


def test_a_tick_left_out_by_an_overridden_enqueue_does_not_run(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    @watched.periodic_task("* * * * *")
    def tick() -> None: ...

    monkeypatch.setattr(watched, "enqueue", lambda task: None)
    scheduler = Scheduler(watched.storage, watched.registry, watched.codec, FakeClock(), ticket=watched.client.bulk.tick_builder)

    scheduler.run_once()

    assert watched.pending() == []


def test_every_run_passes_through_an_overridden_execute(watched: Watched) -> None:
    task = add(watched)

    @watched.task(context=True)
    def told(n: int, task: Any = None) -> str:
        return str(task.id)

    with running(watched):
        assert task(1).get(blocking=True, timeout=10) == 11
        result = told(2)
        assert result.get(blocking=True, timeout=10) == result.id

    assert watched.ran == [((1,), 11), ((2,), result.id)]


def test_an_overridden_execute_goes_on_after_an_error(watched: Watched) -> None:
    @watched.task(retries=1)
    def fails(n: int) -> None:
        raise KeyError(n)

    with running(watched):
        result = fails(1)
        with pytest.raises(TaskException, match=r"KeyError\(1\)"):
            result.get(blocking=True, timeout=10)

    assert watched.ran == [((1,), None)] * 2


def test_an_overridden_execute_that_raises_fails_the_task(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: Task, timestamp: Any = None) -> Any:
        raise OSError("no route to the instrument")

    monkeypatch.setattr(watched, "_execute", broken)
    task = add(watched)

    with running(watched), pytest.raises(TaskException, match="no route"):
        task(1).get(blocking=True, timeout=10)


def test_a_wrapper_may_run_the_body_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    @watched.task()
    def fails_once() -> int:
        ran.append(1)
        if len(ran) == 1:
            raise OSError("once")
        return 5

    def twice(task: Task, timestamp: Any = None) -> Any:
        value = Huey._execute(watched, task, timestamp)
        return Huey._execute(watched, task, timestamp) if value is None else value

    monkeypatch.setattr(watched, "_execute", twice)

    with running(watched):
        assert fails_once().get(blocking=True, timeout=10) == 5


def test_execute_may_replace_the_body(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def replacing(task: Task, timestamp: Any = None) -> Any:
        execute = task.execute
        task.execute = lambda: execute() * 2  # type: ignore[method-assign]
        task.noted = True  # type: ignore[attr-defined]
        return Watched._execute(watched, task, timestamp)

    monkeypatch.setattr(watched, "_execute", replacing)
    task = add(watched)

    with running(watched):
        assert task(1).get(blocking=True, timeout=10) == 22


def test_immediate_mode_and_steps_by_hand_pass_through_too(watched: Watched) -> None:
    task = add(watched)

    task(1)
    assert watched.execute(watched.dequeue()) == 11
    watched.immediate = True
    task(2)

    assert watched.ran == [((1,), 11), ((2,), 12)]


def test_headers_travel_beside_the_arguments(huey: Huey, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    @huey.task(retries=1)
    def takes(*args: Any, **kwargs: Any) -> Any:
        if len(seen) < 2:
            raise ValueError("again")
        return kwargs

    def executing(task: Task, timestamp: Any = None) -> Any:
        seen.append(task.kwargs.pop(HEADERS, None))
        return Huey._execute(huey, task, timestamp)

    task = takes.s(1, x=2)
    task.kwargs[HEADERS] = {"trace": "t1", "baggage": None}
    result = huey.enqueue(task)
    monkeypatch.setattr(huey, "_execute", executing)

    with running(huey):
        assert result.get(blocking=True, timeout=10) == {"x": 2}

    assert seen == [{"trace": "t1"}] * 2
    assert task.kwargs == {"x": 2}
