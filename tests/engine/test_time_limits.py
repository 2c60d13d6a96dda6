"""A task that passes its time limit is asked to stop, once, and only inside its body."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from huey import MemoryHuey
from huey.client.build import build_executor
from huey.engine.scoreboard import GRACE, Scoreboard
from huey.engine.time_limits import TimeLimits
from huey.exceptions import CancelExecution, TaskException, TaskTimeout
from huey.runtime.clock import system_clock
from huey.task.record import Lease
from huey.testing.clock import FakeClock
from tests.support.helpers import running

LEASE = Lease("a", 1, "app.f", b"", 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


def spin(is_over: threading.Event) -> None:
    while not is_over.is_set():
        is_over.wait(0.001)


def test_a_body_past_its_limit_is_asked() -> None:
    huey, never = MemoryHuey(), threading.Event()
    endless = huey.task(timeout=0.05)(lambda: spin(never))

    with running(huey), pytest.raises(TaskException, match="TaskTimeout"):
        endless().get(blocking=True, timeout=20)

    (row,) = huey.storage.find("failed")
    assert row.reason == "timeout"


def test_a_body_may_clean_up_when_it_is_asked() -> None:
    huey, never = MemoryHuey(), threading.Event()

    @huey.task(timeout=0.05)
    def careful() -> str:
        try:
            spin(never)
        except TaskTimeout:
            return "cleaned up"
        return "never"

    with running(huey):
        assert careful().get(blocking=True, timeout=20) == "cleaned up"


def test_a_task_in_time_and_the_next_one_are_left_alone() -> None:
    huey = MemoryHuey()
    quick = huey.task(timeout=30)(lambda n: n)

    with running(huey):
        assert quick.map(range(500)).get(blocking=True, timeout=20) == list(range(500))


def test_a_late_task_is_tried_again_like_any_other_failure() -> None:
    huey, runs, never = MemoryHuey(), [], threading.Event()

    @huey.task(timeout=0.05, retries=1)
    def slow_at_first() -> str:
        runs.append(1)
        if len(runs) == 1:
            spin(never)
        return "in time"

    with running(huey):
        assert slow_at_first().get(blocking=True, timeout=20) == "in time"


def test_what_was_asked_too_late_does_not_reach_the_next_task() -> None:
    clock = FakeClock()
    keeper, told = TimeLimits(clock), []
    entered, asked = threading.Event(), threading.Event()

    def runner() -> None:
        keeper.track(0, LEASE, 1.0)
        entered.set()
        try:
            asked.wait(20)
        except TaskTimeout:
            told.append("inside")
        keeper.untrack(0)
        # The next task, without a limit.
        try:
            spin_a_little()
        except TaskTimeout:
            told.append("outside")

    thread = threading.Thread(target=runner)
    thread.start()
    assert entered.wait(20)
    clock.forward(2)
    look_at_once(keeper)
    asked.set()
    thread.join(20)

    assert told in (["inside"], [])


def test_a_body_is_asked_once() -> None:
    huey, never, asked = MemoryHuey(), threading.Event(), []

    @huey.task(timeout=0.01)
    def stubborn() -> int:
        for _ in range(2):
            try:
                never.wait(0.2)
                spin_a_little()
            except TaskTimeout:
                asked.append(1)
        return len(asked)

    with running(huey):
        assert stubborn().get(blocking=True, timeout=20) == 1


def look_at_once(keeper: TimeLimits) -> None:
    keeper.wake()
    keeper.run_once()


def spin_a_little() -> int:
    return sum(n for n in range(10_000))


@pytest.mark.parametrize("timeout", [None, 0, 0.0])
def test_zero_is_no_limit(timeout: Any) -> None:
    wrapper = MemoryHuey().task(timeout=timeout)(lambda: None)

    assert wrapper.options.timeout is None


@pytest.mark.parametrize("timeout", ["soon", -1, -0.5, float("nan")])
def test_a_limit_that_is_no_number_or_negative_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        MemoryHuey().task(timeout=timeout)


def test_the_page_is_told_of_every_task() -> None:
    from huey.engine.scoreboard import Scoreboard

    page = Scoreboard(1)
    keeper = TimeLimits(system_clock, page)
    keeper.track(0, LEASE, None)
    assert [(it.id, it.token, it.limit) for it in page.running()] == [("a", 1, 0)]

    keeper.untrack(0)
    assert page.running() == []
    page.close()


# Revoked while it runs


class Runner:
    """A runner's thread that enters, waits in its body, leaves, and runs on."""

    def __init__(self, keeper: TimeLimits, lease: Lease = LEASE) -> None:
        self.entered, self.may_end, self.has_left = threading.Event(), threading.Event(), threading.Event()
        self.told: list[str] = []
        self.was_asked: bool | None = None
        self._keeper = keeper
        self._lease = lease
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.entered.wait(20)

    def _run(self) -> None:
        self._keeper.track(0, self._lease, None)
        try:
            self.entered.set()
            self.may_end.wait(20)
            spin_a_little()
        except CancelExecution:
            self.told.append("inside")
            self.was_asked = self._keeper.was_asked_to_stop(0)
        self._keeper.untrack(0)
        self.has_left.set()
        try:
            spin_a_little()
        except CancelExecution:
            self.told.append("outside")

    def end(self) -> list[str]:
        self.may_end.set()
        self.thread.join(20)
        return self.told


def test_a_revoked_body_is_asked_to_stop() -> None:
    keeper = TimeLimits(system_clock)
    runner = Runner(keeper)
    assert keeper.running() == [LEASE]

    keeper.stop({"a"})

    assert runner.end() == ["inside"]
    assert runner.was_asked is True
    assert keeper.was_asked_to_stop(0) is False
    assert keeper.running() == []


def test_others_and_what_has_ended_are_left_alone() -> None:
    keeper = TimeLimits(system_clock)
    runner = Runner(keeper)
    keeper.stop({"b"})
    assert runner.end() == []

    keeper.stop({"a"})

    assert keeper.was_asked_to_stop(0) is False


def test_a_task_asked_at_any_moment_is_cancelled_or_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    huey, keeper = MemoryHuey(), TimeLimits(system_clock)
    huey.task(name="app.f")(spin_a_little)
    execution = build_executor(huey.client.context, huey.client.overrides, keeper)
    lease = LEASE._replace(payload=huey.codec.encode("task", "a", ((), None)))
    states: list[str] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            while states.count("cancelled") < 100 or states.count("succeeded") < 100:
                states.append(execution.execute(lease).state)
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        keeper.stop({"a"})
        thread.join(0.0001)

    assert wrong == []
    assert set(states) == {"cancelled", "succeeded"}
    assert "as it should" not in caplog.text


def test_the_page_tells_which_task_was_asked() -> None:
    from huey.engine.scoreboard import Scoreboard

    page = Scoreboard(1)
    keeper = TimeLimits(system_clock, page)
    runner = Runner(keeper)
    keeper.stop({"a"})
    assert [it.is_asked for it in page.running()] == [True]

    runner.end()
    keeper.track(0, LEASE, None)
    assert [it.is_asked for it in page.running()] == [False]
    page.close()


# -- bodies that look at their time by themselves -----------------------------------------------------------------------------------------


class RateLimited:
    """A body that runs in a thread, and what was raised in it."""

    def __init__(self, keeper: TimeLimits) -> None:
        self.raised: list[type[BaseException]] = []
        self.is_in, self.is_over = threading.Event(), threading.Event()
        self.keeper = keeper
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.is_in.wait(20)
        self.left = keeper.time_left_of(0)

    def _run(self) -> None:
        self.keeper.track(0, LEASE, 60.0)
        self.is_in.set()
        try:
            spin(self.is_over)
        except TaskTimeout as error:
            self.raised.append(type(error))
        self.keeper.untrack(0)

    def ends(self) -> list[type[BaseException]]:
        self.is_over.set()
        self.thread.join(20)
        return self.raised


@pytest.mark.parametrize("with_page", [True, False])
def test_a_body_that_looks_at_its_time_is_only_told(with_page: bool) -> None:
    """Also when it looks for the first time after its limit, before anything was raised. Its grace begins."""
    clock, page = FakeClock(), Scoreboard(1) if with_page else None
    body = RateLimited(keeper := TimeLimits(clock, page))
    clock.forward(61)
    assert body.left() == -1.0

    look_at_once(keeper)
    clock.forward(GRACE - 2)
    look_at_once(keeper)

    assert body.ends() == []
    if page is not None:
        assert page.ended()[0].is_cooperative
        page.close()


def test_without_a_supervisor_it_is_raised_after_the_grace() -> None:
    """There nobody can end the process, so asking is all there is."""
    clock = FakeClock()
    body = RateLimited(keeper := TimeLimits(clock))
    body.left()
    clock.forward(61)
    look_at_once(keeper)
    clock.forward(GRACE)

    look_at_once(keeper)
    body.thread.join(20)

    assert body.ends() == [TaskTimeout]


def test_a_body_that_has_not_looked_is_raised_in() -> None:
    clock, page = FakeClock(), Scoreboard(1)
    body = RateLimited(keeper := TimeLimits(clock, page))
    clock.forward(61)

    look_at_once(keeper)
    body.thread.join(20)

    assert body.ends() == [TaskTimeout]
    # Too late to be one that cooperates.
    body.left()
    assert not page.ended()[0].is_cooperative
    page.close()


@pytest.mark.parametrize("ask", ["task.is_timed_out", "task.time_remaining", "task.check_timeout()"])
def test_each_way_of_looking_makes_a_body_cooperative(ask: str) -> None:
    """It keeps what it has done so far, as in 3.x."""
    huey = MemoryHuey()

    @huey.task(timeout=0.2, context=True)
    def partial(task: Any) -> int:
        done = 0
        eval(ask)
        while task.time_remaining > -0.5:
            done += 1
        return 1 if done else 0

    with running(huey):
        assert partial().get(blocking=True, timeout=20) == 1  # type: ignore[call-arg]


def test_a_look_of_the_run_before_counts_for_nothing() -> None:
    """A task object that outlives its run."""
    clock = FakeClock()
    first = RateLimited(keeper := TimeLimits(clock))
    assert first.ends() == []
    second = RateLimited(keeper)

    first.left()
    clock.forward(61)
    look_at_once(keeper)
    second.thread.join(20)

    assert second.ends() == [TaskTimeout]
