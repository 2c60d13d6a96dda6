"""The crank: what it claims, what it writes, what it gives back."""

from __future__ import annotations

import json
import logging

import pytest

from huey.consumer.janitor import Janitor
from huey.engine.engine import CAREFUL, LARGEST_TURN, LINGER, LONGEST_OUTAGE_GAP, MOMENT, PATIENCE, STUCK, Engine
from huey.runtime.clock import SECOND
from huey.storage.base import LEASE
from huey.storage.rows import TaskIds
from huey.task.lifecycle import MAX_DEATHS, Raised, Returned, Snoozed, State, WorkerDied, decide
from huey.task.record import Record
from huey.task.record_options import Constraints, with_constraints
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, claim_ids, end, ids, look, seen, task
from tests.support.helpers import InThread, wait_until
from tests.support.scripted import OnceRound, ScriptedRunners, ScriptedStorage, ScriptedWaker

SHORT = 20e-6
"""Seconds that a short body takes."""


class Bench:
    """An engine and all it stands on."""

    def __init__(self, clock: FakeClock, count: int = 1) -> None:
        self.clock = clock
        self.storage = ScriptedStorage(clock)
        self.runners = ScriptedRunners(count, clock)
        self.waker = ScriptedWaker(clock)
        self.engine = Engine(self.storage, ME, self.runners, clock, self.waker)

    def enqueue(self, *names: str) -> None:
        self.storage.enqueue([task(name) for name in names])

    def enqueue_many(self, count: int) -> None:
        for first in range(0, count, 1000):
            self.storage.enqueue([task(f"{n:05}") for n in range(first, min(first + 1000, count))])

    def turn(self) -> bool:
        return self.engine.turn()

    def go_round(self, rounds: int) -> None:
        """So many rounds of the engine's loop. The first always turns."""
        self.waker.rounds = rounds
        with pytest.raises(OnceRound):
            self.engine.run()
        self.waker.rounds = float("inf")

    def prove_short_with_more(self) -> None:
        """Tasks have been short so far, and more are waiting than a turn brings: another turn is about to follow at once, and the runner
        sleeps until then."""
        while self.runners.runs or not self.runners.waiting():
            self.runners.end_all(SHORT)
            self.turn()

    def prove_short(self) -> None:
        """Tasks have been short so far: much may be claimed ahead."""
        self.enqueue_many(64)
        for _ in range(8):
            self.turn()
            self.runners.end_all(SHORT)
        self.turn()
        assert (self.storage.find(), self.runners.runs) == ([], [])


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


@pytest.fixture
def four(clock: FakeClock) -> Bench:
    return Bench(clock, 4)


# -- how much is claimed ------------------------------------------------------------------------------------------------------------------


def test_an_engine_that_knows_nothing_claims_what_its_runners_can_start(four: Bench) -> None:
    four.enqueue_many(50)

    four.turn()

    assert len(four.runners.runs) == 4
    assert four.runners.waiting() == 0


def test_turns_double_up_to_256_while_tasks_are_short(bench: Bench) -> None:
    bench.enqueue_many(2000)

    bench.storage.at_work = lambda: bench.runners.end_all(SHORT)
    for _ in range(12):
        bench.turn()
        bench.runners.end_all(SHORT)

    assert bench.storage.wants[:8] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert set(bench.storage.wants[8:]) == {LARGEST_TURN}


def test_no_more_is_claimed_ahead_than_50_ms_of_work(bench: Bench) -> None:
    bench.enqueue_many(2000)

    for _ in range(8):
        bench.turn()
        held = len(bench.runners.runs) + bench.runners.waiting()
        bench.runners.end_all(0.010)

    assert held == 1 + 5


def test_a_slow_task_takes_the_turns_back_at_once(bench: Bench) -> None:
    bench.enqueue_many(2000)
    for _ in range(8):
        bench.turn()
        bench.runners.end_all(SHORT)

    bench.turn()
    bench.runners.end_all(0.2)
    bench.turn()

    assert len(bench.runners.runs) + bench.runners.waiting() == 1


def test_what_runs_and_what_waits_counts_against_what_is_claimed(four: Bench) -> None:
    four.enqueue_many(10)
    four.turn()

    four.runners.end("00001")
    four.turn()

    assert four.storage.wants == [4, 1]
    assert four.runners.running == ["00000", "00002", "00003", "00004"]


def test_a_task_that_ends_in_a_moment_is_written_before_the_next_one_is_listened_for(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a")

    def end_and_ring() -> None:
        bench.runners.end_all(SHORT)
        bench.waker.wake()

    bench.waker.meanwhile = end_and_ring
    bench.go_round(3)

    assert bench.storage.sent[-1] == ["a"]
    assert bench.storage.listened == 0


def test_a_task_that_takes_longer_does_not_keep_the_next_one_from_being_listened_for(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a")

    bench.go_round(2)

    assert bench.waker.waits[0] == MOMENT
    assert bench.storage.listened == 1


def test_short_tasks_do_not_wake_a_second_runner(four: Bench) -> None:
    four.enqueue_many(100)
    four.turn()
    four.runners.end_all(SHORT)

    four.turn()

    assert four.runners.awake == [4, 1]


def test_runners_are_woken_in_the_middle_of_a_turn_that_follows_at_once(bench: Bench) -> None:
    """Before that they would take Python away from the turn, and have nothing left to do while it waits for the storage."""
    bench.enqueue_many(3000)
    bench.prove_short_with_more()
    running: list[list[str]] = [bench.runners.running]
    bench.storage.at_work = lambda: running.append(bench.runners.running)

    bench.turn()

    assert [len(names) for names in running] == [0, 1]


def test_after_a_turn_that_was_cut_short_the_next_ones_ask_for_what_it_brought_and_then_for_more(bench: Bench) -> None:
    """C14: what is claimed in vain is written twice."""
    bench.enqueue_many(3000)
    bench.prove_short_with_more()
    bench.storage.at_work = lambda: bench.runners.end_all(SHORT)
    bench.storage.brings = 40
    bench.turn()
    bench.storage.brings = 10**6
    first = len(bench.storage.wants)

    for _ in range(40):
        bench.enqueue_many(LARGEST_TURN)
        bench.turn()
        bench.runners.end_all(SHORT)

    assert bench.storage.wants[first : first + 3] == [40, 46, 52]
    assert bench.storage.wants[-1] == LARGEST_TURN


def test_heavy_tasks_are_held_for_one_turn_only(bench: Bench) -> None:
    bench.enqueue_many(3000)
    bench.prove_short_with_more()
    bench.storage.brings = 9
    turns = len(bench.storage.wants)

    bench.go_round(4)

    assert len(bench.storage.wants) == turns + 1


def test_runners_are_woken_though_the_turn_that_follows_at_once_fails(bench: Bench) -> None:
    bench.enqueue_many(3000)
    bench.prove_short_with_more()
    bench.storage.is_away = True

    bench.turn()

    assert len(bench.runners.running) == 1


def test_runners_are_woken_at_once_when_no_turn_follows(four: Bench) -> None:
    four.enqueue_many(10)

    four.turn()

    assert four.runners.awake == [4]


def test_the_order_of_the_queue_is_the_order_of_the_start(four: Bench) -> None:
    four.storage.enqueue([task("late"), task("first", priority=1), task("later")])

    four.turn()

    assert four.runners.running == ["first", "late", "later"]


# -- when it is written -------------------------------------------------------------------------------------------------------------------


def test_a_finish_leaves_at_once_when_nothing_else_is_to_start(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.runners.end("a")
    ended = bench.clock.monotonic()

    bench.go_round(1)

    assert bench.storage.peek("result", "a") == b"done"
    assert bench.clock.monotonic() == ended


def test_an_idle_engine_that_is_rung_writes_what_has_ended(four: Bench) -> None:
    four.enqueue("a", "b")

    def one_ends() -> None:
        if "a" in four.runners.running:
            four.runners.end("a")
            four.waker.wake()

    four.waker.meanwhile = one_ends
    began = four.clock.monotonic()
    four.go_round(3)

    assert four.storage.sent == [[], ["a"]]
    assert four.clock.monotonic() == began, "not one wait was waited out"


def test_while_others_wait_to_start_a_finish_waits_five_milliseconds_at_most(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.storage.sent.clear()
    bench.runners.end("a", took=SHORT)
    ended = bench.clock.monotonic()

    bench.waker.meanwhile = lambda: None
    bench.go_round(4)

    assert bench.storage.sent[0] == ["a"]
    assert bench.clock.monotonic() - ended <= 3 * LINGER * SECOND


def test_a_retry_is_written_with_its_attempt(bench: Bench) -> None:
    bench.storage.enqueue([task("a", retries=1, retry_delay=5.0)])
    bench.turn()
    bench.runners.end("a", Raised({"error": "E()", "traceback": ""}))

    bench.turn()

    row = look(bench.storage)
    assert (row.state, row.attempt, row.due) == (State.QUEUED, 1, bench.clock.now() + 5 * SECOND)


def test_new_work_is_found_as_soon_as_the_storage_tells_of_it(bench: Bench) -> None:
    bench.waker.meanwhile = lambda: None if bench.storage.find() else bench.enqueue("a")

    bench.go_round(4)

    assert bench.runners.running == ["a"]


def test_while_all_runners_are_busy_nobody_listens_for_work(bench: Bench) -> None:
    bench.enqueue("a", "b")

    bench.go_round(5)

    assert bench.storage.listened == 0
    assert (bench.runners.running, bench.runners.waiting()) == (["a"], 0)


def test_a_queue_full_of_revoked_tasks_is_emptied(bench: Bench) -> None:
    bench.enqueue("a", "b", "c")
    bench.storage.revoke(TaskIds(["a", "b"]))

    bench.go_round(8)

    assert bench.runners.running == ["c"]
    assert ids(bench.storage.find(State.CANCELLED)) == ["a", "b"]


# -- a runner that is stuck ---------------------------------------------------------------------------------------------------------------


def test_what_waits_behind_a_stuck_runner_goes_back_to_its_place(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    assert (bench.runners.running, bench.runners.waiting_ids) == (["a"], ["b", "c"])
    bench.clock.forward(1)
    bench.enqueue("d")

    bench.go_round(int(STUCK / LINGER) + 6)

    assert bench.runners.waiting() == 0
    assert bench.runners.running == ["a"]
    assert claim_ids(bench.storage, 9, by=OTHER) == ["b", "c", "d"]


def test_behind_a_stuck_runner_nothing_is_claimed_ahead_any_more(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.go_round(int(STUCK / LINGER) + 6)
    bench.storage.wants.clear()

    bench.go_round(3)

    assert set(bench.storage.wants) == {0}


def test_nothing_goes_back_while_the_runners_move(bench: Bench) -> None:
    bench.prove_short()
    names = [f"t{n:02}" for n in range(40)]
    bench.enqueue(*names)
    bench.turn()
    assert bench.runners.waiting() == 39
    bench.waker.meanwhile = lambda: bench.runners.end(bench.runners.running[0], took=SHORT)

    bench.go_round(20)

    assert bench.storage.counts().ready == 0
    assert len(bench.runners.runs) == 1


def test_tasks_that_wait_anew_get_their_whole_time(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.go_round(2)
    bench.runners.end_all(SHORT)
    bench.turn()
    bench.clock.forward(10)
    bench.enqueue("d", "e", "f")
    bench.turn()

    bench.go_round(3)

    assert bench.runners.waiting_ids == ["e", "f"], "they waited for a few milliseconds only"


def test_a_runner_that_sleeps_while_tasks_wait_is_woken(four: Bench) -> None:
    four.enqueue("a", "b")
    four.turn()
    # Runners that were not told of the second task: as if one was woken for two short ones.
    four.runners.ready.append(four.runners.runs.pop())
    four.runners.awake.clear()

    four.go_round(4)

    assert four.runners.running == ["a", "b"]
    assert four.runners.awake == [4]


# -- the storage is away ------------------------------------------------------------------------------------------------------------------


def test_while_the_storage_is_away_finishes_are_kept_and_claims_stop(four: Bench, caplog: pytest.LogCaptureFixture) -> None:
    four.enqueue("a", "b", "c", "d", "e", "f")
    four.turn()
    four.storage.is_away = True
    four.storage.wants.clear()

    with caplog.at_level(logging.INFO):
        for name in ("a", "b", "c"):
            four.runners.end(name)
            assert not four.turn()
        four.storage.is_away = False
        assert four.turn()

    assert four.storage.wants == [1, 0, 0, 0], "the first could not know, the last only looks whether it is back"
    assert four.storage.items("result") == {"a": b"done", "b": b"done", "c": b"done"}
    assert [line for line in caplog.messages if "succeeded" not in line] == [
        "storage is away, claims stop until it is back; running tasks go on: away",
        "storage is back after 0.0 s: 3 finished tasks written",
    ]
    four.turn()
    assert four.runners.running == ["d", "e", "f"]


def test_while_the_storage_is_full_ends_are_written_and_claims_stop(four: Bench, caplog: pytest.LogCaptureFixture) -> None:
    four.enqueue("a", "b", "c", "d", "e", "f")
    four.turn()
    four.storage.is_full = True
    with caplog.at_level(logging.INFO):
        four.runners.end("a")
        assert not four.turn(), "the loop rests before it asks again"
        four.runners.end("b")
        assert not four.turn()
        assert four.storage.items("result") == {"a": b"done", "b": b"done"}
        assert four.runners.running == ["c", "d"]

        four.storage.is_full = False
        assert four.turn()

    assert [line for line in caplog.messages if "succeeded" not in line] == [
        "storage is away, claims stop until it is back; running tasks go on: the disk is full; ends of tasks are still written",
        "storage is back after 0.0 s",
    ]
    four.turn()
    assert four.runners.running == ["c", "d", "e", "f"]


def test_each_outage_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        bench.storage.is_away = True
        bench.turn()
        bench.turn()
        bench.storage.is_away = False
        bench.turn()

    assert [record.levelname for record in caplog.records].count("ERROR") == 2


def test_an_outage_is_waited_out_in_steps(bench: Bench) -> None:
    bench.storage.is_away = True
    loop = InThread(bench.engine.run)
    wait_until(lambda: bench.storage.wants)

    bench.storage.is_away = False
    bench.enqueue("a")
    wait_until(lambda: bench.runners.running == ["a"])
    bench.engine.stop()
    loop.answer()

    assert LONGEST_OUTAGE_GAP <= 1.0, "C15: everything goes on within five seconds"


def test_a_stop_ends_the_wait_for_a_storage_that_is_away(bench: Bench) -> None:
    bench.storage.is_away = True
    loop = InThread(bench.engine.run)
    wait_until(lambda: bench.storage.wants)

    bench.engine.stop()

    loop.answer()


def test_a_storage_that_goes_away_while_the_engine_listens_does_not_end_it(bench: Bench) -> None:
    bench.storage.is_deaf = True

    bench.go_round(4)

    assert len(bench.storage.wants) > 1


def test_a_finish_whose_reply_was_lost_is_sent_again_and_then_taken_as_done(bench: Bench) -> None:
    bench.storage.enqueue([task("a", retries=1)])
    bench.turn()
    bench.runners.end("a", Raised({"error": "E()", "traceback": ""}))
    bench.storage.pause(True)
    bench.storage.loses = "turn"
    bench.storage.sent.clear()

    assert not bench.turn()
    assert bench.turn()
    assert bench.turn()

    assert bench.storage.sent == [["a"], ["a"], []]
    assert (look(bench.storage).state, look(bench.storage).attempt) == (State.QUEUED, 1)


def test_what_a_turn_claimed_whose_reply_was_lost_is_run_all_the_same(bench: Bench) -> None:
    janitor = Janitor(bench.storage, ME, bench.clock, lambda finish: finish)
    bench.enqueue("a")
    bench.storage.loses = "turn"

    for _ in range(5):
        bench.go_round(5)
        janitor.run_once()
        bench.clock.forward(LEASE / SECOND)

    assert bench.runners.running == ["a"]


def test_a_refused_finish_is_told_and_not_sent_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.clock.forward(60)
    taken = bench.storage.reclaim(seen(bench.storage), OTHER)
    bench.runners.end("a")
    bench.storage.sent.clear()

    bench.turn()
    bench.turn()

    assert bench.storage.sent == [["a"], []]
    assert bench.storage.peek("result", "a") is None
    assert look(bench.storage).worker == OTHER.id
    assert [lease.id for lease in taken] == ["a"]
    assert "1 finishes refused" in caplog.text


def test_what_could_not_be_given_back_is_given_back_later(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.engine.stop()
    bench.storage.is_away = True
    bench.waker.meanwhile = lambda: setattr(bench.storage, "is_away", False)

    still = bench.engine.drain(5.0)

    assert [lease.id for lease in still] == ["a"]
    assert claim_ids(bench.storage, 9, by=OTHER) == ["b", "c"]


def test_giving_back_twice_takes_nothing_from_the_next_worker(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b")
    bench.turn()
    bench.engine.stop()
    bench.storage.loses = "release"
    taken: list[str] = []
    bench.waker.meanwhile = lambda: taken.extend(claim_ids(bench.storage, 9, by=OTHER))

    bench.engine.drain(2.0)

    assert taken == ["b"]
    assert look(bench.storage, "b").worker == OTHER.id


# -- suspects -----------------------------------------------------------------------------------------------------------------------------


def died_with(bench: Bench, *names: str, times: int = 1) -> None:
    """The worker that held these tasks died, so many times."""
    bench.enqueue(*names)
    for _ in range(times):
        leases = bench.storage.turn(OTHER, [], len(names)).leases
        bench.storage.turn(OTHER, [decide(lease, WorkerDied(), bench.clock.now()) for lease in leases], 0)
    bench.storage.wants.clear()
    bench.storage.sent.clear()


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

    assert look(storage, "a-kills").reason == "poison"
    assert set(storage.items("result")) >= {"b", "c"}


def test_a_suspect_waits_a_second_for_what_runs_and_then_runs_beside_it(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("long")
    four.turn()
    four.clock.forward(PATIENCE)
    four.turn()
    assert four.runners.running == ["long"]

    four.clock.forward(0.001)
    four.turn()

    assert four.runners.running == ["long", "suspect"]


def test_nothing_is_claimed_while_a_suspect_runs_beside_others(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("long")
    four.turn()
    four.clock.forward(PATIENCE + 0.001)
    four.turn()
    four.enqueue("late")

    four.turn()

    assert four.runners.running == ["long", "suspect"]


def test_the_end_of_a_run_that_lost_its_lease_is_not_that_of_the_next(four: Bench) -> None:
    four.enqueue("a")
    four.turn()
    four.clock.forward(60)
    for lease in four.storage.reclaim(seen(four.storage), OTHER):
        end(four.storage, four.clock, lease, WorkerDied(), by=OTHER)
    four.turn()
    four.clock.forward(PATIENCE + 0.001)
    four.turn()
    assert [(lease.id, lease.token) for lease in four.runners.runs] == [("a", 1), ("a", 3)]

    four.runners.end("a")
    four.turn()
    four.engine.stop()

    assert [lease.token for lease in four.engine.drain(0.0)] == [3]


def test_a_lease_claimed_with_a_lost_reply_is_found_also_while_an_older_run_of_its_task_goes_on(four: Bench) -> None:
    four.enqueue("a")
    four.turn()
    four.clock.forward(60)
    for lease in four.storage.reclaim(seen(four.storage), OTHER):
        end(four.storage, four.clock, lease, WorkerDied(), by=OTHER)
    four.storage.loses = "turn"

    assert not four.turn()
    assert four.turn()

    assert (look(four.storage).state, look(four.storage).token) == (State.QUEUED, 3)


# -- stopping -----------------------------------------------------------------------------------------------------------------------------


def test_after_a_stop_nothing_is_claimed(bench: Bench) -> None:
    bench.enqueue("a")
    bench.engine.stop()

    bench.engine.run()
    bench.engine.drain(1.0)

    assert set(bench.storage.wants) <= {0}
    assert bench.runners.runs == []


def test_a_stop_gives_back_what_has_not_started_at_its_place(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a", "b", "c")
    bench.turn()
    bench.clock.forward(1)
    bench.enqueue("d")
    bench.engine.stop()

    bench.engine.drain(0.0)

    assert claim_ids(bench.storage, 9, by=OTHER) == ["b", "c", "d"]
    assert look(bench.storage, "b").attempt == 0


def test_a_stop_gives_back_suspects_that_wait(four: Bench) -> None:
    died_with(four, "suspect")
    four.enqueue("a")
    four.turn()
    four.engine.stop()

    four.engine.drain(0.0)

    assert look(four.storage, "suspect").state == State.QUEUED
    assert look(four.storage, "suspect").deaths == 1


def test_drain_writes_what_ends_in_time_and_returns_what_still_runs(four: Bench) -> None:
    four.enqueue("a", "b", "c")
    four.turn()
    four.engine.stop()
    began = four.clock.monotonic()

    def one_ends() -> None:
        if four.clock.monotonic() - began >= SECOND and "b" in four.runners.running:
            four.runners.end("b")
            four.waker.wake()

    four.waker.meanwhile = one_ends
    still = four.engine.drain(2.0)

    assert [lease.id for lease in still] == ["a", "c"]
    assert four.storage.peek("result", "b") == b"done"
    assert four.clock.monotonic() - began == 2 * SECOND


def test_drain_ends_as_soon_as_nothing_runs(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.engine.stop()
    bench.waker.meanwhile = lambda: (bench.runners.end("a"), bench.waker.wake())[1]
    began = bench.clock.monotonic()

    assert bench.engine.drain(30.0) == []

    assert bench.clock.monotonic() == began
    assert bench.storage.peek("result", "a") == b"done"


def test_drain_without_a_limit_waits_for_all(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.engine.stop()
    until = bench.clock.monotonic() + 3600 * SECOND
    bench.waker.meanwhile = lambda: bench.runners.end_all() if bench.clock.monotonic() >= until else None

    assert bench.engine.drain(None) == []
    assert bench.clock.monotonic() >= until


def test_drain_keeps_to_its_time_also_when_the_storage_is_away(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.runners.end("a")
    bench.engine.stop()
    bench.storage.is_away = True
    began = bench.clock.monotonic()

    assert bench.engine.drain(5.0) == []

    assert bench.clock.monotonic() - began == 5 * SECOND


def test_what_is_cut_short_is_put_back_without_a_try(bench: Bench) -> None:
    bench.storage.enqueue([task("a", retries=1)])
    bench.turn()
    bench.engine.stop()
    bench.engine.drain(0.0)

    bench.engine.cut_short()

    row = look(bench.storage)
    assert (row.state, row.attempt, row.solo_crashes, row.deaths, row.reason) == (State.QUEUED, 0, 0, 0, "shutdown")
    assert claim_ids(bench.storage, 1, by=OTHER) == ["a"]


def test_what_ends_while_it_is_cut_short_has_ended(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.engine.stop()
    bench.engine.drain(0.0)

    bench.runners.end("a")
    bench.engine.cut_short()

    assert bench.storage.peek("result", "a") == b"done"


# -- what is told -------------------------------------------------------------------------------------------------------------------------


def test_events_are_told_while_somebody_follows(bench: Bench) -> None:
    position, _ = bench.storage.follow(None)
    bench.enqueue("a", "b")
    bench.storage.revoke(TaskIds(["b"]))
    bench.turn()
    bench.runners.end("a")

    bench.go_round(6)

    told = [json.loads(text) for text in bench.storage.follow(position)[1]]
    assert [(event["status"], event["id"]) for event in told] == [("started", "a"), ("finished", "a"), ("revoked", "b")]


def test_nothing_is_told_while_nobody_follows(bench: Bench) -> None:
    bench.enqueue("a")
    bench.turn()
    bench.runners.end("a", Returned(None))
    bench.turn()

    position, told = bench.storage.follow(None)

    assert (position, told) == (0, [])


def test_an_expired_task_is_told_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.storage.enqueue([task("a", expires=bench.clock.now() + 1)])
    bench.clock.forward(1)

    with caplog.at_level(logging.INFO):
        bench.turn()

    assert caplog.messages == ["app.add expired, it does not run [a]"]


def test_a_snoozed_task_keeps_its_tries(bench: Bench) -> None:
    bench.storage.enqueue([task("a", retries=1)])
    bench.turn()
    bench.runners.end("a", Snoozed(5.0, "limit"))

    bench.turn()
    bench.clock.forward(5)
    bench.turn()

    assert [(lease.id, lease.attempt) for lease in bench.runners.runs] == [("a", 0)]


# at most once


def at_most_once(id: str) -> Record:
    return task(id, options=with_constraints(None, Constraints(at_most_once=True)))


def test_an_at_most_once_task_is_not_claimed_ahead_of_a_free_runner(bench: Bench) -> None:
    bench.prove_short()
    bench.storage.enqueue([at_most_once("a"), at_most_once("b"), task("c")])

    bench.turn()

    assert bench.runners.running == ["a"]
    assert [bench.storage.get(id).state for id in "ab"] == [State.RUNNING, State.QUEUED]  # type: ignore[union-attr]
    bench.runners.end("a", took=SHORT)
    bench.turn()
    assert "b" not in bench.runners.waiting_ids


def test_after_an_at_most_once_task_nothing_is_claimed_ahead_for_a_while(bench: Bench) -> None:
    bench.prove_short()
    bench.storage.enqueue([at_most_once("a")])
    bench.turn()
    bench.runners.end_all(SHORT)
    bench.enqueue_many(20)

    bench.turn()
    assert len(bench.runners.waiting_ids) == 0
    bench.clock.forward(CAREFUL + 1)
    for _ in range(4):
        bench.runners.end_all(SHORT)
        bench.turn()
    assert len(bench.runners.waiting_ids) > 0


def test_an_at_most_once_task_that_is_cut_short_is_lost(bench: Bench) -> None:
    bench.storage.enqueue([at_most_once("a"), task("b")])
    bench.turn()

    bench.engine.cut_short()

    assert (look(bench.storage, "a").state, look(bench.storage, "a").reason) == (State.FAILED, "lost")
