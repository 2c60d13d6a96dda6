"""Rates of tasks: how many of a key are claimed in each window. For storages that keep constraints (``supports_constraints``)."""

from __future__ import annotations

from typing import Any

import pytest

from huey.runtime.clock import SECOND
from huey.runtime.waker import Waker
from huey.storage.base import RATE_AHEAD, Storage
from huey.storage.rows import Counts, TaskIds, TaskName
from huey.task.lifecycle import Raised, Returned, Snoozed, State, WorkerDied
from huey.task.record import Record
from huey.task.record_options import Constraints, with_constraints
from huey.task.workflow import THEN, Edge, QueuedRecord, TaskRef, Workflow
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, claim, claim_ids, end, get_row, seen, task

MINUTE = 60 * SECOND


def rated(
    id: str, most: int = 2, window: int = MINUTE, key: str = "k", *, at_once: int | None = None, name: str = "app.add", **fields: Any
) -> Record:
    constraints = Constraints(concurrency_key=key, max_running=at_once, rate=(most, window))
    return task(id, name, options=with_constraints(None, constraints), **fields)


class TaskRateRules:
    def test_no_more_tasks_start_in_a_window_than_the_rate_allows(self, storage: Storage, another: Another, clock: FakeClock) -> None:
        storage.enqueue([rated(id) for id in "abc"])
        another().enqueue([rated("d"), rated("e"), rated("f", 1, key="other"), task("g")])

        first = claim_ids(storage, 9)
        states = [get_row(storage, id).state for id in "cde"]
        counts, none = storage.counts(), claim_ids(storage, 9, by=OTHER)
        clock.forward(60)

        assert (first, none, states) == (["a", "b", "f", "g"], [], [State.BLOCKED] * 3)
        assert counts == Counts(running=4, blocked=3)
        assert claim_ids(storage, 9, by=OTHER) == ["c", "d"]
        assert claim_ids(storage, 9) == []
        clock.forward(60)
        assert claim_ids(storage, 9) == ["e"]

    def test_windows_begin_at_multiples_of_their_length(self, storage: Storage, clock: FakeClock) -> None:
        clock.forward(59)
        storage.enqueue([rated(id) for id in "abcde"])

        first = claim_ids(storage, 9)
        clock.forward(1)

        assert (first, claim_ids(storage, 9)) == (["a", "b"], ["c", "d"])
        clock.forward(59)
        assert claim_ids(storage, 9) == []

    def test_ready_tasks_spend_nothing_until_they_are_claimed(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated(id) for id in "abcdef"])
        ready = [row.id for row in storage.find("ready")]
        first = claim_ids(storage, 1)
        clock.forward(60)

        assert (ready, first) == (["a", "b"], ["a"])
        assert claim_ids(storage, 9) == ["b", "c"]
        assert claim_ids(storage, 9) == []

    def test_a_turn_says_when_the_next_window_begins(self, storage: Storage, clock: FakeClock) -> None:
        waker = Waker()
        clock.forward(20)
        storage.enqueue([rated(id) for id in "abc"])
        before = storage.turn(ME, [], 1).next_due
        due = storage.turn(ME, [], 9).next_due
        heard = storage.listen(ME, 0, waker)
        clock.forward(40)

        assert due == before == clock.now()
        assert (heard, storage.listen(ME, 0, waker)) == (False, True)
        turn = storage.turn(ME, [], 9)
        assert ([lease.id for lease in turn.leases], turn.next_due) == (["c"], None)
        waker.close()

    def test_the_best_of_a_key_come_first_whenever_they_came(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("low", priority=-5), rated("none"), rated("other")])
        storage.enqueue([rated("high", priority=5)])

        first = claim_ids(storage, 9)
        storage.enqueue([rated("higher", priority=6)])
        clock.forward(60)

        assert (first, claim_ids(storage, 9)) == (["high", "none"], ["higher", "other"])

    def test_what_waits_for_its_rate_stands_in_no_ones_way(self, storage: Storage) -> None:
        storage.enqueue([rated(f"{n:04}", priority=9) for n in range(300)])
        claim(storage, 9)
        storage.enqueue([task("other")])

        assert claim_ids(storage, 1) == ["other"]

    def test_another_run_of_a_task_spends_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("a"), rated("b")])
        a, b = claim(storage, 9)
        end(storage, clock, a, Raised({"error": "E()"}))
        end(storage, clock, b, Snoozed(0, "limit"))
        storage.retry(["a"])

        none = claim_ids(storage, 9)
        clock.forward(60)

        assert none == []
        assert claim_ids(storage, 9) == ["a", "b"]

    def test_a_release_gives_its_use_back(self, storage: Storage) -> None:
        storage.enqueue([rated(id) for id in "abc"])
        leases = claim(storage, 9)

        storage.release(ME, leases[1:])
        storage.release(ME, leases[1:])

        assert claim_ids(storage, 9) == ["b"]
        assert claim_ids(storage, 9) == []

    def test_a_release_in_a_later_window_gives_nothing_back(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated(id) for id in "abcde"])
        leases = claim(storage, 9)
        clock.forward(60)
        claim(storage, 9)

        storage.release(ME, leases)

        assert claim_ids(storage, 9) == []
        assert get_row(storage, "a").state == State.BLOCKED

    def test_tasks_that_are_cancelled_at_the_claim_spend_nothing(self, storage: Storage, clock: FakeClock) -> None:
        records = [rated("a"), rated("b"), rated("c", expires=clock.now() + SECOND), rated("d", name="app.other"), rated("e"), rated("f")]
        storage.enqueue([*records, rated("g")])
        storage.revoke(TaskIds(["b"]))
        storage.revoke(TaskName("app.other"))
        clock.forward(2)

        turns = [storage.turn(ME, [], 9) for _ in range(5)]

        assert [[cancelled.id for cancelled in turn.cancelled] for turn in turns] == [["b"], ["c"], ["d"], [], []]
        assert [[lease.id for lease in turn.leases] for turn in turns] == [["a"], [], [], ["e"], []]

    def test_a_dead_workers_task_spends_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("a", 1, 3600 * SECOND), rated("b", 1, 3600 * SECOND)])
        claim(storage)
        clock.forward(60)

        lease = storage.reclaim(seen(storage), OTHER)[0]
        end(storage, clock, lease, WorkerDied(is_suspect=False), by=OTHER)

        assert claim_ids(storage, 9) == []
        clock.forward(3540)
        assert claim_ids(storage, 9) == ["a"]

    def test_a_dead_workers_unstarted_task_gives_its_use_back(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("a", 1, 3600 * SECOND), rated("b", 1, 3600 * SECOND)])
        claim(storage)
        clock.forward(60)

        storage.release(OTHER, storage.reclaim(seen(storage), OTHER))

        assert claim_ids(storage, 9) == ["a"]

    def test_a_scheduled_task_meets_its_rate_when_it_is_due(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated(id, eta=clock.now() + SECOND) for id in "ab"] + [rated("c")])
        first = claim_ids(storage, 9)
        clock.forward(2)

        assert (first, claim_ids(storage, 9)) == (["c"], ["a"])
        assert get_row(storage, "b").state == State.BLOCKED

    def test_a_clock_that_is_set_back_allows_no_further_tasks(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated(id, 3) for id in "abcdefg"])
        first = claim_ids(storage, 2)
        start = clock.now()
        clock.set(start - 3600 * SECOND)
        back = claim_ids(storage, 9)
        clock.set(start + SECOND)

        assert (first, back) == (["a", "b"], ["c"])
        assert claim_ids(storage, 9) == []
        clock.set(start + MINUTE)
        assert claim_ids(storage, 9) == ["d", "e", "f"]

    def test_a_concurrency_limit_holds_beside_the_rate(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated(f"{n}", 3, at_once=2) for n in range(7)])
        first = claim(storage, 9)
        end(storage, clock, first[0], Returned(None))
        second = claim(storage, 9)
        end(storage, clock, second[0], Returned(None))
        third = claim_ids(storage, 9)
        clock.forward(60)
        fourth = claim_ids(storage, 9)
        end(storage, clock, first[1], Returned(None))

        assert ([it.id for it in first], [it.id for it in second], third) == (["0", "1"], ["2"], [])
        assert (fourth, claim_ids(storage, 9)) == (["3"], ["4"])

    def test_a_rate_of_many_is_used_up_in_several_turns(self, storage: Storage, clock: FakeClock) -> None:
        most = 2 * RATE_AHEAD + 50
        storage.enqueue([rated(f"{n:03}", most) for n in range(most + 30)])

        first = [lease.id for _ in range(6) for lease in claim(storage, 90)]
        clock.forward(60)

        assert first == [f"{n:03}" for n in range(most)]
        assert len(claim(storage, 90)) == 30

    def test_the_rate_of_the_best_task_of_a_key_applies(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("a", 1, 3600 * SECOND), rated("b", 1, 3600 * SECOND)])
        first = claim_ids(storage, 9)
        storage.enqueue([rated(id, 2, SECOND, priority=1) for id in "cde"])
        clock.forward(1)

        assert (first, claim_ids(storage, 9), claim_ids(storage, 9)) == (["a"], ["c", "d"], [])

    def test_a_tick_meets_the_rate_too(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("a"), rated("b")])

        storage.tick("t", clock.now(), rated("c"))

        assert claim_ids(storage, 9) == ["a", "b"]
        clock.forward(60)
        assert claim_ids(storage, 9) == ["c"]

    def test_a_child_meets_its_rate_when_its_parent_ends(self, storage: Storage, clock: FakeClock) -> None:
        if not storage.features.supports_workflows:
            pytest.skip("no workflows")
        parent, child = TaskRef(storage.name, "parent"), TaskRef(storage.name, "child")
        tasks = [QueuedRecord(storage.name, task("parent")), QueuedRecord(storage.name, rated("child", 1))]
        storage.enqueue_workflow(Workflow(tasks, [Edge(parent, child, THEN, 0)], {}))
        storage.enqueue([rated("a", 1)])
        leases = claim(storage, 9)

        turn = end(storage, clock, next(lease for lease in leases if lease.id == "parent"), Returned(None))

        assert (len(leases), [it.id for it in turn.opened], claim_ids(storage, 9)) == (2, ["child"], [])
        clock.forward(60)
        assert claim_ids(storage, 9) == ["child"]

    def test_windows_that_are_over_are_pruned(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([rated("a"), rated("b", key="other")])
        end(storage, clock, claim(storage)[0], Returned(None))
        before = storage.prune()
        clock.forward(61)

        assert (before, storage.prune(), storage.prune()) == (0, 1, 0)

    def test_tasks_that_are_dropped_leave_no_window_to_wait_for(self, storage: Storage, clock: FakeClock) -> None:
        waker = Waker()
        storage.enqueue([rated(id) for id in "abc"])
        claim(storage, 9)

        storage.flush("ready")

        assert storage.turn(ME, [], 9).next_due is None
        clock.forward(60)
        assert not storage.listen(ME, 0, waker)
        waker.close()

    def test_flush_forgets_what_was_spent(self, storage: Storage) -> None:
        storage.enqueue([rated(id) for id in "abc"])
        claim(storage, 9)

        storage.flush()
        storage.enqueue([rated(id) for id in "abc"])

        assert claim_ids(storage, 9) == ["a", "b"]
