"""Section 17 of 3.x: the crank in the caller's hand, and user data (section 2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey, crontab
from huey.exceptions import DecodeError, EncodeError, HueyException, TaskException, UnknownTask
from huey.runtime.clock import SECOND
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import Call
from huey.utils import EmptyData
from tests.compat_3x.conftest import Told
from tests.support.helpers import never, running, wait_until

MakeHuey = Callable[..., Huey]


@pytest.fixture
def still(make_huey: MakeHuey, clock: FakeClock) -> Huey:
    """An instance whose clock stands."""
    return make_huey(clock=clock)


def shown(clock: FakeClock, ahead: float = 0) -> datetime:
    return datetime.fromtimestamp(clock.now() / SECOND + ahead, UTC)


# One step at a time


def test_dequeue_claims_the_next_due_task_and_execute_ends_it(huey: Huey) -> None:
    add = huey.task()(lambda a, b: a + b)
    first, second = add(1, 2), add(3, 4)

    task = huey.dequeue()

    assert task is not None
    assert (task.id, task.args, task.token) == (first.id, (1, 2), 1)
    assert len(huey) == 1
    assert huey.execute(task) == 3
    assert first.get() == 3
    assert [it.id for it in huey.pending()] == [second.id]


def test_dequeue_gives_none_when_nothing_is_ready(huey: Huey) -> None:
    huey.task()(lambda: 1).schedule(delay=60)

    assert huey.dequeue() is None


def test_a_failure_is_stored_and_gives_none(huey: Huey) -> None:
    handle = huey.task()(lambda: 1 / 0)()
    task = huey.dequeue()

    assert task is not None
    assert huey.execute(task) is None
    with pytest.raises(TaskException, match="ZeroDivisionError"):
        handle.get()


def test_a_failure_with_retries_goes_back(huey: Huey) -> None:
    handle = huey.task(retries=1)(lambda: 1 / 0)()
    for left in (1, 0):
        task = huey.dequeue()
        assert task is not None
        assert task.retries == left
        huey.execute(task)
    assert huey.dequeue() is None
    with pytest.raises(TaskException):
        handle.get()


def test_a_task_that_was_never_enqueued_is_run_as_it_is(huey: Huey) -> None:
    made = huey.task()(lambda n: n).s(5)

    assert huey.execute(made) == 5
    assert huey.result(made.id) == 5
    assert len(huey) == 0


def test_such_a_task_that_fails_is_enqueued_with_a_try_less(huey: Huey) -> None:
    made = huey.task(retries=2)(lambda: 1 / 0).s()

    assert huey.execute(made) is None
    assert [(it.id, it.retries) for it in huey.pending()] == [(made.id, 1)]


def test_a_task_that_is_not_due_is_scheduled(still: Huey, clock: FakeClock) -> None:
    made = still.task()(lambda: 1).s(delay=60)
    assert still.ready_to_run(made) is False
    assert still.ready_to_run(made, shown(clock, 60)) is True

    assert still.execute(made) is None
    assert [it.id for it in still.scheduled()] == [made.id]
    assert still.execute(made, shown(clock, 61)) == 1


def test_a_revoked_or_expired_task_is_dropped_as_of_that_time(still: Huey, clock: FakeClock, make_huey: MakeHuey) -> None:
    ran: list[int] = []
    task = still.task()(ran.append)
    told: list[str] = []
    still.signal()(lambda signal, task: told.append(signal))

    expiring = task.s(1, expires=datetime.fromtimestamp(clock.now() / SECOND + 60, UTC))
    assert still.execute(expiring, shown(clock, 61)) is None
    revoked = task.s(2)
    still.revoke(revoked)
    assert still.execute(revoked) is None
    task.revoke(revoke_until=shown(clock, 100))
    still.execute(task.s(3), shown(clock, 99))
    still.execute(task.s(4), shown(clock, 100))

    assert ran == [4]
    assert told == ["expired", "revoked", "revoked", "executing", "complete"]


def test_a_revocation_for_once_is_used_up(huey: Huey) -> None:
    ran: list[int] = []
    task = huey.task()(ran.append)
    task.revoke(revoke_once=True)

    huey.execute(task.s(1))
    huey.execute(task.s(2))

    assert ran == [2]


def test_what_is_no_task_is_refused(huey: Huey) -> None:
    with pytest.raises(TypeError, match="give a task"):
        huey.execute("a")  # type: ignore[arg-type]


def test_signals_come_as_from_a_consumer(huey: Huey, told: Told) -> None:
    handle = huey.task(retries=1)(lambda: 1 / 0)()
    revoked = huey.task(name="other")(lambda: 1)()
    revoked.revoke()
    while (task := huey.dequeue()) is not None:
        huey.execute(task)

    assert told.of(handle.id) == ["enqueued", "executing", "error", "retrying", "enqueued", "executing", "error"]
    assert told.of(revoked.id) == ["enqueued", "revoked"]


def test_a_task_held_by_hand_is_not_run_by_a_consumer(huey: Huey) -> None:
    ran: list[int] = []
    huey.task()(ran.append)(1)
    task = huey.dequeue()
    assert task is not None

    with running(huey):
        assert never(lambda: ran, within=0.3)
    huey.enqueue(task)
    with running(huey):
        wait_until(lambda: ran == [1])


def test_the_schedule_is_read_in_order_up_to_a_time(still: Huey, clock: FakeClock) -> None:
    task = still.task()(lambda n: n)
    late, soon, ready = task(1, delay=60), task(2, delay=30), task(3)
    task(4, delay=61)

    found = still.read_schedule(shown(clock, 60))

    assert [it.id for it in found] == [soon.id, late.id]
    assert found[0].due == clock.now() + 30 * SECOND
    assert still.read_schedule(shown(clock, 60)) == []
    assert still.scheduled_count() == 1
    assert [it.id for it in still.pending()] == [ready.id]
    assert still.execute(found[0], shown(clock, 60)) == 2
    clock.forward(60)
    still.enqueue(found[1])
    assert late.id in [it.id for it in still.pending()]


def test_periodic_tasks_that_match_a_minute(huey: Huey) -> None:
    huey.periodic_task(crontab(minute="5"), name="five")(lambda: 5)
    huey.periodic_task(crontab(minute="*/7"), name="seven")(lambda: 7)

    assert [it.name for it in huey.read_periodic(datetime(2025, 1, 1, 0, 5))] == ["five"]
    assert sorted(it.name for it in huey.read_periodic(datetime(2025, 1, 1, 0, 35))) == ["seven"]
    assert len(huey) == 0


def test_a_task_survives_as_a_message(huey: Huey) -> None:
    made = huey.task(retries=2)(lambda a, b: a).s(1, b=(2, "x"), delay=60, priority=3, timeout=4)

    again = huey.deserialize_task(huey.serialize_task(made))

    assert again == made
    assert (again.args, again.kwargs, again.retries, again.priority, again.timeout) == ((1,), {"b": (2, "x")}, 2, 3, 4)
    with pytest.raises(DecodeError):
        huey.deserialize_task(b"nonsense")
    with pytest.raises(UnknownTask):
        huey.deserialize_task(huey.serialize_task(made).replace(made.name.encode(), b"app.gone"))


def test_add_schedule_and_put_result(huey: Huey) -> None:
    task = huey.task()(lambda: 1)
    huey.add_schedule(task.s(delay=60))
    huey.put_result("a", {"n": 1})

    assert huey.scheduled_count() == 1
    assert huey.result("a") == {"n": 1}


def test_a_task_runs_its_own_body(huey: Huey) -> None:
    made = huey.task(context=True)(lambda n, task: (n, task.id)).s(4)

    assert made.execute() == (4, made.id)
    assert made.data == ((4,), {})


# User data


def test_user_data_is_stored_read_and_removed(huey: Huey) -> None:
    assert huey.get("k") is None
    huey.put("k", {"n": (1, b"x")})
    huey.put("none", None)

    assert huey.get("k", peek=True) == {"n": (1, b"x")}
    assert huey.get("k") == {"n": (1, b"x")}
    assert huey.get("k") is None
    assert huey.get_raw("k") is EmptyData
    assert isinstance(huey.get_raw("none", peek=True), bytes)
    assert huey.delete("none") is True
    assert huey.delete("none") is False


def test_put_if_empty_lets_one_of_many_win(huey: Huey) -> None:
    calls = [Call(lambda n=n: huey.put_if_empty("k", n)) for n in range(8)]  # type: ignore[misc]
    won = [call.answer() for call in calls]

    assert won.count(True) == 1
    assert huey.get("k") == won.index(True)


def test_user_data_and_results_do_not_meet(huey: Huey) -> None:
    huey.put("a", 1)
    huey.put_result("a", 2)

    assert (huey.get("a"), huey.result("a")) == (1, 2)
    assert huey.result_count() == 0


def test_what_cannot_be_stored_is_refused(huey: Huey) -> None:
    with pytest.raises(EncodeError):
        huey.put("k", lambda: 1)
    with pytest.raises(ValueError, match="not empty"):
        huey.put("", 1)


# Looking


def test_what_waits_is_listed_and_counted(huey: Huey) -> None:
    task = huey.task()(lambda n: n)
    low, high = task(1), task(2, priority=9)
    later, soon = task(3, delay=90), task(4, delay=60)

    assert [(it.id, it.args) for it in huey.pending()] == [(high.id, (2,)), (low.id, (1,))]
    assert [it.id for it in huey.scheduled()] == [soon.id, later.id]
    assert [it.id for it in huey.pending(limit=1)] == [high.id]
    assert (huey.pending(limit=0), huey.scheduled(limit=0)) == ([], [])
    assert (huey.pending_count(), huey.scheduled_count(), len(huey)) == (2, 2, 2)
    assert huey.pending()[0] == high.task


def test_results_are_listed_as_bytes(huey: Huey) -> None:
    handle = huey.task()(lambda: 7)()
    task = huey.dequeue()
    assert task is not None
    huey.execute(task)

    assert list(huey.all_results()) == [handle.id]
    assert huey.result_count() == 1
    assert huey.get_raw(handle.id, peek=True) == huey.all_results()[handle.id]
    huey.flush()
    assert (huey.all_results(), huey.result_count(), len(huey)) == ({}, 0, 0)


# Reschedule


def test_a_rescheduled_task_has_a_new_id(still: Huey, clock: FakeClock) -> None:
    ran: list[int] = []
    task = still.task(retries=2)(ran.append)
    old = task(1, priority=3)

    new = old.reschedule(delay=60)

    assert new.id != old.id
    assert (new.task.args, new.task.priority, new.task.retries) == ((1,), 3, 2)
    assert old.is_revoked() is True
    assert new.task.due == clock.now() + 60 * SECOND
    assert still.dequeue() is None
    at_once = new.reschedule(priority=5)
    assert at_once.task.eta is None
    assert still.execute(still.dequeue() or at_once.task) is None
    assert ran == [1]


def test_a_handle_made_of_an_id_can_reschedule(huey: Huey) -> None:
    from huey.api import Result, Task

    old = huey.task()(lambda n: n)(4)

    new = Result[Any](huey, Task(id=old.id)).reschedule(eta=datetime.now() + timedelta(hours=1))

    assert new.task.args == (4,)
    with pytest.raises(HueyException, match="is no longer held"):
        Result[Any](huey, Task(id="gone")).reschedule()
