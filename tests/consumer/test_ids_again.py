"""Ids that come again, from the call to the consumer: new runs, their handles, their keys."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable

import pytest

from huey import Huey
from huey.exceptions import CancelExecution, ResultTimeout, TaskException
from huey.task.task import Task
from tests.support.helpers import running

MakeHuey = Callable[..., Huey]
ENDS = {"returned": None, "failed": ValueError("no"), "cancelled": CancelExecution()}


@pytest.mark.parametrize("how", ENDS)
def test_an_ended_id_of_ones_own_runs_again(huey: Huey, how: str) -> None:
    ran: list[int] = []

    @huey.task()
    def work(n: int) -> int:
        ran.append(n)
        if n == 1 and (error := ENDS[how]) is not None:
            raise error
        return n

    with running(huey):
        first = work.schedule(args=(1,), id="mine")
        if how == "returned":
            assert first.get(blocking=True, timeout=10, preserve=True) == 1
        else:
            with pytest.raises(TaskException):
                first.get(blocking=True, timeout=10, preserve=True)
        assert work.schedule(args=(2,), id="mine").get(blocking=True, timeout=10) == 2
    assert ran == [1, 2]


def test_a_failed_or_revoked_id_runs_again(huey: Huey) -> None:
    ran: list[int] = []

    @huey.task()
    def work() -> int:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError("no")
        return len(ran)

    failed, revoked = work.s(), work.s()
    with running(huey):
        with pytest.raises(TaskException):
            huey.enqueue(failed).get(blocking=True, timeout=10)
        assert huey.enqueue(failed).get(blocking=True, timeout=10) == 2
    huey.enqueue(revoked).revoke()
    assert huey.dequeue() is None
    with running(huey):
        assert huey.enqueue(revoked).get(blocking=True, timeout=10) == 3


def test_the_handle_of_a_held_id_is_that_of_the_held_task(huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "huey")

    @huey.task()
    def work(n: int) -> int:
        return n

    first = work.schedule(args=(1,), id="mine")
    second = work.schedule(args=(2,), id="mine")

    assert (second.id, second.enqueued_as) == (first.id, first.enqueued_as)
    assert len([line for line in caplog.messages if "mine" in line and "held already" in line]) == 1
    second.revoke()
    assert first.is_revoked()
    first.restore()
    with running(huey):
        assert second.get(blocking=True, timeout=10) == 1


def test_a_batch_and_many_at_once_take_an_id_again_too(huey: Huey) -> None:
    @huey.task()
    def work(n: int) -> int:
        return n

    tasks = [work.s(n) for n in range(3)]
    for _ in range(2):
        with running(huey):
            assert huey.enqueue_many(tasks).get(blocking=True, timeout=10) == [0, 1, 2]
            with huey.batch():
                handles = [work.schedule(args=(n,), id=f"b{n}") for n in range(3)]
            assert [handle.get(blocking=True, timeout=10) for handle in handles] == [0, 1, 2]


def test_a_revocation_through_a_handle_holds_for_its_enqueue(huey: Huey) -> None:
    @huey.task()
    def work(n: int) -> int:
        return n

    task = work.s(5)
    with running(huey):
        old = work.schedule(args=(1,), id="mine")
        assert old.get(blocking=True, timeout=10) == 1
        plain = huey.enqueue(task)
        assert plain.get(blocking=True, timeout=10) == 5
    new, again = work.schedule(args=(2,), id="mine"), huey.enqueue(task)
    old.revoke()
    plain.revoke()

    assert (new.is_revoked(), old.is_revoked(), again.is_revoked(), plain.is_revoked()) == (False, True, False, True)
    with running(huey):
        assert new.get(blocking=True, timeout=10) == 2
        assert again.get(blocking=True, timeout=10) == 5


def test_a_revocation_inside_a_batch_holds_for_that_enqueue(huey: Huey) -> None:
    @huey.task()
    def work() -> int:
        return 1

    with huey.batch():
        handle = work.schedule(id="mine")
        handle.revoke()

    assert huey.dequeue() is None
    work.schedule(id="mine")
    assert huey.dequeue() is not None


def test_revoke_by_id_of_an_ended_id_holds_for_its_next_enqueue(huey: Huey) -> None:
    @huey.task()
    def work() -> int:
        return 1

    with running(huey):
        work.schedule(id="mine").get(blocking=True, timeout=10)
    huey.revoke_by_id("mine")

    revoked = work.schedule(id="mine")

    assert revoked.is_revoked()
    assert huey.dequeue() is None
    with running(huey):
        assert work.schedule(id="mine").get(blocking=True, timeout=10) == 1


# the key


def test_the_key_is_the_same_in_every_try_of_an_enqueue(huey: Huey) -> None:
    keys: list[str] = []
    tokens: list[int] = []

    @huey.task(include_task=True, retries=2)
    def work(task: Task) -> int:
        keys.append(task.key)
        tokens.append(task.token)
        if len(keys) % 3:
            raise ValueError("again")
        return len(keys)

    plain = work.s()  # type: ignore[call-arg]
    with running(huey):
        for _ in range(2):
            work.schedule(id="mine").get(blocking=True, timeout=10)
            huey.enqueue(plain).get(blocking=True, timeout=10)

    assert [len(set(keys[at : at + 3])) for at in range(0, 12, 3)] == [1] * 4
    assert len(set(keys)) == 4
    assert keys[3] == plain.id
    assert len(set(zip([key.partition(":")[0] for key in keys], tokens, strict=True))) == 12


def test_the_caller_knows_the_key(huey: Huey) -> None:
    @huey.task(include_task=True)
    def work(task: Task) -> str:
        return task.key

    handles = [work(), work.schedule(id="mine")]  # type: ignore[call-arg]
    with running(huey):
        assert [handle.get(blocking=True, timeout=10) for handle in handles] == [handle.task.key for handle in handles]


def test_a_clock_that_stands_still_gives_no_key_twice(make_huey: MakeHuey) -> None:
    from huey.testing.clock import FakeClock

    huey = make_huey(clock=FakeClock())

    @huey.task(include_task=True)
    def work(task: Task) -> str:
        return task.key

    with running(huey):
        keys = [work.schedule(id="mine").get(blocking=True, timeout=10) for _ in range(3)]
    assert len(set(keys)) == 3


def test_a_pickled_task_is_known_to_have_been_enqueued(huey: Huey) -> None:
    task = Task(id="a")
    assert pickle.loads(pickle.dumps(task)).may_come_again


def test_waiting_for_a_new_run_does_not_end_with_the_old_result(huey: Huey) -> None:
    @huey.task()
    def work(n: int) -> int:
        return n

    with running(huey):
        work.schedule(args=(1,), id="mine").get(blocking=True, timeout=10, preserve=True)
    again = work.schedule(args=(2,), id="mine")

    with pytest.raises(ResultTimeout):
        again.get(blocking=True, timeout=0.05)
