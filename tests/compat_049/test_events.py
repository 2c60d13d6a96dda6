"""Section J: what is told while tasks go their way, as JSON."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import StorageUnavailable
from huey.testing.clock import FakeClock
from tests.support.helpers import noting, read_until, running, statuses, wait_until

STATUSES = {"enqueued", "scheduled", "revoked", "started", "finished", "error", "retrying"}
FIELDS = {"status", "id", "task", "retries", "retry_delay", "execute_time", "error"}


def add(a: int, b: int) -> int:
    return a + b


def told_of(told: list[dict[str, Any]], id: str, status: str) -> list[dict[str, Any]]:
    """Those events."""
    return [event for event in told if (event["id"], event["status"]) == (id, status)]


@pytest.fixture
def failed_once(huey: Huey) -> tuple[str, list[dict[str, Any]]]:
    """The id and the events of a task with three retries that failed, was tried again and ended well."""
    ran: list[int] = []

    @huey.task(retries=3)
    def second_time_lucky() -> str:
        ran.append(1)
        if len(ran) < 2:
            raise ValueError("nope")
        return "ok"

    events = huey.events(timeout=10)
    handle = second_time_lucky()
    with running(huey):
        return handle.id, read_until(events, "finished", handle.id)


# Fields


def test_S119_each_event_is_one_json_object(huey: Huey) -> None:
    events = huey.events(timeout=10)
    handle = huey.task()(add)(1, 2)
    texts = []

    with running(huey):
        for text in events:
            texts.append(text)
            if "finished" in text:
                break

    told = [json.loads(text) for text in texts]
    assert all(isinstance(text, str) for text in texts)
    assert all(isinstance(event, dict) for event in told)
    assert told[-1]["id"] == handle.id


@pytest.mark.slow_machine
def test_S119_an_event_is_told_when_it_happens(huey: Huey) -> None:
    """Real-time events, as the document says."""
    may_end = threading.Event()

    @huey.task()
    def slow() -> None:
        may_end.wait(20)

    events = huey.events(timeout=10)

    def started_after() -> float:
        may_end.clear()
        called = time.monotonic()
        handle = slow()
        read_until(events, "started", handle.id)
        took = time.monotonic() - called
        may_end.set()
        read_until(events, "finished", handle.id)
        return took

    def revoked_after() -> float:
        handle = slow.schedule(delay=0.1)
        due = time.monotonic() + 0.1
        handle.revoke()
        read_until(events, "revoked", handle.id)
        return time.monotonic() - due

    with running(huey):
        # The best of three: the machine may be busy with something else.
        assert min(started_after() for _ in range(3)) < 0.5
        assert min(revoked_after() for _ in range(3)) < 0.5


def test_S120_the_status_is_one_of_seven(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    _, told = failed_once

    assert {event["status"] for event in told} <= STATUSES
    assert all(event.keys() >= FIELDS for event in told)


def test_S121_the_id_is_that_of_the_task(huey: Huey) -> None:
    events = huey.events(timeout=10)
    one, two = huey.task()(add)(1, 2), huey.task()(add)(3, 4)

    with running(huey):
        told = read_until(events, "finished", two.id)

    assert {event["id"] for event in told} == {one.task.task_id, two.task.task_id}


def test_S122_the_task_has_a_friendly_name(huey: Huey) -> None:
    events = huey.events(timeout=10)
    handle = huey.task()(add)(1, 2)

    with running(huey):
        told = read_until(events, "finished", handle.id)

    assert {event["task"] for event in told} == {"queuecmd_add"}


def test_S123_the_retries_are_those_left(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    id, told = failed_once

    (retrying,) = told_of(told, id, "retrying")
    put_back = told_of(told, id, "enqueued")[-1]
    assert (retrying["retries"], put_back["retries"]) == (3, 2)
    assert [event["retries"] for event in told_of(told, id, "started")] == [3, 2]
    assert told_of(told, id, "error")[0]["retries"] == 3
    assert told_of(told, id, "finished")[0]["retries"] == 2


def test_S124_the_retry_delay(huey: Huey) -> None:
    events = huey.events(timeout=10)
    handle = huey.task(retries=1, retry_delay=10)(add)(1, "not a number")

    with running(huey):
        told = read_until(events, "scheduled", handle.id)

    assert {event["retry_delay"] for event in told} == {10}


def test_S124_without_a_delay_it_is_zero(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    _, told = failed_once

    assert {event["retry_delay"] for event in told} == {0}


def test_S125_the_execute_time_of_a_task_for_now_is_null(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    _, told = failed_once

    assert {event["execute_time"] for event in told} == {None}


def test_S125_the_execute_time_is_a_unix_timestamp(huey: Huey, set_zone: Callable[[str], None]) -> None:
    set_zone("EST5")
    events = huey.events(timeout=10)
    eta = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    task = huey.task()(add)

    aware = task.schedule(args=(1, 2), eta=eta)
    local = task.schedule(args=(1, 2), eta=eta.astimezone().replace(tzinfo=None))

    told = read_until(events, "scheduled", local.id)
    assert [(event["id"], event["execute_time"]) for event in told] == [(aware.id, eta.timestamp()), (local.id, eta.timestamp())]


def test_S126_error_is_true_only_on_an_error(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    _, told = failed_once

    assert {(event["status"], event["error"]) for event in told} == {
        ("enqueued", False),
        ("started", False),
        ("error", True),
        ("retrying", False),
        ("finished", False),
    }


def test_S127_an_error_has_its_traceback(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    _, told = failed_once

    (error,) = [event for event in told if "traceback" in event]
    assert error["status"] == "error"
    assert "ValueError: nope" in error["traceback"]
    assert "second_time_lucky" in error["traceback"]


# Statuses


def test_S128_enqueued_is_told_of_a_call(huey: Huey) -> None:
    events = huey.events(timeout=10)
    handle = huey.task()(add)(1, 2)

    with running(huey):
        told = read_until(events, "finished", handle.id)

    assert statuses(told, handle.id) == ["enqueued", "started", "finished"]


def test_S128_enqueued_is_told_of_a_scheduled_task_that_is_due(huey: Huey) -> None:
    events = huey.events(timeout=10)

    with running(huey):
        handle = huey.task()(add).schedule(args=(1, 2), delay=0.5)
        told = read_until(events, "finished", handle.id)

    assert statuses(told, handle.id).count("enqueued") == 1


def test_S128_enqueued_is_told_of_a_periodic_run(huey: Huey) -> None:
    huey.periodic_task(lambda dt: True, name="app.tick")(lambda: None)
    events = huey.events(timeout=10)

    with running(huey, periodic=True):
        told = read_until(events, "finished")

    assert [(event["status"], event["task"]) for event in told] == [
        ("enqueued", "queuecmd_tick"),
        ("started", "queuecmd_tick"),
        ("finished", "queuecmd_tick"),
    ]


def test_S128_enqueued_is_told_of_a_retry(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    id, told = failed_once

    assert statuses(told, id) == ["enqueued", "started", "error", "retrying", "enqueued", "started", "finished"]


@pytest.mark.parametrize("way", ["call", "periodic"])
def test_S128_enqueued_is_told_before_started(huey: Huey, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Whoever enqueues may be held up in between; the order of events must not depend on it."""
    ran: list[str] = []
    enqueue = huey.storage.enqueue

    def held_up(*args: Any) -> Mapping[str, str]:
        duplicates = enqueue(*args)
        wait_until(lambda: ran)
        return duplicates

    monkeypatch.setattr(huey.storage, "enqueue", held_up)
    note = noting(huey, ran)
    if way == "periodic":
        huey.periodic_task(lambda dt: True, name="app.tick")(lambda: ran.append("tick"))
    events = huey.events(timeout=3)

    with running(huey, periodic=way == "periodic"):
        if way == "call":
            note("a")
        told = [json.loads(next(events)) for _ in range(3)]

    assert [event["status"] for event in told] == ["enqueued", "started", "finished"]


def test_S129_scheduled_is_told_when_a_task_is_for_later(huey: Huey) -> None:
    events = huey.events(timeout=10)

    handle = huey.task()(add).schedule(args=(1, 2), delay=60)

    told = read_until(events, "scheduled")
    assert statuses(told, handle.id) == ["scheduled"]


def test_S130_revoked_is_told_when_a_task_is_not_run(huey: Huey) -> None:
    ran: list[str] = []
    note = noting(huey, ran)
    events = huey.events(timeout=10)
    handle, after = note("a"), note("b")
    handle.revoke()

    with running(huey):
        told = read_until(events, "finished", after.id)

    assert statuses(told, handle.id)[-1] == "revoked"
    assert not {"started", "finished"} & set(statuses(told, handle.id))
    assert ran == ["b"]


def test_S131_started_is_told_before_the_body_ends(huey: Huey) -> None:
    may_end = threading.Event()

    @huey.task()
    def slow() -> str:
        may_end.wait(20)
        return "done"

    events = huey.events(timeout=10)
    handle = slow()
    with running(huey):
        before = read_until(events, "started", handle.id)
        may_end.set()
        after = read_until(events, "finished", handle.id)

    assert "finished" not in statuses(before, handle.id)
    assert statuses(after, handle.id) == ["finished"]


def test_S131_at_finished_the_result_can_be_read(huey: Huey) -> None:
    events = huey.events(timeout=10)
    task = huey.task()(add)

    with running(huey):
        for n in range(20):
            handle = task(n, n)
            read_until(events, "finished", handle.id)
            assert handle.get() == 2 * n


def test_S132_error_is_told_when_the_body_raises(huey: Huey) -> None:
    @huey.task()
    def bad() -> None:
        raise ValueError("nope")

    events = huey.events(timeout=10)
    handle, after = bad(), huey.task()(add)(1, 2)

    with running(huey):
        told = read_until(events, "finished", after.id)

    assert statuses(told, handle.id) == ["enqueued", "started", "error"]


def test_S133_retrying_is_told_when_a_failed_task_will_run_again(failed_once: tuple[str, list[dict[str, Any]]]) -> None:
    id, told = failed_once

    of_it = statuses(told, id)
    assert of_it[of_it.index("started") :][:4] == ["started", "error", "retrying", "enqueued"]


def test_S133_with_a_delay_it_goes_to_the_schedule(huey: Huey) -> None:
    @huey.task(retries=1, retry_delay=60)
    def bad() -> None:
        raise ValueError("nope")

    events = huey.events(timeout=10)
    handle = bad()
    asked = time.time()
    with running(huey):
        told = read_until(events, "scheduled", handle.id)

    assert statuses(told, handle.id) == ["enqueued", "started", "error", "retrying", "scheduled"]
    assert told[-1]["execute_time"] >= int(asked) + 60
    assert told[-1]["retries"] == 0


# Send and forget


def broken(*_: object, **__: object) -> None:
    raise StorageUnavailable("the channel is broken")


def test_S134_a_broken_channel_does_not_disturb_a_call(huey: Huey, monkeypatch: pytest.MonkeyPatch) -> None:
    huey.events(timeout=1)
    monkeypatch.setattr(huey.storage, "follow", broken)

    handle = huey.task()(add)(1, 2)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3


def test_S134_a_broken_channel_does_not_disturb_the_consumer(
    make_huey: Callable[..., Huey], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    huey = make_huey(clock=clock)
    ran: list[str] = []
    huey.periodic_task(lambda dt: True, name="app.tick")(lambda: ran.append("tick"))
    huey.periodic_task(lambda dt: True, name="app.tock")(lambda: ran.append("tock"))
    huey.events(timeout=1)
    monkeypatch.setattr(huey.storage, "follow", broken)

    with running(huey, periodic=True, periodic_task_interval=0.01):
        wait_until(lambda: len(ran) == 2)
        clock.forward(60)
        wait_until(lambda: len(ran) == 4)

    assert sorted(ran) == ["tick", "tick", "tock", "tock"]


def test_S134_nobody_has_to_listen(huey: Huey) -> None:
    handle = huey.task()(add)(1, 2)

    with running(huey):
        assert handle.get(blocking=True, timeout=10) == 3
    # Who comes later is told what happens from then on.
    late = huey.events(timeout=10)
    after = huey.task()(add).schedule(args=(1, 2), delay=60)
    assert {event["id"] for event in read_until(late, "scheduled")} == {after.id}
