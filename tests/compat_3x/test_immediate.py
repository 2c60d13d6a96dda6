"""Immediate mode (section 2, C9): a call runs in the caller, by the way of a consumer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import ConfigurationError, TaskException
from huey.storage.memory import MemoryStorage
from huey.testing.contract.tools import Call
from tests.support.helpers import running

MakeHuey = Callable[..., Huey]


@pytest.fixture
def at_once(make_huey: MakeHuey) -> Huey:
    return make_huey(immediate=True)


def test_a_call_runs_at_once_and_returns_a_handle(at_once: Huey) -> None:
    add = at_once.task()(lambda a, b: a + b)

    handle = add(1, 2)

    assert handle.is_ready()
    assert handle() == 3
    assert len(at_once) == 0


def test_it_runs_in_the_callers_thread(at_once: Huey) -> None:
    assert at_once.task()(threading.get_ident)()() == threading.get_ident()


def test_an_error_is_stored_and_raised_by_the_handle(at_once: Huey) -> None:
    handle = at_once.task()(lambda: 1 / 0)()

    with pytest.raises(TaskException, match="ZeroDivisionError"):
        handle()


def test_a_task_for_later_only_stands_on_the_schedule(at_once: Huey) -> None:
    ran: list[int] = []
    task = at_once.task()(ran.append)

    handle = task.schedule(args=(1,), delay=60)

    assert [it.id for it in at_once.scheduled()] == [handle.id]
    assert (ran, handle()) == ([], None)


def test_retries_without_a_delay_run_at_once_and_with_one_wait(at_once: Huey) -> None:
    ran: list[int] = []

    def fail(n: int) -> None:
        ran.append(n)
        raise ValueError

    at_once.task(retries=2, name="now")(fail)(1)
    at_once.task(retries=2, retry_delay=60, name="later")(fail)(2)

    assert ran == [1, 1, 1, 2]
    assert at_once.scheduled_count() == 1


def test_the_real_storage_is_not_touched_and_comes_back(huey: Huey) -> None:
    task = huey.task()(lambda n: n)
    real, waiting = huey.storage, task(1)

    huey.immediate = True
    assert isinstance(huey.storage, MemoryStorage)
    assert huey.storage is not real
    assert task(2)() == 2
    assert huey.pending() == []

    huey.immediate = False
    assert huey.storage is real
    assert [it.id for it in huey.pending()] == [waiting.id]


def test_with_the_real_storage_everything_that_is_ready_runs(make_huey: MakeHuey) -> None:
    huey = make_huey(immediate_use_memory=False)
    task, real = huey.task()(lambda n: n), huey.storage
    waiting = task(1)

    huey.immediate = True

    assert huey.storage is real
    assert task(2)() == 2
    assert waiting() == 1


def test_a_task_that_calls_another_has_its_result_at_once(at_once: Huey) -> None:
    add = at_once.task(name="add")(lambda a, b: a + b)
    twice = at_once.task(name="twice")(lambda n: add(n, n)(True) + add(0, 0)(True))

    assert twice(4)() == 8


def test_map_and_batch_run_too(at_once: Huey) -> None:
    task = at_once.task()(lambda n: n * 2)
    assert task.map([1, 2, 3]).get() == [2, 4, 6]
    with at_once.batch():
        handle = task(5)
        assert not handle.is_ready()
    assert handle() == 10


def test_revoked_and_expired_tasks_are_dropped(at_once: Huey) -> None:
    ran: list[int] = []
    task = at_once.task()(ran.append)
    made = task.s(1)
    at_once.revoke(made)
    task.revoke(revoke_once=True)

    at_once.enqueue(made)
    task(2)
    task(3)

    assert ran == [3]


def test_signals_and_hooks_are_the_same(at_once: Huey) -> None:
    order: list[str] = []
    at_once.signal()(lambda signal, task, *extra: order.append(signal))
    at_once.pre_execute()(lambda task: order.append("pre"))
    at_once.post_execute()(lambda task, value, error: order.append(f"post {value}"))

    at_once.task()(lambda: 1)()

    assert order == ["enqueued", "pre", "executing", "post 1", "complete"]


def test_threads_find_their_own_tasks_done(at_once: Huey) -> None:
    task = at_once.task()(lambda n: n)
    calls = [Call(lambda n=n: [task(k)() for k in range(n, n + 20)]) for n in (0, 100, 200)]  # type: ignore[misc]

    assert [call.answer() for call in calls] == [list(range(n, n + 20)) for n in (0, 100, 200)]


def test_a_consumer_is_refused_and_runs_when_it_is_off_again(at_once: Huey) -> None:
    consumer = at_once.create_consumer()
    with pytest.raises(ConfigurationError, match="immediate"):
        consumer.start()

    at_once.immediate = False
    with running(at_once):
        assert at_once.task()(lambda: 1)().get(blocking=True, timeout=10) == 1


def test_it_does_not_go_with_always_eager(make_huey: MakeHuey) -> None:
    with pytest.raises(ConfigurationError, match="choose one"):
        make_huey(always_eager=True, immediate=True)


def test_without_results_a_call_returns_none(make_huey: MakeHuey) -> None:
    ran: list[Any] = []
    huey = make_huey(immediate=True, results=False)

    assert huey.task()(ran.append)(1) is None
    assert ran == [1]
