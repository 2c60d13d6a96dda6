"""The house: opening, closing, cleaning up."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from huey.exceptions import ConfigurationError
from huey.runtime.clock import SECOND
from huey.storage.base import DEAD_LETTERS_KEPT, Storage
from huey.storage.rows import Counts, TaskIds, TaskName
from huey.task.lifecycle import Finish, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, claim_ids, claimed, get_row, ids, seen, task, write

DEAD_LETTERS_S = DEAD_LETTERS_KEPT / SECOND


class HouseRules:
    def test_it_has_a_name_and_knows_whom_it_trusts(self, storage: Storage, another: Another) -> None:
        assert storage.name == another().name
        assert storage.is_trusted in (True, False)

    def test_another_queue_of_the_same_store_is_apart(self, storage: Storage) -> None:
        try:
            other = storage.for_queue("beside")
        except ConfigurationError:
            pytest.skip("this storage has one queue")
        other.flush()
        storage.enqueue([task("a")])
        other.enqueue([task("a"), task("b")])
        other.put("data", "k", b"v")

        assert (claim_ids(storage, 5), claim_ids(other, 5, OTHER)) == (["a"], ["a", "b"])
        assert storage.peek("data", "k") is None
        assert storage.for_queue("beside").peek("data", "k") == b"v"
        assert {storage.name, "beside"} <= set(storage.queues())
        other.close()

    def test_opening_again_is_harmless(self, storage: Storage) -> None:
        storage.enqueue([task()])

        storage.open()
        storage.open()

        assert claim_ids(storage) == ["a"]

    def test_all_is_still_there_after_close(self, storage: Storage, clock: FakeClock) -> None:
        fill(storage, clock)
        before = (storage.find(), storage.counts(), storage.ticks(), storage.workers(), storage.items("data"), storage.items("result"))

        storage.close()

        after = (storage.find(), storage.counts(), storage.ticks(), storage.workers(), storage.items("data"), storage.items("result"))
        assert after == before
        assert storage.get_revocation(TaskName("app.bad")) is not None
        assert storage.turn(ME, [], 0).is_paused

    def test_closing_twice_is_harmless(self, storage: Storage) -> None:
        storage.close()
        storage.close()

        storage.enqueue([task()])
        assert claim_ids(storage) == ["a"]

    def test_a_lease_outlives_close(self, storage: Storage) -> None:
        lease = claimed(storage)

        storage.close()

        assert write(storage, Finish(lease, State.SUCCEEDED, value=b"5")).stale == []

    def test_closing_one_handle_leaves_the_others_open(self, storage: Storage, another: Another) -> None:
        other = another()
        other.enqueue([task()])

        storage.close()

        assert claim_ids(other) == ["a"]
        assert get_row(storage).state == State.RUNNING

    def test_a_forked_child_goes_on_with_the_same_instance(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b")])
        storage.turn(ME, [], 0)

        assert exit_code_of(lambda: claim_ids(storage) == ["a"] and write_one(storage)) == 0
        assert "b" in claim_ids(storage, 9)

    def test_migrate_is_idempotent(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task()])

        assert storage.open() == another().open() >= 1
        assert claim_ids(storage) == ["a"]

    def test_flush_removes_everything(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        fill(storage, clock)

        storage.flush()

        assert (another().find(), another().counts(), another().ticks()) == ([], Counts(), {})
        assert (storage.items("data"), storage.items("result")) == ({}, {})
        assert (storage.get_revocation(TaskIds(["unknown"])), storage.get_revocation(TaskName("app.bad"))) == (None, None)
        turn = storage.turn(ME, [], 9)
        assert (turn.leases, turn.revoked_running, turn.next_due, turn.is_paused) == ([], [], None, False)
        assert seen(storage).holds == 0

    def test_after_a_flush_all_begins_anew(self, storage: Storage, clock: FakeClock) -> None:
        fill(storage, clock)
        storage.flush()

        storage.enqueue([task("ready"), task("unknown"), task("bad", "app.bad")])

        assert claim_ids(storage, 9) == ["bad", "ready", "unknown"]
        assert storage.tick("every_minute", 1, None)

    def test_the_end_of_a_run_that_was_flushed_is_refused(self, storage: Storage) -> None:
        lease = claimed(storage)

        storage.flush()

        assert write(storage, Finish(lease, State.SUCCEEDED, value=b"5")).stale == ["a"]
        assert storage.items("result") == {}

    def test_prune_leaves_what_has_its_time_before_it(self, storage: Storage, clock: FakeClock) -> None:
        fill(storage, clock)
        before = (storage.find(), storage.counts(), storage.ticks(), storage.items("data"), storage.items("result"))

        assert storage.prune() == 0

        assert before == (storage.find(), storage.counts(), storage.ticks(), storage.items("data"), storage.items("result"))

    def test_ended_tasks_are_pruned_when_their_retention_is_over(self, storage: Storage, clock: FakeClock) -> None:
        for id, state in [("failed", State.FAILED), ("cancelled", State.CANCELLED), ("back", State.QUEUED)]:
            write(storage, Finish(claimed(storage, task(id)), state, due=clock.now() + SECOND))
        clock.forward(DEAD_LETTERS_S - 1)
        storage.prune()
        early = ids(storage.find())
        clock.forward(2)

        assert storage.prune() == 2
        assert (sorted(early), ids(storage.find())) == (["back", "cancelled", "failed"], ["back"])

    def test_what_waits_or_runs_is_never_pruned(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage, task("running"))
        storage.enqueue([task("ready"), task("scheduled", eta=clock.now() + SECOND)])

        clock.forward(10 * DEAD_LETTERS_S)

        storage.prune()
        assert sorted(ids(storage.find())) == ["ready", "running", "scheduled"]

    def test_marks_of_ids_that_never_came_are_pruned(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["never"]))
        storage.revoke(TaskIds(["over"]), clock.now() + SECOND)
        storage.revoke(TaskName("app.over"), clock.now() + SECOND)
        storage.revoke(TaskName("app.add"))

        clock.forward(2)
        over = storage.prune()
        clock.forward(8 * 86400)

        assert (over, storage.prune()) == (2, 1)
        assert (
            storage.get_revocation(TaskIds(["never"])),
            storage.get_revocation(TaskIds(["over"])),
            storage.get_revocation(TaskName("app.over")),
        ) == (None, None, None)
        assert storage.get_revocation(TaskName("app.add")) is not None

    def test_many_things_past_their_time_go_in_bounded_steps(self, storage: Storage, clock: FakeClock) -> None:
        for n in range(1100):
            storage.put("data", str(n), b"v", ttl=1)
        clock.forward(2)

        steps = [storage.prune()]
        while steps[-1]:
            steps.append(storage.prune())

        assert sum(steps) == 1100
        assert max(steps) < 1100


def write_one(storage: Storage) -> bool:
    storage.put("data", "child", b"v")
    storage.enqueue([task("child", priority=-1)])
    return storage.peek("data", "child") == b"v" and get_row(storage, "child").state == State.QUEUED


def exit_code_of(is_well: Callable[[], bool]) -> int:
    """0 if *is_well* says so in a forked child."""
    pid = os.fork()
    if pid == 0:
        # Whatever goes wrong in the child, it must not come back into the test run.
        try:
            os._exit(0 if is_well() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fill(storage: Storage, clock: FakeClock) -> None:
    """Something of everything; and the queue is paused."""
    write(storage, Finish(claimed(storage, task("failed")), State.FAILED, reason="error", value=b"error"))
    claimed(storage, task("running"))
    storage.enqueue([task("ready"), task("scheduled", eta=clock.now() + SECOND)])
    storage.tick("every_minute", clock.now(), None)
    storage.put("data", "k", b"v")
    storage.revoke(TaskIds(["unknown"]))
    storage.revoke(TaskName("app.bad"))
    storage.pause(True)
