"""A signature covers what was declared of a task at its enqueue, and a run goes by that: columns that somebody changed change nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey, crontab
from huey.client.build import build_executor
from huey.exceptions import DecodeError, TaskException
from huey.runtime.clock import SECOND
from huey.task.lifecycle import WorkerDied, decide
from huey.task.record import Record
from huey.task.record_options import Constraints, with_constraints
from huey.testing.clock import FakeClock

MakeHuey = Callable[..., Huey]
SECRET = "a long random text"


@pytest.fixture
def signed(make_huey: MakeHuey) -> Huey:
    return make_huey(secret=SECRET)


def stored(huey: Huey, id: str) -> Record:
    """What the store has of a task that waits."""
    row = huey.storage.get(id)
    assert row is not None
    return Record(row.id, row.name, row.payload, row.priority, row.due, row.expires, row.retries, row.retry_delay, row.options)


def put_instead(huey: Huey, *records: Record) -> None:
    """As somebody does who can write into the store, and has no secret."""
    huey.storage.flush()
    huey.storage.enqueue(records)


def tampered(huey: Huey, handle: Any, **columns: Any) -> None:
    put_instead(huey, stored(huey, handle.id)._replace(**columns))


def run_all(huey: Huey) -> list[Any]:
    """What the bodies returned, retries included."""
    values = []
    while (task := huey.dequeue()) is not None:
        values.append(huey.execute(task))
    return values


def test_a_message_runs_under_the_name_that_was_signed(signed: Huey) -> None:
    ran: list[tuple[str, str]] = []
    note = signed.task(name="note")(lambda text: ran.append(("note", text)))
    signed.task(name="shell")(lambda text: ran.append(("shell", text)))

    tampered(signed, note("rm -rf /"), name="shell")
    run_all(signed)

    assert ran == [("note", "rm -rf /")]


def test_an_unknown_name_does_not_hide_the_signed_one(signed: Huey) -> None:
    task = signed.task(name="note")(lambda: 5)
    tampered(signed, task(), name="nobody.knows")
    assert run_all(signed) == [5]


@pytest.mark.parametrize("kind", ["one", "many", "map", "batch", "own id", "periodic"])
def test_each_way_in_signs_what_was_declared(signed: Huey, kind: str) -> None:
    ran: list[int] = []
    task = signed.task(name="note", retries=1, unique=kind == "own id")(ran.append)
    signed.task(name="shell")(lambda *args: ran.append(-1))
    if kind == "one":
        task(1)
    elif kind == "many":
        signed.enqueue_many([task.s(1)])
    elif kind == "map":
        task.map([1])
    elif kind == "batch":
        with signed.batch():
            task(1)
    elif kind == "own id":
        task.schedule((1,), id="mine")
    else:
        signed.periodic_task(crontab(), name="tick", retries=1)(lambda: ran.append(1)).schedule()
    (row,) = signed.storage.find()

    put_instead(signed, stored(signed, row.id)._replace(name="shell", retries=9))
    run_all(signed)

    assert ran == [1]


def test_retries_that_were_added_in_the_store_are_not_made(signed: Huey) -> None:
    ran: list[int] = []

    @signed.task(retries=1)
    def failing() -> None:
        ran.append(1)
        raise ValueError

    tampered(signed, failing(), retries=50)
    run_all(signed)

    assert len(ran) == 2


def test_retries_that_were_taken_in_the_store_are_made(signed: Huey) -> None:
    ran: list[int] = []

    @signed.task(retries=2)
    def failing() -> None:
        ran.append(1)
        raise ValueError

    tampered(signed, failing(), retries=0)
    run_all(signed)

    assert len(ran) == 3


def test_a_retry_delay_removed_in_the_store_is_kept(signed: Huey) -> None:
    @signed.task(retries=1, retry_delay=60, retry_backoff=2)
    def failing() -> None:
        raise ValueError

    handle = failing()
    tampered(signed, handle, retry_delay=0.0, options=None)
    run_all(signed)

    (row,) = signed.storage.find("scheduled")
    assert row.id == handle.id


@pytest.mark.parametrize("expires", [None, 2**60])
def test_an_expiry_that_was_moved_in_the_store_holds(make_huey: MakeHuey, clock: FakeClock, expires: int | None) -> None:
    signed = make_huey(secret=SECRET, clock=clock)
    ran: list[int] = []
    due = datetime.fromtimestamp(clock.now() / SECOND + 60, UTC)
    tampered(signed, signed.task(expires=due)(ran.append)(1), expires=expires)

    clock.forward(61)
    run_all(signed)

    assert ran == []


@pytest.mark.parametrize("is_duration", [False, True])
def test_a_task_that_expired_runs_when_it_is_put_back_by_hand(make_huey: MakeHuey, clock: FakeClock, is_duration: bool) -> None:
    signed, ran = make_huey(secret=SECRET, clock=clock), list[int]()
    due = timedelta(seconds=60) if is_duration else datetime.fromtimestamp(clock.now() / SECOND + 60, UTC)
    handle = signed.task(expires=due)(ran.append)(1)
    clock.forward(61)
    run_all(signed)
    before = list(ran)

    signed.inspector.retry(handle.id)
    run_all(signed)

    assert (before, ran) == ([], [1])


def test_a_time_limit_that_was_removed_in_the_store_holds(signed: Huey) -> None:
    task = signed.task(context=True)(lambda task=None: task.timeout)
    handle = task.schedule(timeout=7)
    tampered(signed, handle, options=None)
    assert run_all(signed) == [7]


def test_a_priority_changed_in_the_store_is_not_seen(signed: Huey) -> None:
    task = signed.task(context=True, priority=3)(lambda task=None: task.priority)
    tampered(signed, task(), priority=2**20)
    assert run_all(signed) == [3]


@pytest.mark.parametrize(
    "terms",
    [
        Constraints(),
        Constraints(unique="other"),
        Constraints(concurrency_key="mail:", max_running=50),
        Constraints(at_most_once=False, unique="x"),
    ],
)
def test_changed_constraints_keep_the_task_from_running(signed: Huey, terms: Constraints) -> None:
    ran: list[int] = []
    handle = signed.task(name="mail", concurrency=1, at_most_once=True)(ran.append)(1)
    tampered(signed, handle, options=with_constraints(None, terms))

    run_all(signed)

    assert ran == []
    with pytest.raises(TaskException, match="differ from the signed ones"):
        handle.get()


def test_at_most_once_holds_though_the_store_forgot_it(signed: Huey) -> None:
    handle = signed.task(at_most_once=True)(lambda: 1)()
    tampered(signed, handle, options=None)
    (lease,) = signed.storage.turn(signed.client.inline_worker()._me, [], 1).leases

    finish = decide(build_executor(signed.client.context, signed.client.overrides).declared(lease), WorkerDied(), 0)

    assert finish.reason == "lost"


def test_messages_of_two_tasks_that_were_exchanged_do_not_run(signed: Huey) -> None:
    ran: list[int] = []
    task = signed.task()(ran.append)
    one, other = stored(signed, task(1).id), stored(signed, task(2).id)

    put_instead(signed, one._replace(payload=other.payload), other._replace(payload=one.payload))
    run_all(signed)

    assert ran == []
    assert [row.reason for row in signed.storage.find("failed")] == ["undecodable"] * 2


def test_a_message_without_a_declaration_does_not_run(signed: Huey) -> None:
    ran: list[int] = []
    task = signed.task(name="note")(ran.append)
    put_instead(signed, stored(signed, task(1).id)._replace(payload=signed.codec.encode("task", "a", ((1,), None)), id="a"))

    run_all(signed)

    assert ran == []
    assert "covers the arguments only" in (signed.inspector.tasks("failed")[0].error or "")


@pytest.mark.parametrize(("old", "new"), [("data", "result"), ("result", "data")])
def test_user_data_and_results_have_purposes_of_their_own(signed: Huey, old: str, new: str) -> None:
    if old == "data":
        signed.put("a", 5)
    else:
        signed.put_result("a", 5)
    data = signed.storage.pop(old, "a")
    assert data is not None
    signed.storage.put(new, "a", data)

    with pytest.raises(DecodeError, match="signature does not match"):
        signed.get("a") if new == "data" else signed.result("a")


def test_user_data_is_read_back(huey: Huey, signed: Huey) -> None:
    for one in (huey, signed):
        one.put("key", [1, "two"])
        assert one.get("key") == [1, "two"]
        one.put_result("task", 3)
        assert one.get("task") == 3


def test_secrets_change_by_a_list(make_huey: MakeHuey) -> None:
    old = make_huey(secret="old")
    handle = old.task(name="note", retries=1)(lambda: 1)()
    record = stored(old, handle.id)._replace(retries=9)

    both = make_huey(secret=["new", "old"])
    other = make_huey(secret="new")

    assert both.codec.declared(record.id, record.payload).retries == 1
    with pytest.raises(DecodeError, match="signature does not match"):
        other.codec.declared(record.id, record.payload)


def test_a_retry_of_a_task_run_by_hand_is_signed_anew(signed: Huey) -> None:
    made = signed.task(retries=2)(lambda: 1 / 0).s()
    signed.execute(made)
    (record,) = [stored(signed, row.id) for row in signed.storage.find()]
    assert signed.codec.declared(record.id, record.payload).retries == record.retries == 1


def test_tasks_that_nobody_signs_carry_nothing_more(huey: Huey) -> None:
    payload = stored(huey, huey.task(retries=3)(lambda n: n)(1).id).payload
    assert payload[:2] == b"\x01\x00"
