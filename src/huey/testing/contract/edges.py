"""Tasks that wait for other tasks. For storages that keep workflows (``supports_workflows``)."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.rows import TaskIds, Turn
from huey.task.lifecycle import Cancelled, Raised, Returned, Snoozed, State, decide
from huey.task.record import Lease, Record
from huey.task.record_options import Constraints, with_constraints
from huey.task.workflow import (
    JOIN,
    STEP,
    THEN,
    Edge,
    ParentEnd,
    QueuedRecord,
    TaskRef,
    Workflow,
    failed_ancestor,
)
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, claim, claim_ids, get_row, ids, task

FAILURE = Raised({"error": "E()", "traceback": "..."})


def refs(storage: Storage, *names: str) -> list[TaskRef]:
    return [TaskRef(storage.name, name) for name in names]


def joined(storage: Storage, *records: Record, edges: list[tuple[str, str, str]] | None = None) -> Workflow:
    """Return a workflow of *records* with *edges*: parent, child, kind; positions in this order."""
    counts: dict[str, int] = {}
    made = list[Edge]()
    for parent, child, kind in edges or []:
        position = counts[child] = counts.get(child, -1) + 1
        made.append(Edge(TaskRef(storage.name, parent), TaskRef(storage.name, child), kind, position))
    return Workflow([QueuedRecord(storage.name, record) for record in records], made)


def pipeline(storage: Storage, *records: Record | str) -> Workflow:
    """Return a workflow in which each task waits for the one before."""
    tasks = [task(it) if isinstance(it, str) else it for it in records]
    edges = [(one.id, other.id, THEN) for one, other in pairwise(tasks)]
    return joined(storage, *tasks, edges=edges)


def chord(storage: Storage, *members: Record | str, callback: Record | str = "callback") -> Workflow:
    """Return a workflow in which *callback* waits for all *members*."""
    tasks = [task(it) if isinstance(it, str) else it for it in (*members, callback)]
    return joined(storage, *tasks, edges=[(it.id, tasks[-1].id, JOIN) for it in tasks[:-1]])


def end(storage: Storage, clock: FakeClock, outcome: Any, *leases: Lease, want: int = 0) -> Turn:
    return storage.turn(ME, [decide(lease, outcome, clock.now()) for lease in leases], want)


def fails(storage: Storage, clock: FakeClock, *, want: int = 1, outcome: Any = FAILURE) -> Turn:
    """Claim *want* tasks and write *outcome* for them."""
    return end(storage, clock, outcome, *claim(storage, want))


def given(storage: Storage, id: str = "callback") -> list[tuple[str, bytes | None]]:
    """Return what the parents of a task gave it: outcomes and values."""
    found, after = list[ParentEnd](), -1
    while piece := storage.parent_ends(id, after):
        found += piece
        after = piece[-1].position
    return [(it.outcome, it.value) for it in found]


def states(storage: Storage, *names: str) -> list[str]:
    return [get_row(storage, name).state for name in names]


def reasons(storage: Storage, *names: str) -> list[str | None]:
    return [get_row(storage, name).reason for name in names]


class ThenRules:
    def test_a_child_waits_until_its_parent_succeeded(self, storage: Storage, clock: FakeClock) -> None:
        assert storage.enqueue_workflow(pipeline(storage, "a", "b", "c")) == {}

        assert (ids(storage.find("waiting")), storage.counts().waiting, storage.counts().ready) == (["b", "c"], 2, 1)
        (a,) = claim(storage, 9)
        turn = end(storage, clock, Returned(b"value"), a, want=9)
        assert (a.id, a.parents, a.has_children) == ("a", 0, True)
        assert [lease.id for lease in turn.leases] == ["b"] == [it.id for it in turn.opened]
        assert (turn.opened[0].queue, turn.opened[0].is_scheduled) == (storage.name, False)
        assert (turn.leases[0].parents, turn.leases[0].has_children) == (1, True)
        (c,) = end(storage, clock, Returned(None), turn.leases[0], want=9).leases
        assert (c.id, c.parents, c.has_children) == ("c", 1, False)
        end(storage, clock, Returned(None), c)
        assert (storage.find(), storage.edges(["a", "b", "c"])) == ([], [])

    def test_each_run_of_a_child_gets_what_its_parent_gave(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", task("b", retries=1), "c", "d"))

        (b,) = end(storage, clock, Returned(b"result", b"output"), *claim(storage), want=1).leases
        first = given(storage, "b")
        end(storage, clock, FAILURE, b)
        (b,) = claim(storage)
        assert (first, given(storage, "b")) == ([("succeeded", b"output")], first)
        (c,) = end(storage, clock, Returned(b"result"), b, want=1).leases
        assert given(storage, "c") == [("succeeded", b"result")]
        end(storage, clock, Returned(None), c)
        assert given(storage, "d") == [("succeeded", None)]
        assert storage.take("result", ["a", "b"]) == {"a": b"result", "b": b"result"}

    def test_later_stages_are_cancelled_with_the_one_that_failed(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", "b", "c", "d"))
        end(storage, clock, Returned(None), *claim(storage))

        turn = fails(storage, clock)

        assert states(storage, "b", "c", "d") == [State.FAILED, State.CANCELLED, State.CANCELLED]
        assert reasons(storage, "c", "d") == ["parent failed"] * 2
        assert [failed_ancestor(get_row(storage, it).error) for it in "bcd"] == [None, *refs(storage, "b", "b")]
        assert (turn.opened, claim(storage, 9), storage.counts().waiting) == ([], [], 0)
        assert storage.counts().cancelled == 2

    def test_later_stages_are_cancelled_with_the_one_that_was_skipped(self, storage: Storage, clock: FakeClock) -> None:
        for n, expires in ((1, None), (2, clock.now() + SECOND), (3, None), (4, None)):
            storage.enqueue_workflow(pipeline(storage, task(f"a{n}", expires=expires), f"b{n}", f"c{n}"))
        storage.revoke(TaskIds(["a1"]))
        clock.forward(2)

        a3, a4 = claim(storage, 9)
        storage.revoke(TaskIds(["a4"]))
        end(storage, clock, Cancelled("canceled"), a3)
        end(storage, clock, Snoozed(0, "limit"), a4)

        assert {it.id for it in storage.find(State.CANCELLED)} == {f"{it}{n}" for it in "abc" for n in (1, 2, 3, 4)}
        assert reasons(storage, "b1", "c1", "b2", "c2", "b3", "c3", "b4", "c4") == ["parent skipped"] * 8
        assert [get_row(storage, it).error for it in ("b1", "c2", "c3")] == [None] * 3

    def test_a_stage_that_is_tried_again_ends_nothing(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, task("a", retries=2), "b"))

        fails(storage, clock)
        end(storage, clock, Snoozed(0, "limit"), *claim(storage))
        storage.release(ME, claim(storage))

        assert states(storage, "a", "b") == [State.QUEUED, State.WAITING]
        end(storage, clock, Returned(b"late"), *claim(storage))
        assert given(storage, "b") == [("succeeded", b"late")]

    def test_a_child_is_scheduled_if_its_eta_is_ahead(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", task("b", eta=clock.now() + 60 * SECOND)))

        turn = end(storage, clock, Returned(None), *claim(storage), want=9)

        assert (turn.leases, [it.is_scheduled for it in turn.opened]) == ([], [True])
        assert ids(storage.find("scheduled")) == ["b"]
        clock.forward(61)
        assert claim_ids(storage, 9) == ["b"]

    def test_the_eta_of_a_child_may_pass_while_it_waits(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", task("b", eta=clock.now() + 60 * SECOND)))
        (a,) = claim(storage)
        clock.forward(61)

        turn = end(storage, clock, Returned(None), a, want=9)

        assert ([it.id for it in turn.leases], [it.is_scheduled for it in turn.opened]) == (["b"], [False])

    def test_a_child_is_revoked_or_expires_when_its_parent_ends(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", "b", "x"))
        storage.enqueue_workflow(pipeline(storage, "c", task("d", expires=clock.now() + SECOND), "y"))
        storage.enqueue_workflow(pipeline(storage, "e", "f"))
        storage.revoke(TaskIds(["b", "f"]))
        assert storage.restore(TaskIds(["f"])) == ["f"]
        leases = claim(storage, 9)
        clock.forward(2)
        before = states(storage, "b", "d")

        end(storage, clock, Returned(None), *leases, want=9)
        storage.turn(ME, [], 9)

        assert before == [State.WAITING] * 2
        assert states(storage, "b", "d", "f", "x", "y") == [State.CANCELLED] * 2 + [State.RUNNING] + [State.CANCELLED] * 2
        assert reasons(storage, "b", "d", "x", "y") == ["revoked", "expired", "parent skipped", "parent skipped"]

    def test_a_child_keeps_its_priority_and_its_limit(self, storage: Storage, clock: FakeClock) -> None:
        limit = with_constraints(None, Constraints(concurrency_key="k", max_running=1))
        storage.enqueue_workflow(pipeline(storage, "a", task("b", priority=3, options=limit), "c"))
        storage.enqueue([task("x", options=limit), task("y", options=limit)])
        a, x = claim(storage, 9)

        end(storage, clock, Returned(None), a)

        assert states(storage, "b", "y") == [State.BLOCKED, State.BLOCKED]
        assert [it.id for it in end(storage, clock, Returned(None), x, want=9).leases] == ["b"]

    def test_a_child_of_several_parents_needs_each_of_them(self, storage: Storage, clock: FakeClock) -> None:
        edges = [("a", "c", THEN), ("b", "c", THEN), ("c", "d", THEN)]
        storage.enqueue_workflow(joined(storage, *map(task, "abcd"), edges=edges))
        a, b = claim(storage, 9)

        end(storage, clock, Returned(b"1"), a)
        waits = states(storage, "c")
        end(storage, clock, FAILURE, b)

        assert waits == [State.WAITING]
        assert states(storage, "c", "d") == [State.CANCELLED] * 2

    def test_of_a_long_pipeline_that_fails_one_step_cancels_a_part(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, *(f"t{n:05}" for n in range(2 * STEP + 300))))

        fails(storage, clock)

        left = storage.counts().waiting
        assert STEP <= left < 2 * STEP + 299
        for _ in range(4):
            storage.turn(ME, [], 0)
        assert (storage.counts().waiting, storage.counts().cancelled) == (0, 2 * STEP + 299)
        assert failed_ancestor(get_row(storage, f"t{2 * STEP + 299:05}").error) == TaskRef(storage.name, "t00000")

    def test_a_retry_by_hand_lets_later_stages_wait_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", "b", "c"))
        storage.enqueue_workflow(pipeline(storage, "x", "y"))
        for lease in claim(storage, 9):
            end(storage, clock, FAILURE, lease)

        assert storage.retry(["a"]) == ["a"]

        assert states(storage, "a", "b", "c", "y") == [State.QUEUED, State.WAITING, State.WAITING, State.CANCELLED]
        assert (get_row(storage, "c").error, get_row(storage, "c").reason) == (None, None)
        (b,) = end(storage, clock, Returned(b"1"), *claim(storage), want=9).leases
        assert given(storage, "b") == [("succeeded", b"1")]
        end(storage, clock, FAILURE, b)
        assert reasons(storage, "c") == ["parent failed"]
        assert failed_ancestor(get_row(storage, "c").error) == TaskRef(storage.name, "b")

    def test_what_follows_a_cancelled_task_gets_its_cause(self, storage: Storage, clock: FakeClock) -> None:
        edges = [("b", "q", THEN), ("a", "r", THEN), ("q", "p", THEN), ("r", "p", THEN), ("p", "callback", JOIN)]
        storage.enqueue_workflow(joined(storage, *map(task, ("a", "b", "q", "r", "p", "callback")), edges=edges))

        end(storage, clock, FAILURE, *claim(storage, 9))

        assert [it.parent for it in storage.parent_ends("callback")] == [failed_ancestor(get_row(storage, "p").error)]

    def test_what_waits_again_is_no_longer_revoked_or_expired(self, storage: Storage, clock: FakeClock) -> None:
        last = task("c", expires=clock.now() + SECOND)
        storage.enqueue_workflow(pipeline(storage, "a", "b", last))
        storage.revoke(TaskIds(["a", "b", "c"]))
        storage.turn(ME, [], 9)
        assert reasons(storage, "a", "b", "c") == ["revoked", "parent skipped", "parent skipped"]

        clock.forward(2)

        storage.retry(["a", "b", "c"])

        (b,) = end(storage, clock, Returned(b"1"), *claim(storage), want=9).leases
        (c,) = end(storage, clock, Returned(b"2"), b, want=9).leases
        assert (c.id, given(storage, "c")) == ("c", [("succeeded", b"2")])


class JoinRules:
    def test_a_callback_is_queued_when_the_last_member_ended(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", "b", "c"))
        a, b, c = claim(storage, 9)

        end(storage, clock, Returned(b"3"), c)
        end(storage, clock, FAILURE, a)
        before = states(storage, "callback")
        turn = end(storage, clock, Returned(b"2", b"two"), b, want=9)

        assert (before, [it.id for it in turn.opened]) == ([State.WAITING], ["callback"])
        assert [(it.id, it.parents) for it in turn.leases] == [("callback", 3)]
        one, two, three = storage.parent_ends("callback")
        assert (one.outcome, one.value, one.parent) == ("failed", None, TaskRef(storage.name, "a"))
        assert json.loads(one.error or "") == {"error": "E()", "traceback": "..."}
        assert (two, three[1:4]) == (ParentEnd(1, JOIN, "succeeded", b"two", None, TaskRef(storage.name, "b")), (JOIN, "succeeded", b"3"))

    def test_members_that_end_in_one_turn_count_each(self, storage: Storage, clock: FakeClock) -> None:
        members = [f"m{n:04}" for n in range(300)]
        storage.enqueue_workflow(chord(storage, *members))

        turn = end(storage, clock, Returned(b"v"), *claim(storage, 300), want=9)

        assert [it.id for it in turn.leases] == ["callback"]
        assert given(storage) == [("succeeded", b"v")] * 300

    def test_a_finish_that_is_sent_again_is_not_counted_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", "b"))
        a, _ = claim(storage, 9)

        end(storage, clock, Returned(b"1"), a)
        turn = end(storage, clock, Returned(b"1"), a)

        assert (turn.stale, states(storage, "callback")) == (["a"], [State.WAITING])

    def test_a_member_that_was_skipped_joins(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", task("b", expires=clock.now() + SECOND), "c", "d"))
        storage.revoke(TaskIds(["a"]))
        clock.forward(2)

        c, d = storage.turn(ME, [], 9).leases
        storage.revoke(TaskIds(["c"]))
        end(storage, clock, Snoozed(0, "limit"), c)
        end(storage, clock, FAILURE, d)

        assert given(storage) == [("skipped", None)] * 3 + [("failed", None)]
        assert claim_ids(storage, 9) == ["callback"]

    def test_a_claim_that_cancels_the_last_member_opens_the_callback(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a"))
        storage.revoke(TaskIds(["a"]))

        turn = storage.turn(ME, [], 9)

        assert ([it.id for it in turn.cancelled], [it.id for it in turn.opened], turn.may_have_more) == (["a"], ["callback"], True)
        assert claim_ids(storage, 9) == ["callback"]

    def test_tasks_that_are_dropped_are_skipped(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", task("b", eta=clock.now() + SECOND)))

        dropped = storage.flush("ready"), storage.flush("scheduled")

        assert dropped == (1, 1)
        assert given(storage) == [("skipped", None)] * 2
        assert claim_ids(storage, 9) == ["callback"]

    def test_a_broken_pipeline_joins_with_the_error_of_its_stage(self, storage: Storage, clock: FakeClock) -> None:
        edges = [("a", "b", THEN), ("b", "callback", JOIN), ("x", "y", THEN), ("y", "callback", JOIN)]
        storage.enqueue_workflow(joined(storage, *map(task, ("a", "b", "x", "y", "callback")), edges=edges))
        storage.revoke(TaskIds(["x"]))

        fails(storage, clock, want=9)

        one, two = storage.parent_ends("callback")
        assert (one.outcome, one.parent, json.loads(one.error or "")["error"]) == ("failed", TaskRef(storage.name, "a"), "E()")
        assert (two.outcome, two.value, two.error) == ("skipped", None, None)
        assert claim_ids(storage, 9) == ["callback"]

    def test_a_chord_may_be_a_member(self, storage: Storage, clock: FakeClock) -> None:
        edges = [("a", "inner", JOIN), ("b", "inner", JOIN), ("inner", "outer", JOIN), ("c", "outer", JOIN)]
        storage.enqueue_workflow(joined(storage, *map(task, ("a", "b", "inner", "c", "outer")), edges=edges))

        (inner,) = end(storage, clock, Returned(b"1"), *claim(storage, 9), want=9).leases
        (outer,) = end(storage, clock, Returned(b"2"), inner, want=9).leases

        assert (inner.id, outer.id) == ("inner", "outer")
        assert given(storage, "outer") == [("succeeded", b"2"), ("succeeded", b"1")]

    def test_values_are_read_in_pieces(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", "b", "c", "d"))
        value = bytes(3 * 2**20)
        for lease in claim(storage, 9):
            end(storage, clock, Returned(None, value), lease)

        first, second = storage.parent_ends("callback"), storage.parent_ends("callback", 1)

        assert [[it.position for it in piece] for piece in (first, second)] == [[0, 1], [2, 3]]
        assert [given(storage), storage.parent_ends("callback", 3), storage.parent_ends("x")] == [[("succeeded", value)] * 4, [], []]

    def test_a_member_that_is_retried_by_hand_is_awaited_again(self, storage: Storage, clock: FakeClock) -> None:
        edges = [("a", "b", THEN), ("b", "callback", JOIN), ("c", "callback", JOIN)]
        storage.enqueue_workflow(joined(storage, *map(task, ("a", "b", "c", "callback")), edges=edges))
        a, c = claim(storage, 9)
        end(storage, clock, FAILURE, a)

        storage.retry(["a"])
        end(storage, clock, Returned(b"c"), c)
        waits = states(storage, "callback")
        (b,) = end(storage, clock, Returned(b"a"), *claim(storage), want=9).leases
        turn = end(storage, clock, Returned(b"b"), b, want=9)

        assert (waits, [it.id for it in turn.leases]) == ([State.WAITING], ["callback"])
        assert given(storage) == [("succeeded", b"b"), ("succeeded", b"c")]

    @pytest.mark.parametrize("names", [["a", "callback", "b"], ["callback", "b", "a"]])
    def test_a_callback_that_is_retried_with_a_member_awaits_it(self, names: list[str], storage: Storage, clock: FakeClock) -> None:
        limited = task("callback", options=with_constraints(None, Constraints(concurrency_key="k", max_running=1)))
        storage.enqueue_workflow(chord(storage, "a", "b", "c", callback=limited))
        a, b, c = claim(storage, 9)
        end(storage, clock, FAILURE, a, b)
        end(storage, clock, FAILURE, *end(storage, clock, Returned(b"c"), c, want=9).leases)

        assert sorted(storage.retry(names)) == ["a", "b", "callback"]

        assert states(storage, "a", "b", "callback") == [State.QUEUED, State.QUEUED, State.WAITING]
        storage.enqueue([task("other", options=limited.options)])
        leases = {lease.id: lease for lease in claim(storage, 9)}
        other = leases.pop("other")
        end(storage, clock, Returned(b"1"), *leases.values())
        assert ({*leases}, states(storage, "callback")) == ({"a", "b"}, [State.BLOCKED])
        (lease,) = end(storage, clock, Returned(None), other, want=9).leases
        assert (lease.id, given(storage)) == ("callback", [("succeeded", b"1"), ("succeeded", b"1"), ("succeeded", b"c")])

    def test_a_callback_that_has_started_does_not_wait_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a"))
        end(storage, clock, FAILURE, *claim(storage))
        (callback,) = claim(storage)

        storage.retry(["a"])
        end(storage, clock, Returned(b"1"), *claim(storage))

        assert (states(storage, "callback"), given(storage)) == ([State.RUNNING], [("failed", None)])
        assert end(storage, clock, Returned(None), callback).stale == []

    def test_edges_can_be_looked_at(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", "b"))
        end(storage, clock, Returned(b"1"), *claim(storage))

        rows = storage.edges(["callback"])

        assert [(it.parent.id, it.child.id, it.kind, it.position, it.outcome) for it in rows] == [
            ("a", "callback", JOIN, 0, "succeeded"),
            ("b", "callback", JOIN, 1, None),
        ]
        assert storage.edges(["b"]) == rows[1:]
        assert storage.edges(["x"]) == []

    def test_the_edges_to_a_task_go_with_it(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", "b"))
        end(storage, clock, FAILURE, *claim(storage, 9))

        assert [(it.child.id, it.outcome) for it in storage.edges(["a"])] == [("callback", "failed")]
        end(storage, clock, Returned(None), *claim(storage))

        assert (states(storage, "a"), storage.edges(["a"]), storage.edges(["callback"])) == ([State.FAILED], [], [])
