"""The engine and suspects: tasks that ran when their worker died."""

from __future__ import annotations

from huey.engine.engine import Engine
from huey.engine.prefetch import LONGEST_SUSPECT_WAIT
from huey.runtime.clock import SECOND
from huey.storage.base import LEASE
from huey.task.lifecycle import MAX_DEATHS, State, WorkerDied
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, end, get_row, seen, task
from tests.engine.bench import Bench, died_with
from tests.support.scripted import ScriptedStorage


def test_a_suspect_runs_alone(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("a", "b")

    four.turn()
    assert four.runners.running == ["a", "b"]

    four.runners.end("a")
    four.turn()
    assert four.runners.running == ["b"]

    four.runners.end("b")
    four.turn()
    assert four.runners.running == ["suspect"]


def test_while_a_suspect_waits_or_runs_nothing_is_claimed(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("a", "b")
    four.turn()
    four.enqueue("c")
    four.storage.wants.clear()

    four.runners.end("a")
    four.turn()
    four.runners.end("b")
    four.turn()
    four.turn()

    assert four.storage.wants == [0, 0, 0]
    four.runners.end("suspect")
    four.turn()
    four.turn()
    assert four.runners.running == ["c"]


def test_suspects_run_one_after_the_other(four: Bench) -> None:
    died_with(four, "a", "b", "c")

    ran = []
    for _ in range(6):
        four.turn()
        assert len(four.runners.runs) <= 1
        ran += four.runners.running
        four.runners.end_all()
    four.turn()

    assert ran == ["a", "b", "c"]
    assert set(four.storage.items("result")) == {"a", "b", "c"}


def test_a_task_that_kills_takes_no_neighbour_along(clock: FakeClock) -> None:
    storage = ScriptedStorage(clock)
    storage.enqueue([task("a-kills"), task("b"), task("c")])

    for _ in range(3 * MAX_DEATHS):
        # Each worker lives until it starts the task that kills.
        bench = Bench(clock, 4)
        bench.storage = storage
        bench.engine = Engine(storage, OTHER, bench.runners, clock, bench.waker)
        bench.turn()
        while bench.runners.runs and "a-kills" not in bench.runners.running:
            bench.runners.end_all()
            bench.turn()
        clock.forward(LEASE / SECOND)
        for lease in storage.reclaim(seen(storage, OTHER), ME):
            end(storage, clock, lease, WorkerDied())

    assert get_row(storage, "a-kills").reason == "poison"
    assert set(storage.items("result")) >= {"b", "c"}


def test_a_suspect_waits_a_second_for_what_runs(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("long")
    four.turn()
    four.clock.forward(LONGEST_SUSPECT_WAIT)
    four.turn()
    assert four.runners.running == ["long"]

    four.clock.forward(0.001)
    four.turn()

    assert four.runners.running == ["long", "suspect"]


def test_nothing_is_claimed_while_a_suspect_runs_beside_others(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("long")
    four.turn()
    four.clock.forward(LONGEST_SUSPECT_WAIT + 0.001)
    four.turn()
    four.enqueue("late")

    four.turn()

    assert four.runners.running == ["long", "suspect"]


def test_the_end_of_a_lost_lease_is_not_that_of_the_next(four: Bench) -> None:
    four.enqueue("a")
    four.turn()
    four.clock.forward(60)
    for lease in four.storage.reclaim(seen(four.storage), OTHER):
        end(four.storage, four.clock, lease, WorkerDied(), by=OTHER)
    four.turn()
    four.clock.forward(LONGEST_SUSPECT_WAIT + 0.001)
    four.turn()
    assert [(lease.id, lease.token) for lease in four.runners.runs] == [("a", 1), ("a", 3)]

    four.runners.end("a")
    four.turn()
    four.engine.stop()

    assert [lease.token for lease in four.engine.drain(0.0)] == [3]


def test_a_lost_claim_is_found_beside_an_older_run(four: Bench) -> None:
    four.enqueue("a")
    four.turn()
    four.clock.forward(60)
    for lease in four.storage.reclaim(seen(four.storage), OTHER):
        end(four.storage, four.clock, lease, WorkerDied(), by=OTHER)
    four.storage.loses = "turn"

    assert not four.turn()
    assert four.turn()

    assert (get_row(four.storage).state, get_row(four.storage).token) == (State.QUEUED, 3)
