"""``drain()`` runs what is due as a worker does."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from huey import CancelExecution, Huey, RetryTask, chord, group
from huey.exceptions import HopelessWait, RateLimitExceeded, TaskException, TaskTimeout
from huey.runtime.masking import has_deferred
from huey.task.task import Task
from huey.testing.memory_queue import MemoryQueue
from tests.support.helpers import leaving_no_thread, wait_until
from tests.testing.conftest import MONDAY


def states(queue: MemoryQueue) -> list[str]:
    return [run.state for run in queue.drain()]


# -- what a run is


def test_it_runs_everything_and_returns_the_runs_in_order(huey: Huey, queue: MemoryQueue) -> None:
    add = huey.task(name="add")(lambda a, b: a + b)
    handles = [add(1, 2), add(3, b=4)]

    runs = queue.drain()

    assert [(run.name, run.args, run.kwargs, run.state, run.value) for run in runs] == [
        ("add", (1, 2), {}, "succeeded", 3),
        ("add", (3,), {"b": 4}, "succeeded", 7),
    ]
    assert [handle.get() for handle in handles] == [3, 7]
    assert (queue.drain(), queue.runs) == ([], runs)


def test_a_run_is_shown_in_one_line(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(name="add")(lambda a, b: a + b)(1, b="x")

    assert repr(queue.drain()[0]).startswith("<add(1, b='x') at 2026-01-05 12:00:00 failed: TypeError(")


def test_a_run_without_an_exception_shows_its_reason(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(name="unlike")(lambda: threading.Lock())()

    [run] = queue.drain()

    assert (run.state, run.reason, run.error) == ("failed", "result not storable", None)
    assert repr(run) == "<unlike() at 2026-01-05 12:00:00 failed: result not storable>"


def test_a_failure_is_stored_and_does_not_raise(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task()
    def divide() -> None:
        raise ZeroDivisionError("by zero")

    handle = divide()
    [run] = queue.drain()

    assert (run.state, run.reason, repr(run.error), run.value) == ("failed", "error", "ZeroDivisionError('by zero')", None)
    assert run.traceback is not None
    assert "by zero" in run.traceback
    with pytest.raises(TaskException, match="by zero"):
        handle.get()
    assert huey.inspector.counts().failed == 1


def test_what_tasks_enqueue_runs_too(huey: Huey, queue: MemoryQueue) -> None:
    second = huey.task(name="second")(lambda: 2)
    huey.task(name="first")(lambda: bool(second()))()

    assert [run.name for run in queue.drain()] == ["first", "second"]


def test_the_order_is_by_priority_however_short_tasks_are(huey: Huey, queue: MemoryQueue) -> None:
    urgent = huey.task(name="urgent", priority=9)(lambda: None)

    @huey.task(name="usual")
    def usual(number: int) -> None:
        if number == 30:
            urgent()

    for number in range(40):
        usual(number)

    assert [run.name for run in queue.drain()].index("urgent") == 31


def test_hooks_and_handlers_are_called_in_order(huey: Huey, queue: MemoryQueue) -> None:
    told: list[str] = []
    huey.pre_execute("pre")(lambda task: told.append("pre"))
    huey.post_execute("post")(lambda task, value, error: told.append(f"post {value}"))
    huey.signal()(lambda signal, task, *extra: told.append(signal))
    huey.task()(lambda: 1)()

    queue.drain()

    assert told == ["enqueued", "pre", "executing", "post 1", "complete"]


def test_handlers_of_what_becomes_due_have_returned(huey: Huey, queue: MemoryQueue) -> None:
    told: list[str] = []
    huey.signal("enqueued", "expired", "revoked")(lambda signal, task: told.append(f"{signal} {task.id}"))
    one = huey.task()(lambda: 1)
    one.schedule(delay=60, id="later")
    one.schedule(id="stale", expires=30)
    huey.revoke(one.schedule(id="unwanted"))

    queue.clock.advance(60)
    with leaving_no_thread():
        queue.drain()

    assert sorted(told) == ["enqueued later", "enqueued later", "enqueued stale", "enqueued unwanted", "expired stale", "revoked unwanted"]


def test_startup_and_shutdown_hooks_run_once(huey: Huey) -> None:
    from huey.testing import memory

    told: list[str] = []
    huey.on_startup("up")(lambda: told.append("up"))
    huey.on_shutdown("down")(lambda: told.append("down"))
    huey.task()(lambda: told.append("run"))

    with memory(huey) as queue:
        queue.drain()
        queue.drain()
    with memory(huey):
        pass

    assert told == ["up", "down"]


def test_a_hook_may_cancel(huey: Huey, queue: MemoryQueue) -> None:
    def refuse(task: Task) -> None:
        raise CancelExecution

    huey.pre_execute()(refuse)
    huey.task()(lambda: 1)()

    assert states(queue) == ["cancelled"]


def test_revoked_and_expired_tasks_do_not_run(huey: Huey, queue: MemoryQueue) -> None:
    one = huey.task()(lambda: 1)
    one.schedule(expires=5)
    one().revoke()
    queue.clock.advance(6)

    assert queue.drain() == []
    queue.assert_no_tasks()
    assert huey.inspector.counts().cancelled == 2


def test_the_task_of_a_run_reports_progress(huey: Huey, queue: MemoryQueue) -> None:
    seen: list[Any] = []

    @huey.task(context=True)
    def copy(task: Task) -> None:
        task.progress(0.5, "half")
        seen.append(huey.progress(task.id))
        task.progress(1)

    copy.schedule()
    [run] = queue.drain()

    assert run.progress == [(0.5, "half"), (1, None)]
    assert (seen[0].fraction, seen[0].message) == (0.5, "half")


def test_a_replaced_execute_sees_every_run(huey: Huey, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(huey, "_execute", lambda task, timestamp=None: seen.append(task.name) or task.execute())
    huey.task(name="one")(lambda: 1)()

    assert [run.value for run in queue.drain()] == [1]
    assert seen == ["one"]


# -- retries


def test_a_retry_without_delay_runs_at_once(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(retries=2)(lambda: 1 / 0)()

    assert states(queue) == ["retrying", "retrying", "failed"]


def test_a_retry_with_delay_waits_for_the_clock(huey: Huey, queue: MemoryQueue) -> None:
    handle = huey.task(retries=1, retry_delay=30)(lambda: 1 / 0)()

    assert (states(queue), handle.status) == (["retrying"], "retrying")
    queue.clock.advance(29.9)
    assert states(queue) == []
    queue.clock.advance(0.1)
    assert (states(queue), handle.status) == (["failed"], "failed")


def test_a_task_may_ask_for_another_run(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task()
    def again() -> None:
        raise RetryTask(delay=10)

    again()

    assert states(queue) == ["scheduled"]


# -- limits


def test_a_rate_limit_is_met_and_passes(huey: Huey, queue: MemoryQueue) -> None:
    limited = huey.task()(huey.rate_limit("api", 2, 60)(lambda: "ok"))
    for _ in range(3):
        limited()

    runs = queue.drain()

    assert [run.state for run in runs] == ["succeeded", "succeeded", "scheduled"]
    assert isinstance(runs[-1].error, RateLimitExceeded)
    queue.clock.advance(60)
    assert states(queue) == ["succeeded"]


def test_a_rate_of_tasks_keeps_the_rest_blocked(huey: Huey, queue: MemoryQueue) -> None:
    limited = huey.task(rate="2/m")(lambda: "ok")
    for _ in range(3):
        limited()

    assert len(queue.drain()) == 2
    assert [each.state for each in queue.enqueued()] == ["blocked"]
    queue.clock.advance(60)
    assert len(queue.drain()) == 1


def test_one_runs_at_a_time_under_a_concurrency_limit(huey: Huey, queue: MemoryQueue) -> None:
    limited = huey.task(concurrency=1)(lambda: "ok")
    limited()
    limited()

    assert states(queue) == ["succeeded", "succeeded"]


# -- time limits and sleeps


def test_sleep_in_a_task_moves_the_clock(huey: Huey, queue: MemoryQueue) -> None:
    before = queue.clock.time
    huey.task()(lambda: time.sleep(3600))()

    assert states(queue) == ["succeeded"]
    assert (queue.clock.time - before).total_seconds() == 3600


def test_sleep_elsewhere_is_the_real_one(huey: Huey, queue: MemoryQueue) -> None:
    real, seen = time.sleep, []

    @huey.task()
    def in_a_thread() -> None:
        thread = threading.Thread(target=lambda: time.sleep(0))
        thread.start()
        thread.join()
        seen.append(queue.clock.time)
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)

    in_a_thread()
    before = queue.clock.time

    assert states(queue) == ["succeeded"]
    assert (seen, time.sleep) == ([before], real)


def test_a_task_that_sleeps_past_its_limit_is_stopped(huey: Huey, queue: MemoryQueue) -> None:
    before = queue.clock.time
    huey.task(timeout=10)(lambda: time.sleep(60))()

    [run] = queue.drain()

    assert (run.state, run.reason, type(run.error)) == ("failed", "timeout", TaskTimeout)
    assert (queue.clock.time - before).total_seconds() == 10


def test_a_task_may_clean_up_after_its_limit(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task(timeout=10)
    def careful() -> str:
        try:
            time.sleep(60)
        except TaskTimeout:
            time.sleep(5)
            return "cleaned up"
        return "slept"

    careful()

    assert [run.value for run in queue.drain()] == ["cleaned up"]


def test_a_task_that_checks_its_time_is_not_interrupted(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task(timeout=10, context=True)
    def in_steps(task: Task) -> int:
        steps = 0
        while task.time_remaining > 0:
            time.sleep(3)
            steps += 1
        return steps

    in_steps.schedule()

    assert [run.value for run in queue.drain()] == [4]


def test_a_task_that_computes_past_its_limit_is_stopped(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task(timeout=0.05)
    def busy() -> None:
        while True:
            queue.clock.monotonic()

    busy()
    before = queue.clock.time
    [run] = queue.drain()

    assert (run.state, run.reason) == ("failed", "timeout")
    assert (queue.clock.time - before).total_seconds() == pytest.approx(0.05)
    wait_until(lambda: not any(thread.name == "Time limit" for thread in threading.enumerate()))


def test_a_task_that_could_not_be_stopped_is_stopped_later(huey: Huey, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            """Return once the task was asked to stop: nothing is raised inside of logging."""
            wait_until(has_deferred)

    log = logging.getLogger("tests.testing.slow")
    monkeypatch.setattr(log, "handlers", [Slow()])

    @huey.task(timeout=0.05)
    def logs() -> None:
        log.warning("This takes long")
        while True:
            queue.clock.monotonic()

    logs()

    assert [run.reason for run in queue.drain()] == ["timeout"]


# -- workflows


def test_a_pipeline_runs_to_its_end(huey: Huey, queue: MemoryQueue) -> None:
    add = huey.task(name="add")(lambda a, b: a + b)
    stages = huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4))

    assert [run.value for run in queue.drain()] == [3, 6, 10]
    assert stages.get() == [3, 6, 10]


def test_a_chord_runs_after_its_group(huey: Huey, queue: MemoryQueue) -> None:
    double, total = huey.task(name="double")(lambda n: 2 * n), huey.task(name="total")(sum)
    handle = huey.enqueue(chord(group([double.s(n) for n in (1, 2, 3)]), total.s()))

    assert [run.name for run in queue.drain()] == ["double", "double", "double", "total"]
    assert handle.get() == 12


def test_a_flow_runs_in_its_order(huey: Huey, queue: MemoryQueue) -> None:
    add = huey.task(name="add")(lambda a, b: a + b)
    flow = huey.flow("sums")
    first = flow.add(add.s(1, 2))
    flow.add(add.s(first, first))
    flow.enqueue()

    assert [run.value for run in queue.drain()] == [3, 6]


def test_the_handler_of_a_failure_runs(huey: Huey, queue: MemoryQueue) -> None:
    report = huey.task(name="report")(lambda error: repr(error))
    huey.enqueue(huey.task(name="fails")(lambda: 1 / 0).s().error(report))

    assert [(run.name, run.state) for run in queue.drain()] == [("fails", "failed"), ("report", "succeeded")]


# -- what may not hang or get lost


def test_a_task_that_enqueues_itself_for_ever_is_an_error(huey: Huey, queue: MemoryQueue) -> None:
    @huey.task(name="loop")
    def loop() -> None:
        loop()

    loop()

    with pytest.raises(RuntimeError, match=r"drain\(\) has run 50 tasks, and there are more; most often: loop 51 times\. A task that"):
        queue.drain(max_runs=50)
    assert [each.task.name for each in queue.enqueued()] == ["loop"]


def test_a_wait_for_another_task_inside_a_task_is_hopeless(huey: Huey, queue: MemoryQueue) -> None:
    one = huey.task(name="one")(lambda: 1)
    huey.task(name="waits")(lambda: one().get(blocking=True))()

    runs = queue.drain()

    assert [(run.name, type(run.error)) for run in runs] == [("waits", HopelessWait), ("one", type(None))]
    assert queue.clock.time == MONDAY


def test_draining_inside_a_task_is_an_error(huey: Huey, queue: MemoryQueue) -> None:
    huey.task()(lambda: queue.drain() and None)()

    assert "drain() inside a task" in repr(queue.drain()[0].error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.fail.Exception])
def test_what_ends_the_test_is_raised_here(huey: Huey, queue: MemoryQueue, error: type[BaseException]) -> None:
    @huey.task()
    def stops() -> None:
        raise error("stop")

    stops()
    huey.task(name="next")(lambda: 1)()

    with pytest.raises(error):
        queue.drain()
    assert [each.task.name for each in queue.enqueued()] == ["next"]


def test_a_task_that_was_unknown_runs_once_it_is_known(huey: Huey, queue: MemoryQueue) -> None:
    early = huey.task(name="late")(lambda: 1)
    early()
    early.unregister()
    assert [run.state for run in queue.drain()] == ["blocked"]

    huey.task(name="late")(lambda: 2)

    assert [run.value for run in queue.drain()] == [2]


def test_a_paused_queue_runs_nothing(huey: Huey, queue: MemoryQueue) -> None:
    huey.task()(lambda: 1)()
    huey.inspector.pause()

    assert queue.drain() == []


def test_no_worker_is_left(huey: Huey, queue: MemoryQueue) -> None:
    huey.task()(lambda: 1)()
    queue.drain()

    assert huey.inspector.workers() == []
