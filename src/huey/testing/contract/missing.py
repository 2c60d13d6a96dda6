"""Tasks that no worker could run so far: they wait for one that can, and no other meets them again."""

from __future__ import annotations

import pytest

from huey.runtime.clock import SECOND
from huey.storage.base import TURN_BYTES, Storage
from huey.storage.rows import Missing, TaskIds, TaskName
from huey.task.lifecycle import UNKNOWN_FOR, Finish, Raised, State, Unrunnable, decide
from huey.task.record import Lease, Record
from huey.task.record_options import Constraints, with_constraints
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, claim, claim_ids, claimed, end, get_row, ids, seen, task, write

ERROR = {"error": "UnknownTask()", "traceback": ""}
ADD = Missing("app.add", "unknown task")


def requeue_unknown(storage: Storage, clock: FakeClock, record: Record | None = None, reason: str = "unknown task") -> Lease:
    """A task that a worker claimed and could not run."""
    lease = claimed(storage, record)
    end(storage, clock, lease, Unrunnable(ERROR, reason))
    return lease


class MissingRules:
    def test_what_no_worker_could_run_waits_and_is_claimed_no_more(self, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock)

        row, counts = get_row(storage), storage.counts()
        assert (row.state, row.reason, row.due) == (State.BLOCKED, "unknown task", clock.now() + UNKNOWN_FOR)
        assert (counts.blocked, counts.scheduled, counts.ready) == (1, 0, 0)
        assert (ids(storage.find(State.BLOCKED)), storage.find("scheduled"), storage.find(State.QUEUED)) == (["a"], [], [])
        clock.forward(3600)
        assert claim_ids(storage) == []

    def test_what_is_missing_is_told_once_for_each_name_and_reason(self, storage: Storage, clock: FakeClock) -> None:
        assert storage.missing() == []
        for id, name, reason in (("a", "app.add", "unknown task"), ("b", "app.add", "unknown task"), ("c", "app.add", "unknown class m.C")):
            requeue_unknown(storage, clock, task(id, name), reason)

        assert sorted(storage.missing()) == [("app.add", "unknown class m.C"), ADD]

    def test_a_worker_that_can_run_it_takes_it_at_once(self, storage: Storage, clock: FakeClock) -> None:
        former = requeue_unknown(storage, clock, task(payload=b"mine", retries=2))

        (lease,) = storage.claim_missing(OTHER, [ADD], 5)

        assert (lease.id, lease.name, lease.payload, lease.retries_left) == ("a", "app.add", b"mine", 2)
        assert lease.token > former.token
        row = get_row(storage)
        assert (row.state, row.worker, row.reason, row.due) == (State.RUNNING, OTHER.id, None, None)
        assert (seen(storage, OTHER).holds, storage.missing(), storage.counts().blocked) == (1, [], 0)
        assert storage.claim_missing(ME, [ADD], 5) == []

    def test_only_what_is_asked_for_is_taken_and_no_more_than_is_wanted(self, storage: Storage, clock: FakeClock) -> None:
        for id, name in (("a", "app.add"), ("b", "app.other"), ("c", "app.add"), ("d", "app.add")):
            requeue_unknown(storage, clock, task(id, name, priority=int(id == "d")))

        assert [lease.id for lease in storage.claim_missing(OTHER, [ADD, Missing("app.none", "unknown task")], 2)] == ["d", "a"]
        assert sorted(storage.missing()) == [ADD, ("app.other", "unknown task")]
        assert [lease.id for lease in storage.claim_missing(OTHER, [ADD], 2)] == ["c"]
        assert storage.missing() == [("app.other", "unknown task")]

    def test_heavy_ones_are_taken_a_few_at_a_time(self, storage: Storage, clock: FakeClock) -> None:
        for number in range(3):
            requeue_unknown(storage, clock, task(f"t{number}", payload=bytes(TURN_BYTES // 2 + 1)))

        assert [len(storage.claim_missing(OTHER, [ADD], 9)) for _ in range(3)] == [2, 1, 0]

    def test_what_is_put_back_to_run_at_once_waits_for_no_worker(self, storage: Storage) -> None:
        write(storage, Finish(claimed(storage), State.QUEUED, unknown_until=0))

        assert [lease.unknown_until for lease in claim(storage)] == [None]

    def test_it_ends_as_any_other_after_that(self, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock, task(retries=1))
        (lease,) = storage.claim_missing(OTHER, [ADD], 1)

        end(storage, clock, lease, Raised(ERROR), by=OTHER)

        again = claim(storage)[0]
        assert (again.attempt, again.unknown_until) == (1, None)
        end(storage, clock, again, Raised(ERROR))
        assert get_row(storage).state == State.FAILED

    def test_when_its_time_is_over_any_worker_claims_it_and_it_fails(self, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock)
        clock.forward(UNKNOWN_FOR / SECOND)

        lease = claim(storage)[0]

        assert (storage.missing(), storage.counts().blocked) == ([], 0)
        assert decide(lease, Unrunnable(ERROR), clock.now()).state == State.FAILED

    def test_a_second_worker_that_cannot_run_it_does_not_prolong_its_time(self, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock)
        until = clock.now() + UNKNOWN_FOR
        clock.forward(60)
        (lease,) = storage.claim_missing(OTHER, [ADD], 1)

        write(storage, decide(lease, Unrunnable(ERROR), clock.now()), by=OTHER)

        assert (get_row(storage).due, get_row(storage).state, storage.missing()) == (until, State.BLOCKED, [ADD])

    def test_a_paused_queue_gives_none(self, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock)
        storage.pause(True)

        assert storage.claim_missing(OTHER, [ADD], 1) == []
        storage.pause(False)
        assert [lease.id for lease in storage.claim_missing(OTHER, [ADD], 1)] == ["a"]

    @pytest.mark.parametrize("why", ["task", "name", "expired"])
    def test_what_is_revoked_or_expired_is_not_taken_but_ends(self, why: str, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock, task(expires=clock.now() + 60 * SECOND))
        if why == "task":
            storage.revoke(TaskIds(["a"]))
        elif why == "name":
            storage.revoke(TaskName("app.add"))
        else:
            clock.forward(61)

        assert storage.claim_missing(OTHER, [ADD], 1) == []
        assert [cancelled.id for cancelled in storage.turn(ME, [], 1).cancelled] == ["a"]
        assert (get_row(storage).state, storage.missing()) == (State.CANCELLED, [])

    def test_a_suspect_is_not_taken_but_waits_to_run_alone(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)._replace(solo_crashes=1)
        end(storage, clock, lease, Unrunnable(ERROR))

        assert storage.claim_missing(OTHER, [ADD], 1) == []

        storage.turn(ME, [], 0)
        assert ids(storage.find("suspect")) == ["a"]

    @pytest.mark.parametrize(
        "constraints", [Constraints(unique="key"), Constraints(concurrency_key="limit", max_running=1)], ids=["unique", "limit"]
    )
    def test_what_shares_something_with_others_becomes_ready(self, constraints: Constraints, storage: Storage, clock: FakeClock) -> None:
        if not storage.features.supports_constraints:
            return
        storage.enqueue([task(options=with_constraints(None, constraints))])
        end(storage, clock, claim(storage)[0], Unrunnable(ERROR))
        assert (get_row(storage).state, claim_ids(storage)) == (State.BLOCKED, [])

        assert storage.claim_missing(OTHER, [ADD], 1) == []

        assert claim_ids(storage) == ["a"]

    @pytest.mark.parametrize("scheduled", [True, False])
    def test_it_is_emptied_with_what_waits_and_not_with_what_is_scheduled(
        self, scheduled: bool, storage: Storage, clock: FakeClock
    ) -> None:
        for id in ("a", "b"):
            requeue_unknown(storage, clock, task(id))
        storage.enqueue([task("later", eta=clock.now() + SECOND)])

        assert storage.flush("scheduled" if scheduled else "ready") == (1 if scheduled else 2)

        counts = storage.counts()
        assert (counts.blocked, counts.scheduled) == ((2, 0) if scheduled else (0, 1))
        assert len(storage.claim_missing(OTHER, [ADD], 5)) == counts.blocked
        assert storage.missing() == []

    def test_a_flushed_queue_has_none(self, storage: Storage, clock: FakeClock) -> None:
        requeue_unknown(storage, clock)

        storage.flush()

        assert (storage.missing(), storage.counts().blocked, storage.claim_missing(OTHER, [ADD], 1)) == ([], 0, [])
