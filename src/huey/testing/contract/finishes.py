"""Finishing: how the end of a run is written, and when it is not."""

from __future__ import annotations

import json

import pytest

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.rows import Counts
from huey.task.lifecycle import Cancelled, Finish, Outcome, Raised, Returned, Snoozed, State, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, claim, claim_ids, claimed, end, get_row, seen, task, write

ERROR = {"error": "ValueError('x')", "traceback": "Traceback: ..."}


class FinishRules:
    result_ttl: float | None = 7 * 86400.0
    """Seconds that the storage under test keeps unread results; None: for ever."""

    def test_a_succeeded_task_is_gone(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)

        turn = end(storage, clock, lease, Returned(None))

        assert turn.stale == []
        assert storage.get("a") is None
        assert seen(storage).holds == 0

    def test_the_result_is_visible_exactly_when_the_state_is(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        lease = claimed(storage)
        assert another().peek("result", "a") is None

        end(storage, clock, lease, Returned(b"5"))

        assert another().peek("result", "a") == b"5"

    def test_a_finish_without_a_value_stores_nothing(self, storage: Storage, clock: FakeClock) -> None:
        storage.put("result", "a", b"former")

        end(storage, clock, claimed(storage), Returned(None))

        assert storage.peek("result", "a") == b"former"

    def test_an_empty_value_is_a_value(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Returned(b""))

        assert storage.peek("result", "a") == b""

    def test_a_result_replaces_the_former_one(self, storage: Storage, clock: FakeClock) -> None:
        storage.put("result", "a", b"former")

        end(storage, clock, claimed(storage), Returned(b"5"))

        assert storage.items("result") == {"a": b"5"}

    def test_an_unread_result_goes_after_its_time(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Returned(b"5"))

        clock.forward((self.result_ttl or 0) - 1)
        before = storage.peek("result", "a")
        clock.forward(2)

        assert before == b"5"
        assert storage.peek("result", "a") == (b"5" if self.result_ttl is None else None)

    def test_a_failed_task_is_kept_with_its_reason_and_its_error(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(1)

        end(storage, clock, lease, Raised(ERROR))

        row = get_row(storage)
        assert (row.state, row.reason, row.worker, row.finished) == (State.FAILED, "error", None, clock.now())
        assert json.loads(row.error or "") == ERROR
        assert row.payload == b"payload"
        assert claim(storage) == []

    def test_a_failed_task_may_have_a_result(self, storage: Storage) -> None:
        lease = claimed(storage)

        write(storage, Finish(lease, State.FAILED, reason="error", value=b"error"))

        assert storage.peek("result", "a") == b"error"

    def test_a_cancelled_task_is_kept_with_its_reason(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Cancelled("lost"))

        row = get_row(storage)
        assert (row.state, row.reason, row.worker, row.finished) == (State.CANCELLED, "lost", None, clock.now())
        assert claim(storage) == []

    def test_a_task_put_back_stands_behind_what_waits(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(1)
        storage.enqueue([task("waits")])
        clock.forward(1)

        end(storage, clock, lease, Snoozed(0, "limit"))

        row = get_row(storage)
        assert (row.state, row.due, row.ready_at, row.reason, row.worker) == (State.QUEUED, None, clock.now(), "limit", None)
        assert claim_ids(storage, 9) == ["waits", "a"]

    def test_a_task_put_back_with_a_time_in_the_past_takes_that_place(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(1)
        storage.enqueue([task("waits")])
        clock.forward(1)

        write(storage, Finish(lease, State.QUEUED, due=lease.ready_at))

        assert claim_ids(storage, 9) == ["a", "waits"]

    def test_a_task_put_back_for_later_is_scheduled(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=1, retry_delay=10.0))
        due = clock.now() + 10 * SECOND

        turn = end(storage, clock, lease, Raised(ERROR))

        assert turn.next_due == due
        assert (get_row(storage).state, get_row(storage).due) == (State.QUEUED, due)
        assert claim(storage) == []
        clock.forward(11)
        assert [lease.ready_at for lease in claim(storage)] == [due]

    def test_the_next_lease_carries_what_the_finish_counted(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)

        write(storage, Finish(lease, State.QUEUED, attempt=3, solo_crashes=2, deaths=5, unknown_until=clock.now()))

        again = claim(storage)[0]
        assert (again.attempt, again.solo_crashes, again.deaths, again.unknown_until) == (3, 2, 5, clock.now())

    def test_the_last_error_stays_until_there_is_another(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage, task(retries=5)), Raised(ERROR))
        end(storage, clock, claim(storage)[0], Snoozed(0, "limit"))
        first = get_row(storage).error

        end(storage, clock, claim(storage)[0], Raised({"error": "other"}))

        assert json.loads(first or "") == ERROR
        assert json.loads(get_row(storage).error or "") == {"error": "other"}

    def test_shutdown_never_costs_a_try(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("cut short", retries=1), task("never started", retries=1)])
        started, waiting = claim(storage, 2)

        end(storage, clock, started, Snoozed(0, "shutdown"))
        storage.release(ME, [waiting])

        assert [(lease.id, lease.attempt, lease.deaths) for lease in claim(storage, 2)] == [("cut short", 0, 0), ("never started", 0, 0)]

    def test_finishes_are_written_before_the_claim(self, storage: Storage) -> None:
        lease = claimed(storage)

        turn = storage.turn(ME, [Finish(lease, State.QUEUED)], 1)

        assert [again.id for again in turn.leases] == ["a"]
        assert turn.leases[0].token > lease.token

    def test_one_turn_writes_many_ends(self, storage: Storage) -> None:
        storage.enqueue([task(f"{n:03}") for n in range(300)])
        leases = claim(storage, 300)
        states = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.QUEUED)

        turn = write(storage, *(Finish(lease, states[n % 4], value=b"v") for n, lease in enumerate(leases)))

        assert turn.stale == []
        assert storage.counts() == Counts(ready=75, failed=75, cancelled=75, results=300)

    def test_a_worker_that_lost_its_lease_changes_nothing(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(60)
        storage.reclaim(seen(storage), OTHER)
        before = get_row(storage)

        turn = write(storage, Finish(lease, State.SUCCEEDED, value=b"late"))
        storage.release(ME, [lease])

        assert turn.stale == ["a"]
        assert get_row(storage) == before
        assert storage.peek("result", "a") is None

    def test_a_stale_token_changes_nothing(self, storage: Storage) -> None:
        stale = claimed(storage)
        storage.release(ME, [stale])
        lease = claim(storage)[0]

        turns = [write(storage, Finish(stale, state, value=b"late")) for state in (State.SUCCEEDED, State.FAILED, State.QUEUED)]

        assert [turn.stale for turn in turns] == [["a"]] * 3
        assert (get_row(storage).state, get_row(storage).token) == (State.RUNNING, lease.token)
        assert storage.peek("result", "a") is None

    def test_another_worker_cannot_write_the_end_of_a_run(self, storage: Storage) -> None:
        lease = claimed(storage)

        turn = write(storage, Finish(lease, State.FAILED, reason="error"), by=OTHER)

        assert turn.stale == ["a"]
        assert get_row(storage).state == State.RUNNING

    def test_the_same_finish_sent_again_is_refused_and_changes_nothing(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        write(storage, Finish(lease, State.QUEUED, due=clock.now() + SECOND, attempt=1))
        before = get_row(storage)

        turn = write(storage, Finish(lease, State.QUEUED, due=clock.now() + 9 * SECOND, attempt=2, value=b"again"))

        assert turn.stale == ["a"]
        assert get_row(storage) == before
        assert storage.peek("result", "a") is None

    def test_the_same_turn_sent_again_after_an_error_is_safe(self, storage: Storage) -> None:
        lease = claimed(storage)
        storage.enqueue([task("b"), task("c")])

        first = storage.turn(ME, [Finish(lease, State.SUCCEEDED, value=b"5")], 1)
        again = storage.turn(ME, [Finish(lease, State.SUCCEEDED, value=b"5")], 1)

        assert (first.stale, [lease.id for lease in first.leases]) == ([], ["b"])
        assert (again.stale, [lease.id for lease in again.leases]) == (["a"], ["c"])
        assert storage.items("result") == {"a": b"5"}

    def test_the_end_of_a_task_that_is_not_held_is_refused(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        end(storage, clock, lease, Returned(None))

        turn = write(storage, Finish(lease, State.FAILED, reason="error", value=b"late"))

        assert turn.stale == ["a"]
        assert storage.get("a") is None
        assert storage.peek("result", "a") is None

    def test_a_refused_finish_does_not_hold_up_the_others(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        leases = claim(storage, 3)
        storage.release(ME, [leases[1]])

        turn = write(storage, *(Finish(lease, State.SUCCEEDED) for lease in leases))

        assert turn.stale == ["b"]
        assert [row.id for row in storage.find()] == ["b"]

    def test_a_turn_that_cannot_be_written_changes_nothing(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        good, bad = claim(storage, 2)
        failed = False

        try:
            storage.turn(ME, [Finish(good, State.SUCCEEDED), Finish(bad, State.FAILED, error={"error": object()})], 1)
        except (TypeError, ValueError):
            failed = True

        assert failed
        assert [row.state for row in storage.find()] == [State.RUNNING, State.RUNNING, State.QUEUED]
        assert storage.turn(ME, [Finish(good, State.SUCCEEDED), Finish(bad, State.SUCCEEDED)], 1).stale == []

    @pytest.mark.parametrize("outcome", [Returned(b"new"), Raised({"error": "E()"})], ids=["returned", "raised"])
    @pytest.mark.parametrize("is_first", [True, False], ids=["old first", "new first"])
    def test_of_two_finishes_of_one_task_in_a_turn_the_one_whose_lease_holds_counts(
        self, storage: Storage, clock: FakeClock, outcome: Outcome, is_first: bool
    ) -> None:
        """The older one could not be written while the storage was away; meanwhile the task came back to the same worker."""
        stale = claimed(storage, task(retries=5))
        storage.release(ME, [stale])
        (held,) = claim(storage)
        both = [decide(stale, Returned(b"old"), clock.now()), decide(held, outcome, clock.now())]

        turn = write(storage, *(both if is_first else reversed(both)))

        assert turn.stale == [stale.id]
        assert storage.leases(ME) == []
        assert storage.peek("result", stale.id) == (b"new" if isinstance(outcome, Returned) else None)
