"""Workflows as they are enqueued: whole or not at all. For storages that keep them (``supports_workflows``)."""

from __future__ import annotations

import pytest

from huey.storage.base import Storage
from huey.storage.memory import MemoryStorage
from huey.task.lifecycle import Finish, Returned, Snoozed, State, decide
from huey.task.record import Record
from huey.task.record_options import DONE, WAITING, Constraints, with_constraints, with_edges
from huey.task.workflow import JOIN, THEN, Edge, QueuedRecord, TaskRef, Workflow
from huey.testing.clock import FakeClock
from huey.testing.contract.edges import FAILURE, chord, end, fails, given, joined, pipeline, reasons, refs, states
from huey.testing.contract.tools import ME, Another, claim, claim_ids, ids, task, write


class WorkflowRules:
    def test_nothing_is_put_in_if_an_id_is_held(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task("b")])

        assert storage.enqueue_workflow(pipeline(storage, "a", "b", "c")) == dict(zip(refs(storage, "b"), "b", strict=True))

        assert ids(storage.find()) == ["b"]
        storage.enqueue_workflow(chord(storage, "x", "y"))
        again = another().enqueue_workflow(chord(storage, "x", "y"))
        assert again == {ref: ref.id for ref in refs(storage, "x", "y", "callback")}
        assert len(storage.edges(["callback"])) == 2

    def test_an_own_id_whose_task_has_ended_is_a_new_run(self, storage: Storage, clock: FakeClock) -> None:
        def owned(id: str, own: int) -> Record:
            return task(id, options=with_constraints(None, Constraints(own=own)))

        storage.enqueue_workflow(pipeline(storage, owned("a", 1), owned("b", 1)))
        fails(storage, clock)

        assert storage.enqueue_workflow(pipeline(storage, owned("a", 2), owned("b", 2))) == {}

        assert states(storage, "a", "b") == [State.QUEUED, State.WAITING]
        end(storage, clock, Returned(b"new"), *claim(storage))
        assert given(storage, "b") == [("succeeded", b"new")]

    def test_a_workflow_that_cannot_work_is_refused_whole(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("ended")])
        fails(storage, clock)
        a, b, ended, unknown = refs(storage, "a", "b", "ended", "unknown")
        plain = pipeline(storage, "a", "b")
        for broken, text in (
            (plain._replace(edges=[*plain.edges, Edge(b, a, THEN)]), "ring"),
            (plain._replace(tasks=[*plain.tasks, plain.tasks[0]]), "twice"),
            (plain._replace(edges=[Edge(a, unknown, THEN)]), "not part"),
            (plain._replace(edges=[Edge(a, b, THEN), Edge(b, b, THEN, 1)]), "ring"),
            (plain._replace(edges=[Edge(ended, b, THEN)]), "ended"),
            (plain._replace(edges=[Edge(unknown, b, JOIN)]), "unknown"),
            (Workflow(plain.tasks, replaces={a: ended}), "ended"),
            (plain._replace(tasks=[*plain.tasks] * 5001), "10000"),
        ):
            with pytest.raises(ValueError, match=text):
                storage.enqueue_workflow(broken)
        assert ids(storage.find()) == ["ended"]

    def test_a_task_may_wait_for_one_that_is_held(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a")])

        storage.enqueue_workflow(joined(storage, task("b"), edges=[("a", "b", THEN)]))

        (b,) = end(storage, clock, Returned(b"1"), *claim(storage), want=9).leases
        assert (b.id, given(storage, "b")) == ("b", [("succeeded", b"1")])

    def test_the_holder_of_a_unique_key_takes_the_place_of_a_member(self, storage: Storage, clock: FakeClock) -> None:
        unique = with_constraints(None, Constraints(unique="k"))
        storage.enqueue([task("holder", options=unique)])

        assert storage.enqueue_workflow(chord(storage, "a", task("b", options=unique))) == {TaskRef(storage.name, "b"): "holder"}

        assert storage.get("b") is None
        for lease in claim(storage, 9):
            end(storage, clock, Returned(lease.id.encode()), lease)
        assert given(storage) == [("succeeded", b"a"), ("succeeded", b"holder")]

    def test_a_holder_that_has_ended_joins_at_once(self, storage: Storage, clock: FakeClock) -> None:
        def kept(id: str, key: str) -> Record:
            return task(id, options=with_constraints(None, Constraints(unique=key, unique_for=3600.0)))

        storage.enqueue([kept("one", "k"), kept("two", "l")])
        for lease in claim(storage, 9):
            end(storage, clock, Returned(b"stored" if lease.id == "one" else None), lease)

        storage.enqueue_workflow(chord(storage, kept("a", "k"), kept("b", "l")))

        assert given(storage) == [("succeeded", b"stored"), ("skipped", None)]
        assert claim_ids(storage, 9) == ["callback"]
        storage.enqueue_workflow(pipeline(storage, kept("c", "k"), "then"))
        storage.enqueue_workflow(pipeline(storage, kept("d", "l"), "not"))
        assert (states(storage, "then", "not"), given(storage, "then")) == ([State.QUEUED, State.CANCELLED], [("succeeded", b"stored")])

    def test_a_workflow_may_cross_queues(self, storage: Storage, clock: FakeClock) -> None:
        other = storage.for_queue(f"{storage.name} other")
        a, b, c = TaskRef(storage.name, "a"), TaskRef(other.name, "b"), TaskRef(storage.name, "c")
        tasks = [QueuedRecord(ref.queue, task(ref.id)) for ref in (a, b, c)]
        other.enqueue_workflow(Workflow(tasks, [Edge(a, b, THEN), Edge(b, c, JOIN)]))

        turn = end(storage, clock, Returned(b"1"), *claim(storage, 9), want=9)
        assert ([it[:2] for it in turn.opened], turn.leases) == ([(other.name, "b")], [])
        assert [it[:2] for it in storage.edges(["c"])] == [(b, c)]
        assert sorted(it[:2] for it in other.edges(["b"])) == [(a, b), (b, c)]
        (lease,) = claim(other, 9)
        assert (given(other, "b"), states(storage, "c")) == ([("succeeded", b"1")], [State.WAITING])
        turn = end(other, clock, FAILURE, lease, want=9)
        assert ([it[:2] for it in turn.opened], turn.leases, claim_ids(storage, 9)) == ([(storage.name, "c")], [], ["c"])
        (found,) = storage.parent_ends("c")
        assert (found.outcome, found.parent) == ("failed", b)

    def test_queues_of_one_store_know_each_other(self, storage: Storage, another: Another) -> None:
        other = storage.for_queue(f"{storage.name} other")

        assert storage.is_beside(storage)
        assert storage.is_beside(other)
        assert other.is_beside(another())
        assert not storage.is_beside(MemoryStorage("elsewhere"))
        assert not MemoryStorage("elsewhere").is_beside(storage)

    def test_a_queue_that_is_flushed_ends_the_edges_to_others(self, storage: Storage) -> None:
        other = storage.for_queue(f"{storage.name} other")
        a, b, c = TaskRef(storage.name, "a"), TaskRef(other.name, "b"), TaskRef(other.name, "c")
        tasks = [QueuedRecord(ref.queue, task(ref.id)) for ref in (a, b, c)]
        storage.enqueue_workflow(Workflow(tasks, [Edge(a, b, THEN), Edge(a, c, JOIN)]))

        storage.flush()

        assert (states(other, "b"), reasons(other, "b"), claim_ids(other, 9)) == ([State.CANCELLED], ["parent skipped"], ["c"])
        other.flush()
        assert (other.find(), other.edges(["b", "c"])) == ([], [])

    def test_followers_get_the_events_of_tasks_that_have_no_parents(self, storage: Storage) -> None:
        position, _ = storage.follow(None)

        storage.enqueue_workflow(chord(storage, "b", "a"), lambda: ["one", "two"])
        storage.enqueue_workflow(pipeline(storage, "a", "c"), lambda: ["three"])
        storage.enqueue_workflow(joined(storage, *map(task, "zyx")), lambda: ["four", "five", "six"])

        assert storage.follow(position)[1] == ["one", "two", "four", "five", "six"]

    def test_a_replaced_member_gives_its_position_up(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a", "b"))
        new, old = refs(storage, "new", "a")

        storage.enqueue_workflow(joined(storage, task("new"))._replace(replaces={new: old}))

        leases = claim(storage, 9)
        assert (states(storage, "a"), reasons(storage, "a")) == ([State.CANCELLED], ["revoked"])
        for lease in leases:
            end(storage, clock, Returned(lease.id.encode()), lease)
        assert given(storage) == [("succeeded", b"new"), ("succeeded", b"b")]

    def test_a_replaced_stage_leaves_its_parents_and_children(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", "b", "c"))
        new, old = refs(storage, "new", "b")

        options = with_edges(None, 1, True)
        storage.enqueue_workflow(joined(storage, task("new", options=options))._replace(replaces={new: old}))

        assert states(storage, "b", "new", "c") == [State.CANCELLED, State.WAITING, State.WAITING]
        (lease,) = end(storage, clock, Returned(b"1"), *claim(storage), want=9).leases
        assert (lease.id, lease.parents, lease.has_children, given(storage, "new")) == ("new", 1, True, [("succeeded", b"1")])
        assert [it.id for it in end(storage, clock, Returned(None), lease, want=9).leases] == ["c"]

    def test_a_replaced_stage_counts_as_enqueued_and_cancelled(self, storage: Storage) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", task("b", "app.old")))
        new, old = refs(storage, "new", "b")

        record = task("new", "app.new", options=with_edges(None, 1, False))
        storage.enqueue_workflow(joined(storage, record)._replace(replaces={new: old}))

        counted = {row.name: (row.enqueued, row.cancelled) for row in storage.stats(0)}
        assert counted == {"app.add": (1, 0), "app.new": (1, 0), "app.old": (1, 1)}

    def test_a_member_that_is_replaced_while_it_runs_counts_for_nothing(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(chord(storage, "a"))
        (a,) = claim(storage)
        new, old = refs(storage, "new", "a")

        storage.enqueue_workflow(joined(storage, task("new"))._replace(replaces={new: old}))

        assert storage.turn(ME, [], 0).revoked_running == ["a"]
        end(storage, clock, Returned(b"old"), a)
        assert states(storage, "callback") == [State.WAITING]
        end(storage, clock, Returned(b"new"), *claim(storage))
        assert given(storage) == [("succeeded", b"new")]

    def test_follow_ups_are_put_in_with_their_finish(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a", retries=1), task("b")])
        a, b = claim(storage, 2)
        follow_ups = pipeline(storage, "handler.1", "next.1")

        turn = storage.turn(ME, [decide(a, FAILURE, clock.now())._replace(follow_ups=follow_ups)], 0)
        stale = storage.turn(ME, [decide(a, FAILURE, clock.now())._replace(follow_ups=pipeline(storage, "lost"))], 0)

        assert (turn.stale, stale.stale) == ([], ["a"])
        assert states(storage, "a", "handler.1", "next.1") == [State.QUEUED, State.QUEUED, State.WAITING]
        assert storage.get("lost") is None
        finish = Finish(b, State.SUCCEEDED, follow_ups=pipeline(storage, "late", "handler.1"))
        assert write(storage, finish).stale == []
        assert (storage.get("late"), storage.get("b")) == (None, None)

    def test_follow_ups_leave_the_limits_of_other_tasks_alone(self, storage: Storage, clock: FakeClock) -> None:
        one, two = (with_constraints(None, Constraints(concurrency_key=key, max_running=1)) for key in "kl")
        other = storage.for_queue(f"{storage.name} other")
        storage.enqueue([task("a", options=one), task("b", options=two), task("c", options=one), task("d", retries=1)])
        a, b, d = claim(storage, 9)
        follow_ups = Workflow([QueuedRecord(storage.name, task("handler")), QueuedRecord(other.name, task("elsewhere"))])

        ends = [decide(lease, outcome, clock.now()) for lease, outcome in ((a, FAILURE), (b, Snoozed(0, "limit")), (d, FAILURE))]
        storage.turn(ME, [*ends[:2], ends[2]._replace(follow_ups=follow_ups)], 0)

        assert (sorted(claim_ids(storage, 9)), claim_ids(other, 9)) == (["b", "c", "d", "handler"], ["elsewhere"])

    def test_follow_ups_come_after_the_unique_keys_of_their_turn(self, storage: Storage, clock: FakeClock) -> None:
        done, waiting = (with_constraints(None, Constraints(unique=key, unique_for=how)) for key, how in (("k", DONE), ("l", WAITING)))
        storage.enqueue([task("a", options=done), task("b", options=waiting, retries=1)])
        ends = [
            decide(lease, FAILURE, clock.now())._replace(follow_ups=joined(storage, task(f"{lease.id}.1", options=lease.options)))
            for lease in claim(storage, 9)
        ]

        storage.turn(ME, ends, 0)

        assert (storage.get("a.1") is None, storage.get("b.1") is None) == (False, True)

    def test_a_waiting_task_is_not_taken_out_by_a_flush_of_others(self, storage: Storage) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", "b"))

        storage.flush("scheduled")

        assert states(storage, "a", "b") == [State.QUEUED, State.WAITING]
        storage.flush()
        assert (storage.find(), storage.counts().waiting) == ([], 0)

    def test_a_waiting_task_with_a_limit_takes_no_room(self, storage: Storage, clock: FakeClock) -> None:
        limit = with_constraints(None, Constraints(concurrency_key="k", max_running=1))
        storage.enqueue_workflow(pipeline(storage, "a", task("b", options=limit, priority=9)))
        storage.enqueue([task("c", options=limit)])

        assert sorted(claim_ids(storage, 9)) == ["a", "c"]

    def test_a_waiting_task_holds_its_unique_key(self, storage: Storage, clock: FakeClock) -> None:
        unique = with_constraints(None, Constraints(unique="k"))
        storage.enqueue_workflow(pipeline(storage, "a", task("b", options=unique)))

        held = storage.enqueue([task("c", options=unique)])
        fails(storage, clock)

        assert (held, storage.enqueue([task("d", options=unique)])) == ({"c": "b"}, {})
