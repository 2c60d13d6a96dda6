"""Who attends a run: what waits for whom, and what it costs when nobody does."""

from __future__ import annotations

import threading
from typing import Any

from huey import Huey
from huey.engine.executor import Executor
from huey.engine.run_hooks import RunHooks
from huey.hooks import Hooks
from huey.signals import HandlerGate, Signals
from huey.storage.rows import Turn
from huey.task.lifecycle import Returned, decide
from huey.task.record import Lease
from huey.task.task import Task
from huey.testing.contract.tools import Call
from tests.support.helpers import running, wait_until

LEASE = Lease("a", 1, "app.f", b"", 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


def attended(**hooks: Any) -> tuple[RunHooks, list[Any]]:
    """An attendance with a handler for ``complete``, and what it was told."""
    signals, told = Signals(), []  # type: ignore[var-annotated]
    signals.connect(lambda signal, task, *extra: told.append(signal), ["complete"])
    return RunHooks(signals, Hooks()), told


def test_a_runner_waits_until_its_end_is_written() -> None:
    attendance, told = attended()
    finish = decide(LEASE, Returned(None), 0)
    attendance.before_run(0, LEASE, Task(id="a"))
    attendance.await_commit(0, finish)
    seeing_off = Call(lambda: attendance.after_commit(0))
    assert attendance.is_awaiting
    assert (seeing_off.is_waiting, told) == (True, [])

    attendance.on_turn(Turn([]), [finish])

    seeing_off.answer()
    assert told == ["complete"]
    assert not attendance.is_awaiting


def test_a_refused_end_is_not_told_but_its_hooks_are_called() -> None:
    attendance, told = attended()
    attendance.hooks.add("post_execute", None, lambda task, value, error: told.append("post"))
    finish = decide(LEASE, Returned(None), 0)
    attendance.before_run(0, LEASE, Task(id="a"))
    attendance.await_commit(0, finish)
    attendance.on_turn(Turn([], stale=["a"]), [finish])

    attendance.after_commit(0)

    assert told == ["post"]


def test_a_run_whose_end_nobody_wants_to_know_does_not_wait() -> None:
    signals = Signals()
    signals.connect(lambda signal, task: None, ["executing"])
    attendance = RunHooks(signals, Hooks())

    attendance.before_run(0, LEASE, Task(id="a"))

    assert attendance.tracked == {}


def test_without_handlers_and_hooks_no_task_is_made(huey: Huey) -> None:
    wrapper = huey.task(name="app.f")(lambda: 1)
    attendance = RunHooks(huey.signals, huey.hooks)
    attendance.before_run = None  # type: ignore[assignment,method-assign]
    execution = Executor(huey.registry, huey.codec, huey.clock, run_hooks=attendance)

    finish = execution.execute(LEASE._replace(payload=huey.codec.encode("task", "a", ((), None))))

    assert finish.state == "succeeded"
    assert wrapper.name == "app.f"


def test_whoever_comes_with_a_held_id_waits_until_it_is_let_go() -> None:
    handler_gate = HandlerGate()
    with handler_gate.holding(["a"]):
        comes = Call(lambda: handler_gate.wait("a"))
        handler_gate.wait("b")
        assert comes.is_waiting
    comes.answer()
    handler_gate.wait("a")


def test_handlers_may_come_and_go_while_tasks_run(huey: Huey) -> None:
    told: list[str] = []
    task = huey.task()(lambda n: n)

    def note(signal: str, task: Task) -> None:
        told.append(signal)

    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            huey.signal("complete", "executing")(note)
            huey.disconnect_signal(note)

    with running(huey, workers=3):
        restless = Call(come_and_go)
        assert task.map(range(200)).get(blocking=True, timeout=20) == list(range(200))
        over.set()
        restless.answer()
        huey.signal("complete")(note)
        before = len(told)
        task(1).get(blocking=True, timeout=10)
        # Those before it may be told of late, too.
        wait_until(lambda: len(told) > before)
