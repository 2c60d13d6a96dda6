"""Will: what is revoked and restored."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import FOREVER, REVOCATION_KEPT, Storage
from huey.storage.rows import Revocation, TaskIds, TaskName
from huey.task.lifecycle import Cancelled, CancelledAtClaim, Finish, Raised, Returned, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, claim, claim_ids, claimed, end, get_row, seen, task, write

DAY = 86400.0


class RevocationRules:
    def test_a_revoked_task_is_cancelled_when_it_is_due(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        storage.enqueue([task(retries=2, retry_delay=0.5), task("b")])

        another().revoke(TaskIds(["a"]))
        waiting = get_row(storage)
        turn = storage.turn(ME, [], 9)

        assert (waiting.state, waiting.revoked_until) == (State.QUEUED, FOREVER)
        assert turn.cancelled == [CancelledAtClaim("a", "app.add", "revoked", 2, 0.5)]
        assert [lease.id for lease in turn.leases] == ["b"]
        assert (get_row(storage).state, get_row(storage).reason, get_row(storage).finished) == (State.CANCELLED, "revoked", clock.now())

    def test_a_revoked_task_waits_for_its_time_like_any_other(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(eta=clock.now() + 5 * SECOND)])
        storage.revoke(TaskIds(["a"]))

        assert storage.turn(ME, [], 1).cancelled == []
        clock.forward(6)
        assert len(storage.turn(ME, [], 1).cancelled) == 1

    def test_revoke_is_a_mark_that_can_be_restored_until_the_claim_obeys(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b")])
        storage.revoke(TaskIds(["a", "b"]))

        assert storage.restore(TaskIds(["a"])) == ["a"]
        assert claim_ids(storage, 2) == ["a"]
        assert storage.restore(TaskIds(["b"])) == []
        assert get_row(storage, "b").state == State.CANCELLED

    def test_restore_returns_only_what_was_marked(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b")])
        storage.revoke(TaskIds(["b", "unknown"]))

        assert storage.restore(TaskIds(["a", "b", "unknown", "never"])) == ["b", "unknown"]
        assert storage.restore(TaskIds(["a", "b", "unknown", "never"])) == []

    def test_a_revocation_ends_at_its_time(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a"), task("b", eta=clock.now() + 20 * SECOND)])
        storage.revoke(TaskIds(["a", "b"]), clock.now() + 10 * SECOND)

        assert claim(storage) == []
        clock.forward(21)
        assert claim_ids(storage) == ["b"]

    def test_each_revocation_overwrites_the_former(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task()])
        soon, late = clock.now() + SECOND, clock.now() + 9 * SECOND

        storage.revoke(TaskIds(["a"]), once=True)
        storage.revoke(TaskIds(["a"]), late)
        storage.revoke(TaskIds(["a"]), soon, True)

        assert storage.get_revocation(TaskIds(["a"])) == Revocation(soon, True)
        clock.forward(2)
        assert claim_ids(storage) == ["a"]

    def test_each_revocation_overwrites_the_former_also_of_an_unknown_id(self, storage: Storage, clock: FakeClock) -> None:
        soon = clock.now() + SECOND
        storage.revoke(TaskIds(["a"]))
        storage.revoke(TaskIds(["a"]), soon, True)
        first = storage.get_revocation(TaskIds(["a"]))
        storage.revoke(TaskIds(["a"]))
        storage.enqueue([task()])

        storage.revoke(TaskIds(["a"]), soon)

        assert (first, storage.get_revocation(TaskIds(["a"]))) == (Revocation(soon, True), Revocation(soon, False))
        clock.forward(2)
        assert claim_ids(storage) == ["a"]

    def test_a_revocation_that_a_claim_obeyed_can_still_be_seen(self, storage: Storage) -> None:
        storage.enqueue([task()])
        storage.revoke(TaskIds(["a"]))

        claim(storage)

        assert storage.get_revocation(TaskIds(["a"])) == Revocation(FOREVER, False)

    def test_a_revocation_for_once_goes_with_the_run_it_prevents(self, storage: Storage) -> None:
        storage.enqueue([task()])
        storage.revoke(TaskIds(["a"]), once=True)
        assert storage.get_revocation(TaskIds(["a"])) == Revocation(FOREVER, True)

        assert claim(storage) == []

        assert storage.get_revocation(TaskIds(["a"])) is None
        assert get_row(storage).state == State.CANCELLED

    def test_what_has_ended_is_beyond_revoking(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Raised({"error": "E()"}))

        storage.revoke(TaskIds(["a"]))

        assert storage.get_revocation(TaskIds(["a"])) is None
        assert storage.restore(TaskIds(["a"])) == []

    def test_nothing_revoked(self, storage: Storage) -> None:
        storage.enqueue([task()])

        assert storage.get_revocation(TaskIds(["a"])) is None
        assert storage.get_revocation(TaskIds(["unknown"]), TaskName("app.add")) is None
        assert storage.get_revocation() is None

    # -- ids that are not held ----------------------------------------------------------------------------------------------------------

    def test_the_mark_of_an_unknown_id_waits_for_its_task(self, storage: Storage, another: Another) -> None:
        another().revoke(TaskIds(["a"]))
        assert storage.get_revocation(TaskIds(["a"])) == Revocation(FOREVER, False)

        storage.enqueue([task("a"), task("b")])

        assert claim_ids(storage, 9) == ["b"]
        assert get_row(storage).reason == "revoked"

    def test_the_mark_of_an_unknown_id_is_obeyed_once_if_it_was_for_once(self, storage: Storage) -> None:
        storage.revoke(TaskIds(["a"]), once=True)
        storage.enqueue([task()])

        assert claim(storage) == []
        assert storage.get_revocation(TaskIds(["a"])) is None
        storage.retry(["a"])
        assert claim_ids(storage) == ["a"]

    def test_the_mark_of_an_unknown_id_can_be_restored(self, storage: Storage) -> None:
        storage.revoke(TaskIds(["a", "b"]))
        assert storage.restore(TaskIds(["a"])) == ["a"]

        storage.enqueue([task("a"), task("b")])
        assert storage.restore(TaskIds(["b"])) == ["b"]

        assert claim_ids(storage, 2) == ["a", "b"]

    def test_the_mark_of_an_unknown_id_is_kept_for_a_week(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["a", "b"]))

        clock.forward(REVOCATION_KEPT / SECOND - 10)
        storage.prune()
        storage.enqueue([task("a")])
        clock.forward(20)
        unmarked = storage.get_revocation(TaskIds(["b"]))
        storage.enqueue([task("b")])

        assert unmarked is None
        assert claim_ids(storage, 9) == ["b"]

    def test_a_task_that_met_its_mark_carries_it_however_long_it_waits(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["a"]))
        storage.enqueue([task(eta=clock.now() + 3 * REVOCATION_KEPT)])

        clock.forward(4 * REVOCATION_KEPT / SECOND)
        storage.prune()

        assert claim(storage) == []
        assert get_row(storage).reason == "revoked"

    def test_a_tick_obeys_the_mark_of_its_task(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["a"]))

        storage.tick("every_minute", clock.now(), task())

        assert claim(storage) == []
        assert get_row(storage).reason == "revoked"

    def test_a_mark_stays_while_its_task_is_not_put_in(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["a"]))
        clock.forward(REVOCATION_KEPT / SECOND + 1)
        storage.enqueue([task("a")])
        storage.revoke(TaskIds(["b"]))
        clock.set(clock.now() - 10 * SECOND)

        storage.enqueue([task("a"), task("b")])

        assert storage.restore(TaskIds(["a"])) == []
        assert claim_ids(storage, 9) == ["a"]
        assert (storage.get_revocation(TaskIds(["a"])), get_row(storage, "a").revoked_until) == (Revocation(FOREVER, False), None)
        assert get_row(storage, "b").reason == "revoked"

    def test_a_mark_past_its_time_is_not_handed_over_and_not_removed(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["a"]))
        clock.forward(REVOCATION_KEPT / SECOND + 1)
        storage.revoke(TaskIds(["b", "c"]))

        storage.enqueue([task("a"), task("b")])
        storage.tick("every_minute", clock.now(), task("d"))
        assert storage.restore(TaskIds(["a", "c"])) == ["c"]

        assert claim_ids(storage, 9) == ["a", "d"]
        clock.set(clock.now() - 10 * SECOND)
        assert storage.get_revocation(TaskIds(["a"])) == Revocation(FOREVER, False)

    # -- tasks that run -----------------------------------------------------------------------------------------------------------------

    def test_a_running_task_that_is_cancelled_is_named_in_the_next_turns_of_its_worker(self, storage: Storage, another: Another) -> None:
        claimed(storage)
        claimed(storage, task("b"))

        another().revoke(TaskIds(["a"]))

        assert storage.turn(OTHER, [], 0).revoked_running == []
        assert storage.turn(ME, [], 0).revoked_running == ["a"]
        assert storage.turn(ME, [], 0).revoked_running == ["a"]

    def test_a_running_task_is_not_named_when_its_revocation_has_ended_or_was_restored(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        claimed(storage, task("b"))
        storage.revoke(TaskIds(["a"]))
        storage.revoke(TaskIds(["b"]), clock.now() + SECOND)

        assert storage.restore(TaskIds(["a"])) == ["a"]
        clock.forward(2)

        assert storage.turn(ME, [], 0).revoked_running == []

    def test_a_cancelled_running_task_never_goes_back_to_queued(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=5))
        storage.revoke(TaskIds(["a"]))

        turn = end(storage, clock, lease, Raised({"error": "E()"}))

        assert (turn.stale, turn.revoked_running) == ([], [])
        row = get_row(storage)
        assert (row.state, row.reason, row.finished, row.worker) == (State.CANCELLED, "revoked", clock.now(), None)
        assert claim(storage) == []

    def test_a_cancelled_running_task_never_goes_back_to_queued_for_later_either(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        storage.revoke(TaskIds(["a"]), once=True)

        turn = write(storage, Finish(lease, State.QUEUED, due=clock.now() + SECOND))

        assert turn.next_due is None
        assert get_row(storage).state == State.CANCELLED
        assert storage.get_revocation(TaskIds(["a"])) is None

    def test_a_cancelled_running_task_may_end_in_its_own_way(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        leases = claim(storage, 3)
        storage.revoke(TaskIds(["a", "b", "c"]))

        end(storage, clock, leases[0], Returned(b"5"))
        end(storage, clock, leases[1], Raised({"error": "E()"}))
        end(storage, clock, leases[2], Cancelled("revoked"))

        assert storage.peek("result", "a") == b"5"
        assert [row.state for row in storage.find()] == [State.FAILED, State.CANCELLED]

    def test_a_cancelled_task_that_never_started_is_cancelled_by_the_next_claim(self, storage: Storage) -> None:
        leases = [claimed(storage)]
        storage.revoke(TaskIds(["a"]))

        storage.release(ME, leases)

        assert claim(storage) == []
        assert get_row(storage).reason == "revoked"

    def test_a_dead_workers_cancelled_task_is_named_to_its_heir(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        storage.revoke(TaskIds(["a"]))
        clock.forward(60)

        storage.reclaim(seen(storage), OTHER)

        assert storage.turn(OTHER, [], 0).revoked_running == ["a"]

    # -- names --------------------------------------------------------------------------------------------------------------------------

    def test_a_revoked_name_means_present_and_future_tasks(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task("a", "app.one"), task("b", "app.other")])

        another().revoke(TaskName("app.one"))
        storage.enqueue([task("c", "app.one")])

        assert claim_ids(storage, 9) == ["b"]
        assert [(row.id, row.reason) for row in storage.find(State.CANCELLED)] == [("a", "revoked"), ("c", "revoked")]
        assert storage.get_revocation(TaskName("app.one")) == Revocation(FOREVER, False)

    def test_a_revoked_name_can_be_restored(self, storage: Storage) -> None:
        storage.enqueue([task()])
        storage.revoke(TaskName("app.add"))

        assert storage.restore(TaskName("app.add"))
        assert not storage.restore(TaskName("app.add"))
        assert storage.get_revocation(TaskName("app.add")) is None
        assert claim_ids(storage) == ["a"]

    def test_a_name_revoked_for_once_costs_only_the_next_due_task(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b", priority=1), task("c")])
        storage.revoke(TaskName("app.add"), once=True)

        turn = storage.turn(ME, [], 9)

        assert [cancelled.id for cancelled in turn.cancelled] == ["b"]
        assert [lease.id for lease in turn.leases] == ["a", "c"]
        assert storage.get_revocation(TaskName("app.add")) is None
        storage.retry(["b"])
        assert claim_ids(storage) == ["b"]

    def test_a_name_revoked_for_once_waits_for_a_task_that_is_due(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a", eta=clock.now() + SECOND), task("b", "app.other")])
        storage.revoke(TaskName("app.add"), once=True)

        assert claim_ids(storage, 9) == ["b"]
        assert storage.get_revocation(TaskName("app.add")) == Revocation(FOREVER, True)
        clock.forward(2)
        assert claim(storage) == []

    def test_a_name_is_revoked_until_its_time(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskName("app.add"), clock.now() + 5 * SECOND)
        storage.enqueue([task("a")])

        assert claim(storage) == []
        clock.forward(6)
        storage.enqueue([task("b")])
        assert claim_ids(storage) == ["b"]

    def test_each_revocation_of_a_name_overwrites_the_former(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskName("app.add"))
        storage.revoke(TaskName("app.add"), clock.now() + SECOND, True)

        assert storage.get_revocation(TaskName("app.add")) == Revocation(clock.now() + SECOND, True)

    def test_the_tasks_own_mark_comes_first(self, storage: Storage, clock: FakeClock) -> None:
        until = clock.now() + SECOND
        storage.enqueue([task("a"), task("b")])
        storage.revoke(TaskName("app.add"))
        storage.revoke(TaskIds(["a", "unknown"]), until)

        assert storage.get_revocation(TaskIds(["a"]), TaskName("app.add")) == Revocation(until, False)
        assert storage.get_revocation(TaskIds(["unknown"]), TaskName("app.add")) == Revocation(until, False)
        assert storage.get_revocation(TaskIds(["b"]), TaskName("app.add")) == Revocation(FOREVER, False)
        assert storage.get_revocation(TaskIds(["b"])) is None

    def test_the_mark_of_a_name_is_no_mark_of_its_tasks(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b")])
        storage.revoke(TaskIds(["b"]))
        storage.revoke(TaskName("app.add"))

        assert claim(storage, 2) == []

        assert (storage.get_revocation(TaskIds(["a"])), get_row(storage).revoked_until) == (None, None)
        assert storage.get_revocation(TaskIds(["b"])) == Revocation(FOREVER, False)

    def test_a_name_revoked_for_once_is_not_used_up_by_a_task_with_a_mark_of_its_own(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        storage.revoke(TaskIds(["a"]))
        storage.revoke(TaskName("app.add"), once=True)

        assert claim_ids(storage, 9) == ["c"]
        assert storage.get_revocation(TaskIds(["a"])) == Revocation(FOREVER, False)

    def test_a_mark_for_once_goes_with_its_task_also_when_the_name_is_what_bars_it(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task()])
        storage.revoke(TaskIds(["a"]), clock.now() + SECOND, True)
        storage.revoke(TaskName("app.add"))
        clock.forward(2)

        assert claim(storage) == []

        assert (storage.get_revocation(TaskIds(["a"])), get_row(storage).revoked_until) == (None, None)

    def test_a_name_that_is_somebodys_id_bars_only_the_name(self, storage: Storage) -> None:
        storage.enqueue([task("app.add", "app.other"), task("b")])
        storage.revoke(TaskName("app.add"), once=True)

        assert claim_ids(storage, 9) == ["app.add"]
        assert get_row(storage, "b").reason == "revoked"

    def test_a_revoked_name_does_not_stop_what_runs(self, storage: Storage) -> None:
        lease = claimed(storage)

        storage.revoke(TaskName("app.add"))

        assert storage.turn(ME, [], 0).revoked_running == []
        assert write(storage, Finish(lease, State.SUCCEEDED)).stale == []

    def test_the_mark_of_a_name_is_not_pruned_while_it_is_in_force(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskName("app.add"))

        clock.forward(100 * DAY)
        storage.prune()

        assert storage.get_revocation(TaskName("app.add")) == Revocation(FOREVER, False)
