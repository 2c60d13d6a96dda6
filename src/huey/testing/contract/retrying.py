"""By hand: what has ended is put back."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.rows import TaskIds
from huey.task.lifecycle import Finish, Raised, Returned, State, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import claim, claim_ids, claimed, end, get_row, ids, task, write


class RetryingRules:
    def test_an_ended_task_can_be_put_back_as_if_it_were_new(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=3))
        write(
            storage,
            Finish(lease, State.FAILED, attempt=3, solo_crashes=2, deaths=4, unknown_until=1, reason="error", error={"error": "E()"}),
        )
        clock.forward(1)
        storage.enqueue([task("waits")])
        clock.forward(1)

        assert storage.retry(["a"]) == ["a"]

        row = get_row(storage)
        assert (row.state, row.due, row.ready_at, row.attempt, row.solo_crashes, row.deaths) == (State.QUEUED, None, clock.now(), 0, 0, 0)
        assert (row.reason, row.error, row.finished) == (None, None, None)
        again = claim(storage, 2)
        assert [lease.id for lease in again] == ["waits", "a"]
        assert (again[1].attempt, again[1].unknown_until) == (0, None)
        assert again[1].token > lease.token

    def test_a_task_that_is_put_back_by_hand_leaves_no_old_error(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task())
        write(storage, decide(lease, Raised({"error": "nope"}), clock.now())._replace(value=b"error"))

        storage.retry(["a"])
        end(storage, clock, claim(storage)[0], Returned(None))

        assert storage.peek("result", "a") is None

    def test_a_revoked_task_that_is_put_back_by_hand_runs(self, storage: Storage) -> None:
        storage.enqueue([task()])
        storage.revoke(TaskIds(["a"]))
        claim(storage)

        storage.retry(["a"])

        assert storage.get_revocation(TaskIds(["a"])) is None
        assert claim_ids(storage) == ["a"]

    def test_an_expired_task_that_is_put_back_by_hand_runs(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(expires=clock.now() + SECOND)])
        clock.forward(2)
        claim(storage)

        storage.retry(["a"])

        assert claim_ids(storage) == ["a"]

    def test_only_ended_tasks_are_put_back(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage, task("failed")), Raised({"error": "E()"}))
        claimed(storage, task("running"))
        storage.enqueue([task("scheduled", eta=clock.now() + SECOND), task("ready")])

        assert storage.retry(["running", "ready", "failed", "scheduled", "unknown"]) == ["failed"]
        assert storage.retry(["failed"]) == []
        assert ids(storage.find("ready")) == ["failed", "ready"]
        assert get_row(storage, "running").state == State.RUNNING
