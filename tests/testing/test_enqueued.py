"""``assert_enqueued`` and ``assert_no_tasks``: what fits, and what the failure says."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from huey import Huey
from huey.task.wrapper import TaskWrapper
from huey.testing.memory_queue import MemoryQueue
from tests.testing.conftest import MONDAY


@pytest.fixture
def send(huey: Huey) -> TaskWrapper[..., None]:
    @huey.task(name="app.send")
    def send(to: str, copies: int = 1) -> None: ...

    return send


def failure(memory: MemoryQueue, /, *args: Any, **wanted: Any) -> list[str]:
    """The lines that a failed assertion says."""
    with pytest.raises(AssertionError) as caught:
        memory.assert_enqueued(*args, **wanted)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"args": ("ann", 2)},
        {"args": ["ann"], "kwargs": {"copies": 2}},
        {"kwargs": {"to": "ann", "copies": 2}},
        {"delay": 0},
        {"delay": timedelta(0), "queue": "app", "times": 1},
    ],
)
def test_a_call_fits(queue: MemoryQueue, send: TaskWrapper[..., None], wanted: dict[str, Any]) -> None:
    send("ann", copies=2)

    queue.assert_enqueued(send, **wanted)


def test_a_task_may_be_given_by_name(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send("ann", 2)

    queue.assert_enqueued("app.send", ("ann", 2))
    assert failure(queue, "app.send", kwargs={"to": "ann", "copies": 2})[0].startswith("app.send with arguments (to='ann', copies=2)")


def test_the_failure_lists_what_is_enqueued_instead(huey: Huey, queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    huey.task(name="app.other", queue="mail")(lambda: None)()
    send("bob", copies=2)
    send.schedule(("ann", 3), delay=60)

    assert failure(queue, send, ("ann", 2), delay=30, queue="mail") == [
        "app.send with arguments ('ann', 2), a delay of 30 s, the queue 'mail' is not enqueued",
        "enqueued:",
        "  app.send('bob', copies=2) in queue 'app': ready",
        "    its arguments are ('bob', copies=2), not ('ann', 2)",
        "    its delay is 0 s, not 30 s",
        "    its queue is 'app', not 'mail'",
        "  app.send('ann', 3) in queue 'app': scheduled, due at 2026-01-05 12:01:00 UTC (60 s later)",
        "    its arguments are ('ann', 3), not ('ann', 2)",
        "    its delay is 60 s, not 30 s",
        "    its queue is 'app', not 'mail'",
        "  app.other() in queue 'mail': ready",
    ]


def test_the_failure_says_that_nothing_is_enqueued(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    assert failure(queue, send) == ["app.send is not enqueued", "nothing is enqueued"]


def test_the_failure_says_that_it_has_run(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send("ann")
    queue.drain()

    assert failure(queue, send) == [
        "app.send is not enqueued",
        "it has run already (1 time); assert before drain(), or look at what drain() returns",
        "nothing is enqueued",
    ]


def test_long_lists_are_cut(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    for number in range(25):
        send("ann", number)

    lines = failure(queue, send, times=3)

    assert (lines[0], lines[-1], len(lines)) == ("app.send is enqueued 25 times, expected: 3", "  and 5 more tasks", 23)


def test_times_are_counted(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send("ann")
    send("ann")
    send("bob")

    queue.assert_enqueued(send, ("ann",), times=2)
    queue.assert_enqueued(send, ("eve",), times=0)
    assert failure(queue, send, ("bob",), times=0)[0] == "app.send with arguments ('bob') is enqueued 1 time, expected: 0"


def test_a_delay_is_counted_from_the_enqueue(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send.schedule(("ann",), delay=timedelta(hours=1))
    queue.clock.advance(600)

    queue.assert_enqueued(send, delay=3600)
    queue.assert_enqueued(send, delay=timedelta(minutes=60, seconds=1))
    assert failure(queue, send, delay=3602)[-1] == "    its delay is 3600 s, not 3602 s"


def test_what_became_due_has_still_its_delay(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send.schedule(("ann",), delay=60)
    queue.clock.advance(61)

    queue.assert_enqueued(send, delay=60)
    assert [each.state for each in queue.enqueued()] == ["ready"]


def test_an_eta_is_a_time(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send.schedule(("ann",), eta=MONDAY + timedelta(days=1))

    queue.assert_enqueued(send, eta=MONDAY + timedelta(days=1, seconds=0.9))
    assert failure(queue, send, eta=MONDAY) == [
        "app.send with the eta 2026-01-05 12:00:00 UTC is not enqueued",
        "enqueued:",
        "  app.send('ann') in queue 'app': scheduled, due at 2026-01-06 12:00:00 UTC (86400 s later)",
        "    its eta is 2026-01-06 12:00:00 UTC, not 2026-01-05 12:00:00 UTC",
    ]


def test_a_task_without_eta_has_none(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    send("ann")

    assert failure(queue, send, eta=MONDAY)[-1] == "    its eta is none, not 2026-01-05 12:00:00 UTC"


def test_retries_and_members_of_workflows_are_enqueued(huey: Huey, queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    fails = huey.task(name="fails", retries=1, retry_delay=5)(lambda: 1 / 0)
    huey.enqueue(fails.s().then(send, "ann"))
    queue.drain()

    queue.assert_enqueued(fails, times=1)
    queue.assert_enqueued(send, ("ann",), times=1)
    assert [each.state for each in queue.enqueued()] == ["retrying", "waiting"]


def test_ended_tasks_are_not_enqueued(huey: Huey, queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    huey.task(name="fails")(lambda: 1 / 0)()
    send("ann", expires=1)
    queue.clock.advance(2)
    queue.drain()

    queue.assert_no_tasks()


def test_no_tasks_lists_those_that_are_there(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    queue.assert_no_tasks()
    send("ann")

    with pytest.raises(AssertionError) as caught:
        queue.assert_no_tasks()
    assert str(caught.value).splitlines() == [
        "1 task enqueued, none expected",
        "enqueued:",
        "  app.send('ann') in queue 'app': ready",
    ]


def test_a_task_that_is_none_is_a_type_error(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    with pytest.raises(TypeError, match=r"give the decorated function, or the name of the task"):
        queue.assert_enqueued(send("ann"))
    with pytest.raises(TypeError, match=r"args='ann': give the arguments as a tuple, such as args=\('ann',\)"):
        queue.assert_enqueued(send, "ann")


def test_a_naive_eta_is_local_time(queue: MemoryQueue, send: TaskWrapper[..., None]) -> None:
    eta = datetime.fromtimestamp(MONDAY.timestamp() + 60)
    send.schedule(("ann",), eta=eta)

    queue.assert_enqueued(send, eta=eta)
