"""The engine: what it claims, what it writes, what it gives back."""

from __future__ import annotations

import json
import logging

import pytest

from huey.engine.engine import CAREFUL, LINGER, MOMENT, STUCK
from huey.runtime.clock import SECOND
from huey.storage.base import LARGEST_TURN
from huey.storage.rows import TaskIds
from huey.task.lifecycle import Raised, Returned, Snoozed, State
from huey.task.record import Record
from huey.task.record_options import Constraints, with_constraints
from huey.testing.contract.tools import OTHER, claim_ids, get_row, ids, task
from tests.engine.bench import SHORT, Bench

# -- how much is claimed ------------------------------------------------------------------------------------------------------------------


def test_a_new_engine_claims_what_its_runners_can_start(four: Bench) -> None:
    four.enqueue_many(50)

    four.turn()

    assert len(four.runners.runs) == 4
    assert four.runners.waiting() == 0


def test_turns_double_up_to_512_while_tasks_are_short(bench: Bench) -> None:
    bench.enqueue_many(4000)

    bench.storage.at_work = lambda: bench.runners.end_all(SHORT)
    for _ in range(12):
        bench.turn()
        bench.runners.end_all(SHORT)

    assert bench.storage.wants[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(bench.storage.wants[9:]) == {LARGEST_TURN}


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


def test_a_short_task_is_written_before_the_next_listen(bench: Bench) -> None:
    bench.prove_short()
    bench.enqueue("a")

    def end_and_ring() -> None:
        bench.runners.end_all(SHORT)
        bench.waker.wake()

    bench.waker.meanwhile = end_and_ring
    bench.go_round(3)

    assert bench.storage.sent[-1] == ["a"]
    assert bench.storage.listened == 0


def test_a_longer_task_does_not_delay_the_next_listen(bench: Bench) -> None:
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


def test_runners_are_woken_during_a_turn_that_follows_at_once(bench: Bench) -> None:
    """Before that they would take Python away from the turn, and have nothing left to do while it waits for the storage."""
    bench.enqueue_many(3000)
    bench.prove_short_with_more()
    running: list[list[str]] = [bench.runners.running]
    bench.storage.at_work = lambda: running.append(bench.runners.running)

    bench.turn()

    assert [len(names) for names in running] == [0, 1]


def test_after_a_turn_cut_short_the_next_asks_for_as_many(bench: Bench) -> None:
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


def test_runners_are_woken_though_the_following_turn_fails(bench: Bench) -> None:
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


def test_a_finish_waits_at_most_five_milliseconds(bench: Bench) -> None:
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

    row = get_row(bench.storage)
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

    assert caplog.messages == ["app.add expired before it ran [a]"]


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


def test_an_at_most_once_task_needs_a_free_runner(bench: Bench) -> None:
    bench.prove_short()
    bench.storage.enqueue([at_most_once("a"), at_most_once("b"), task("c")])

    bench.turn()

    assert bench.runners.running == ["a"]
    assert [bench.storage.get(id).state for id in "ab"] == [State.RUNNING, State.QUEUED]  # type: ignore[union-attr]
    bench.runners.end("a", took=SHORT)
    bench.turn()
    assert "b" not in bench.runners.waiting_ids


def test_after_an_at_most_once_task_nothing_is_claimed_ahead(bench: Bench) -> None:
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

    bench.engine.requeue_running()

    assert (get_row(bench.storage, "a").state, get_row(bench.storage, "a").reason) == (State.FAILED, "lost")
