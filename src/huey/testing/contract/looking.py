"""Looking: at one task, at lists of them, at numbers."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.rows import Counts, TaskRow
from huey.task.lifecycle import Finish, Returned, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import Another, claim, claimed, end, get_row, ids, task, write


class LookingRules:
    def test_a_task_that_is_not_held_is_none(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Returned(None))

        assert storage.get("a") is None
        assert storage.get("never") is None

    def test_a_task_can_be_looked_at_in_any_state(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        one_of_each(storage, clock)

        states = [(get_row(another(), id).state, get_row(another(), id).due is None) for id in ("r1", "s1", "run", "failed", "cancelled")]

        assert states == [(State.QUEUED, True), (State.QUEUED, False), (State.RUNNING, True), (State.FAILED, True), (State.CANCELLED, True)]

    def test_one_look_and_a_list_tell_the_same(self, storage: Storage, clock: FakeClock) -> None:
        one_of_each(storage, clock)

        assert all(row == storage.get(row.id) and isinstance(row, TaskRow) for row in storage.find())

    def test_queued_tasks_are_found_in_claim_order_and_then_in_order_of_time(self, storage: Storage, clock: FakeClock) -> None:
        one_of_each(storage, clock)

        assert ids(storage.find("ready")) == ["r3", "r1", "r2"]
        assert ids(storage.find("scheduled")) == ["s2", "s1"]
        assert ids(storage.find(State.QUEUED)) == ["r3", "r1", "r2", "s2", "s1"]

    def test_other_tasks_are_found_by_age(self, storage: Storage, clock: FakeClock) -> None:
        for id in ("c", "a", "b"):
            storage.enqueue([task(id)])
            clock.forward(1)
        leases = claim(storage, 3)
        running = ids(storage.find(State.RUNNING))

        write(storage, *(Finish(lease, State.FAILED, reason="error") for lease in reversed(leases)))

        assert running == ["c", "a", "b"]
        assert ids(storage.find(State.FAILED)) == ["c", "a", "b"]

    def test_without_a_state_all_are_found(self, storage: Storage, clock: FakeClock) -> None:
        one_of_each(storage, clock)

        assert sorted(ids(storage.find())) == ["cancelled", "failed", "r1", "r2", "r3", "run", "s1", "s2"]

    def test_tasks_are_found_by_name(self, storage: Storage, clock: FakeClock) -> None:
        one_of_each(storage, clock)

        assert ids(storage.find("ready", "app.other")) == ["r2"]
        assert ids(storage.find(name="app.other")) == ["r2"]
        assert storage.find(State.FAILED, "app.other") == []
        assert storage.find(name="app.unknown") == []

    def test_no_more_are_found_than_asked_for(self, storage: Storage, clock: FakeClock) -> None:
        one_of_each(storage, clock)

        assert ids(storage.find("ready", limit=2)) == ["r3", "r1"]
        assert ids(storage.find(State.QUEUED, limit=4)) == ["r3", "r1", "r2", "s2"]
        assert len(storage.find(limit=3)) == 3
        assert storage.find(limit=0) == []

    def test_counts_are_of_now(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        assert storage.counts() == Counts()

        one_of_each(storage, clock)

        assert another().counts() == Counts(ready=3, scheduled=2, running=1, failed=1, cancelled=1, results=1)

    def test_results_past_their_time_do_not_count(self, storage: Storage, clock: FakeClock) -> None:
        storage.put("result", "a", b"5", ttl=1)
        storage.put("result", "b", b"5")
        storage.put("data", "c", b"5")
        clock.forward(2)

        assert storage.counts() == Counts(results=1)

    def test_there_are_no_workers_yet(self, storage: Storage) -> None:
        assert storage.workers() == []

    def test_the_names_that_share_a_store_are_known(self, storage: Storage) -> None:
        assert storage.name in storage.queues()
        assert storage.queues() == sorted(storage.queues())

    def test_whether_the_queue_is_paused_can_be_seen(self, storage: Storage, another: Another) -> None:
        before = storage.counts().is_paused

        storage.pause(True)

        assert (before, another().counts().is_paused) == (False, True)
        storage.pause(False)
        assert not another().counts().is_paused


def one_of_each(storage: Storage, clock: FakeClock) -> None:
    """A task in every state."""
    write(storage, Finish(claimed(storage, task("failed")), State.FAILED, reason="error"))
    write(storage, Finish(claimed(storage, task("cancelled")), State.CANCELLED, reason="revoked"))
    write(storage, Finish(claimed(storage, task("succeeded")), State.SUCCEEDED, value=b"5"))
    claimed(storage, task("run"))
    storage.enqueue([task("r1"), task("r2", "app.other"), task("r3", priority=1)])
    storage.enqueue([task("s1", eta=clock.now() + 2 * SECOND), task("s2", eta=clock.now() + SECOND)])
