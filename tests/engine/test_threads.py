"""Threads that run tasks: each task once, none left behind, few woken."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from huey.engine.runners.threads import ThreadRunners
from huey.task.lifecycle import Finish, Returned, decide
from huey.task.record import Lease
from huey.testing.contract.tools import Call
from tests.support.helpers import wait_until


def lease(id: str) -> Lease:
    return Lease(id, 1, "app.add", b"", 0, 0, None, 0, 0.0, 0, 0, 0, None, None)


def leases(count: int) -> list[Lease]:
    return [lease(f"{n:05}") for n in range(count)]


def start(runners: ThreadRunners, leases: list[Lease], awake: int) -> None:
    runners.submit(leases)
    runners.wake(awake)


class Bodies:
    """What runs: bodies that wait for their gate, if they have one."""

    def __init__(self) -> None:
        self.overrides: dict[str, threading.Event] = {}
        self.started: list[str] = []

    def hold(self, *ids: str) -> None:
        self.overrides.update({id: threading.Event() for id in ids})

    def let_go(self, *ids: str) -> None:
        for id in ids or list(self.overrides):
            self.overrides[id].set()

    def execute(self, lease: Lease, slot: int = 0) -> Finish:
        self.started.append(lease.id)
        if lease.id in self.overrides:
            self.overrides[lease.id].wait()
        return decide(lease, Returned(None), 0)


Make = Callable[..., ThreadRunners]


@pytest.fixture
def bodies() -> Iterator[Bodies]:
    bodies = Bodies()
    yield bodies
    bodies.let_go()


@pytest.fixture
def make(bodies: Bodies) -> Iterator[Make]:
    made: list[ThreadRunners] = []

    def make_them(count: int, notify: Callable[[], None] = lambda: None) -> ThreadRunners:
        made.append(ThreadRunners(count, bodies.execute, notify, "Runner"))
        made[-1].open()
        wait_until(lambda: made[-1].idle() == count)
        return made[-1]

    yield make_them
    bodies.let_go()
    for runners in made:
        assert runners.close(10.0)


def collected(runners: ThreadRunners, count: int) -> list[str]:
    """The ids of so many ends, in their order."""
    ended: list[str] = []

    def all_ended() -> bool:
        ended.extend(finish.lease.id for finish in runners.collect())
        return len(ended) >= count

    wait_until(all_ended, told=lambda: f"ended: {len(ended)} of {count}")
    return ended


def test_one_runner_runs_in_order(make: Make, bodies: Bodies) -> None:
    runners = make(1)

    start(runners, leases(500), 1)

    assert collected(runners, 500) == [lease.id for lease in leases(500)]
    assert bodies.started == [lease.id for lease in leases(500)]


def test_many_runners_run_each_task_once(make: Make, bodies: Bodies) -> None:
    runners = make(8)

    for first in range(0, 4000, 100):
        start(runners, [lease(f"{n:05}") for n in range(first, first + 100)], 8)

    assert sorted(collected(runners, 4000)) == [lease.id for lease in leases(4000)]
    assert len(bodies.started) == 4000


def test_only_as_many_runners_are_woken_as_asked_for(make: Make, bodies: Bodies) -> None:
    runners = make(4)
    bodies.hold("00000")

    start(runners, leases(3), 1)

    wait_until(lambda: bodies.started)
    assert (bodies.started, runners.waiting(), runners.idle()) == (["00000"], 2, 3)
    bodies.let_go()
    assert collected(runners, 3) == ["00000", "00001", "00002"]


def test_runners_that_are_awake_are_not_woken_again(make: Make, bodies: Bodies) -> None:
    runners = make(4)
    bodies.hold("00000", "00001")
    start(runners, leases(1), 1)
    wait_until(lambda: bodies.started == ["00000"])

    start(runners, [lease("00001")], 2)
    wait_until(lambda: len(bodies.started) == 2)

    assert runners.idle() == 2


def test_a_start_of_nothing_wakes_those_that_sleep(make: Make, bodies: Bodies) -> None:
    runners = make(4)
    bodies.hold("00000", "00001", "00002")
    start(runners, leases(3), 1)
    wait_until(lambda: bodies.started)

    runners.wake(4)

    wait_until(lambda: len(bodies.started) == 3)
    assert runners.waiting() == 0


def test_asking_for_more_than_there_are_wakes_all(make: Make, bodies: Bodies) -> None:
    runners = make(2)
    bodies.hold("00000", "00001")

    start(runners, leases(5), 99)

    wait_until(lambda: len(bodies.started) == 2)
    assert (runners.waiting(), runners.idle()) == (3, 0)


class Parking(deque[threading.Lock]):
    """Where runners sleep; something happens just before or just after one lies down."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def append(self, gate: threading.Lock) -> None:
        self.before()
        super().append(gate)
        self.after()


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_task_that_comes_as_a_runner_sleeps_is_not_left(bodies: Bodies, side: str) -> None:
    runners = ThreadRunners(1, bodies.execute, lambda: None)
    comes = iter(leases(20))

    def one_comes() -> None:
        for task in comes:
            start(runners, [task], 1)
            return

    acts = {"before": lambda: None, "after": lambda: None, side: one_comes}
    runners._idle = Parking(acts["before"], acts["after"])
    runners.open()

    assert collected(runners, 20) == [lease.id for lease in leases(20)]
    wait_until(lambda: runners.idle() == 1)
    assert runners.close(10.0)


def test_a_task_given_at_any_moment_runs_without_a_second_push(make: Make) -> None:
    ended = threading.Semaphore(0)
    runners = make(2, ended.release)

    for n in range(3000):
        start(runners, [lease(f"{n:05}")], 1)
        # The next comes as the runner is about to lie down, which is when a wake-up could be lost.
        while not runners.ended():
            assert ended.acquire(timeout=10), f"task {n} was left behind"
        runners.collect()


def test_the_engine_is_told_when_nothing_is_left_to_start(make: Make, bodies: Bodies) -> None:
    told: list[int] = []
    runners = make(1, lambda: told.append(runners.ended()))  # type: ignore[has-type]

    start(runners, leases(5), 1)

    collected(runners, 5)
    wait_until(lambda: told)
    assert len(told) == 1


def test_the_engine_is_told_at_low_water(make: Make, bodies: Bodies) -> None:
    told: list[int] = []
    runners = make(1, lambda: told.append(runners.waiting()))  # type: ignore[has-type]
    runners.low_water = 3

    start(runners, leases(6), 1)

    wait_until(lambda: len(told) == 2)
    assert told == [3, 0]


def test_what_has_not_started_can_be_taken_back_in_order(make: Make, bodies: Bodies) -> None:
    runners = make(1)
    bodies.hold("00000")
    start(runners, leases(4), 1)
    wait_until(lambda: bodies.started)

    taken = runners.take_back()

    assert [lease.id for lease in taken] == ["00001", "00002", "00003"]
    assert runners.waiting() == 0
    bodies.let_go()
    assert collected(runners, 1) == ["00000"]
    assert runners.close(10.0), "no thread is left that could start one"
    assert len(bodies.started) == 1


def test_nothing_is_both_run_and_taken_back(make: Make, bodies: Bodies) -> None:
    runners = make(4)
    taken: list[str] = []

    for round in range(100):
        start(runners, [lease(f"{n:05}") for n in range(round * 20, round * 20 + 20)], 4)
        taken += [lease.id for lease in runners.take_back()]

    ended = collected(runners, 2000 - len(taken))
    assert sorted(ended + taken) == [lease.id for lease in leases(2000)]
    assert sorted(bodies.started) == sorted(ended)


def test_collect_gives_each_end_once(make: Make) -> None:
    runners = make(2)
    start(runners, leases(10), 2)
    wait_until(lambda: runners.ended() == 10)

    assert len(runners.collect()) == 10
    assert (runners.collect(), runners.ended()) == ([], 0)


def test_close_ends_the_threads(make: Make) -> None:
    runners = make(3)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("Runner ")]

    assert runners.close(10.0)

    assert not any(thread.is_alive() for thread in threads)
    assert runners.close(10.0), "again is harmless"


def test_close_waits_for_what_runs(make: Make, bodies: Bodies) -> None:
    runners = make(2)
    bodies.hold("00000")
    start(runners, leases(1), 1)
    wait_until(lambda: bodies.started)

    had_ended: list[int] = []
    closing = Call(lambda: (runners.close(10.0), had_ended.append(runners.ended())))
    bodies.let_go()

    assert closing.answer()[0] is True
    assert had_ended == [1]
    assert collected(runners, 1) == ["00000"]


def test_close_says_when_something_runs_on(make: Make, bodies: Bodies) -> None:
    runners = make(1)
    bodies.hold("00000")
    start(runners, leases(1), 1)
    wait_until(lambda: bodies.started)

    assert runners.close(0.0) is False


@pytest.mark.slow_machine
def test_close_has_one_timeout_for_all_threads_together(make: Make, bodies: Bodies) -> None:
    runners = make(6)
    bodies.hold(*(lease.id for lease in leases(6)))
    start(runners, leases(6), 6)
    wait_until(lambda: len(bodies.started) == 6)
    began = time.monotonic()

    assert runners.close(1) is False

    assert time.monotonic() - began < 5


def test_threads_have_names(make: Make) -> None:
    make(2)

    assert {"Runner 1", "Runner 2"} <= {thread.name for thread in threading.enumerate()}


# -- runners that end ----------------------------------------------------------------------------------------------------------------------


class BrokenOnce:
    """Completes tasks, but for the first, at which it raises."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def execute(self, lease: Lease, slot: int = 0) -> Finish:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return decide(lease, Returned(None), 0)


@pytest.mark.parametrize("error", [ValueError("a fault"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_is_raised_ends_its_task_and_no_runner(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    runners = ThreadRunners(1, BrokenOnce(error).execute, lambda: None)
    runners.open()

    start(runners, leases(3), 1)

    wait_until(lambda: runners.ended() == 3)
    first, *others = runners.collect()
    assert (first.state, first.reason) == ("failed", "error")
    assert {finish.state for finish in others} == {"succeeded"}
    assert runners.revive() == []
    assert runners.close(20)
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_ended_thread_is_started_again_and_its_task_put_back(bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    """No crash is counted; the end of it is written like any other."""
    runners = ThreadRunners(2, BrokenOnce(SystemExit()).execute, lambda: None)
    real, gone = runners._abandon, [False]

    def die(*args: object) -> None:
        if not gone[0]:
            gone[0] = True
            raise SystemExit
        real(*args)  # type: ignore[arg-type]

    # The guard at the top fails too.
    monkeypatch.setattr(runners, "_abandon", die)
    runners.open()
    start(runners, [lease("a")], 1)
    wait_until(lambda: not all(thread.is_alive() for thread in runners._threads))

    (name,) = runners.revive()
    start(runners, [lease("b")], 2)

    wait_until(lambda: runners.ended() == 2)
    back, done = sorted(runners.collect(), key=lambda finish: finish.lease.id)
    assert name.startswith("Worker ")
    assert (back.lease.id, back.state, back.solo_crashes, back.attempt) == ("a", "queued", 0, 0)
    assert done.state == "succeeded"
    assert all(thread.is_alive() for thread in runners._threads)
    assert runners.close(20)
    assert runners.revive() == []


def test_a_runner_that_ended_asleep_is_not_woken(bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    runners = ThreadRunners(1, bodies.execute, lambda: None)
    real, rounds = runners._sleep, []

    def park(gate: threading.Lock) -> None:
        rounds.append(1)
        if len(rounds) == 1:
            runners._idle.append(gate)
            raise SystemExit
        real(gate)

    monkeypatch.setattr(runners, "_sleep", park)
    runners.open()
    wait_until(lambda: len(rounds) == 2 and runners.idle() == 1)

    for number in range(3):
        start(runners, [lease(str(number))], 1)
        wait_until(lambda number=number: runners.ended() == number + 1)  # type: ignore[misc]

    assert runners.close(20)
