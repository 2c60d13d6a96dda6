"""Ids that come again: what is held is not enqueued twice, what has ended is a new run. For storages that keep terms
(``supports_constraints``)."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from huey.runtime.clock import SECOND
from huey.storage.base import DEAD_LETTERS_KEPT, FOREVER, Storage
from huey.storage.locks import Holder
from huey.storage.rows import Counts, TaskIds
from huey.task.lifecycle import Finish, Outcome, Raised, Returned, Snoozed, State
from huey.task.record import Lease, Record
from huey.task.record_options import Constraints, with_constraints
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, claim, claim_ids, end, get_row, seen, task, write

_instants = count(1_700_000_000_000_000)
FAILURE = Raised({"error": "E()"}, may_retry=False)


def again(id: str = "a", own: int | None = None, *, unique: str | None = None, **fields: Any) -> Record:
    """One more enqueue of an id. *own*: which; None: yet another."""
    constraints = Constraints(own=next(_instants) if own is None else own, unique=unique)
    return task(id, options=with_constraints(None, constraints), **fields)


def run(storage: Storage, clock: FakeClock, record: Record, outcome: Outcome | None = None) -> Lease:
    """Put it in, run it to its end; the lease that it had."""
    storage.enqueue([record])
    (lease,) = claim(storage)
    end(storage, clock, lease, outcome or Returned(b"1"))
    return lease


class AgainRules:
    def test_an_own_id_that_is_held_is_not_put_in_twice_and_its_caller_is_told(self, storage: Storage, another: Another) -> None:
        storage.enqueue([again("a"), again("b", eta=FOREVER)])
        assert storage.enqueue([again("a", payload=b"other"), again("b"), again("c")]) == {"a": "a", "b": "b"}
        claim(storage)

        assert another().enqueue([again("a", payload=b"other")]) == {"a": "a"}
        assert get_row(storage).payload == b"payload"
        assert storage.counts() == Counts(ready=1, scheduled=1, running=1)

    @pytest.mark.parametrize("outcome", [Returned(b"1"), Returned(None), FAILURE], ids=["value", "none", "failed"])
    def test_an_own_id_that_has_ended_is_a_new_run(self, storage: Storage, clock: FakeClock, outcome: Outcome) -> None:
        run(storage, clock, again("a", retries=3), outcome)

        assert storage.enqueue([again("a", payload=b"new", priority=2)]) == {}
        row = get_row(storage)
        assert (row.state, row.payload, row.priority, row.attempt, row.retries) == (State.QUEUED, b"new", 2, 0, 0)
        assert claim_ids(storage, 9) == ["a"]

    def test_an_own_id_that_was_revoked_or_expired_is_a_new_run(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([again("a"), again("b", expires=clock.now() + SECOND)])
        storage.revoke(TaskIds(["a"]))
        clock.forward(2)
        claim(storage, 9)

        storage.enqueue([again("a"), again("b")])

        assert claim_ids(storage, 9) == ["a", "b"]

    def test_nothing_is_left_of_the_former_run(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a", retries=1), Raised({"error": "E()"}))
        (lease,) = claim(storage)
        write(
            storage,
            Finish(lease, State.FAILED, attempt=2, solo_crashes=2, deaths=2, reason="poison", error={"error": "E()"}, value=b"error"),
        )

        storage.enqueue([again("a")])

        row = get_row(storage)
        assert (row.error, row.attempts, row.reason, row.finished) == (None, None, None, None)
        assert (row.attempt, row.solo_crashes, row.deaths, row.worker) == (0, 0, 0, None)
        assert storage.peek("result", "a") is None
        assert storage.counts() == Counts(ready=1)

    def test_the_result_of_a_run_whose_row_is_gone_goes_too(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a"), Returned(b"old"))
        kept = storage.peek("result", "a")

        storage.enqueue([again("a")])

        assert (kept, storage.peek("result", "a")) == (b"old", None)

    @pytest.mark.parametrize("how", ["finish", "discard", "prune", "flush", "flush while it runs"])
    def test_tokens_begin_above_all_that_the_id_ever_had(self, storage: Storage, clock: FakeClock, how: str) -> None:
        had = set[int]()
        for _ in range(3):
            storage.enqueue([again("a")])
            for _ in range(4):
                (lease,) = claim(storage)
                assert lease.token > max(had, default=0)
                had.add(lease.token)
                end(storage, clock, lease, Snoozed(0, "limit"))
            (lease,) = claim(storage)
            had.add(lease.token)
            if how == "flush while it runs":
                storage.flush()
                continue
            end(storage, clock, lease, Returned(None) if how == "finish" else FAILURE)
            if how == "discard":
                storage.discard(["a"])
            elif how == "prune":
                clock.forward(DEAD_LETTERS_KEPT / SECOND + 1)
                storage.prune()
            elif how == "flush":
                storage.flush()
            assert how == "finish" or storage.get("a") is None

    def test_a_generated_id_that_is_enqueued_once_more_begins_above_its_first_run(self, storage: Storage, clock: FakeClock) -> None:
        first = run(storage, clock, task("a"), Returned(None))

        second = run(storage, clock, again("a"), Returned(None))

        assert (first.token, second.token > first.token) == (1, True)

    def test_tokens_of_ordinary_ids_begin_with_one(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a"))
        run(storage, clock, again("a"))

        assert run(storage, clock, task("b")).token == 1

    def test_a_retry_by_hand_keeps_its_enqueue_and_raises_the_token(self, storage: Storage, clock: FakeClock) -> None:
        former = run(storage, clock, again("a", own=7), FAILURE)

        storage.retry(["a"])

        (lease,) = claim(storage)
        assert lease.token > former.token
        assert lease.options == former.options

    def test_what_the_former_run_sends_late_changes_nothing(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([again("a")])
        (former,) = claim(storage)
        clock.forward(60)
        successor = storage.reclaim(seen(storage), OTHER)[0]
        end(storage, clock, successor, Returned(None), by=OTHER)
        storage.enqueue([again("a")])
        (lease,) = claim(storage)

        for late in (former, successor):
            assert end(storage, clock, late, Returned(b"late")).stale == ["a"]
            storage.release(ME, [late])
            assert storage.acquire_lock("lock", Holder("a", late.token)) is None
        assert get_row(storage).state == State.RUNNING
        assert storage.peek("result", "a") is None
        assert end(storage, clock, lease, Returned(b"1")).stale == []

    def test_a_lock_of_the_former_run_is_free_and_its_release_frees_no_other(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([again("a")])
        (former,) = claim(storage)
        old = storage.acquire_lock("lock", Holder("a", former.token))
        end(storage, clock, former, Returned(None))
        storage.enqueue([again("a")])
        (lease,) = claim(storage)

        new = storage.acquire_lock("lock", Holder("a", lease.token))

        assert (old or 0) < (new or 0)
        assert not storage.release_lock("lock", old or 0)
        held = storage.find_lock("lock")
        assert held is not None
        assert held.holder == Holder("a", lease.token)

    def test_an_id_that_comes_again_waits_for_a_unique_key_like_any_other(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a", unique="k"), FAILURE)
        storage.enqueue([again("b", unique="k")])

        assert storage.enqueue([again("a", unique="k")]) == {"a": "b"}
        assert get_row(storage).state == State.FAILED

    def test_of_two_with_one_id_in_a_call_the_first_counts(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a"), FAILURE)

        storage.enqueue([again("a", payload=b"1"), again("a", payload=b"2"), task("b")])

        assert [(lease.id, lease.payload) for lease in claim(storage, 9)] == [("a", b"1"), ("b", b"payload")]

    def test_the_first_of_two_counts_also_where_it_changes_nothing(self, storage: Storage) -> None:
        storage.enqueue([task("a")])

        assert storage.enqueue([task("a"), again("a")]) == {}

    def test_a_record_without_that_wish_leaves_what_has_ended_as_it_is(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a"), FAILURE)

        storage.enqueue([task("a")])

        assert get_row(storage).state == State.FAILED
        assert claim(storage) == []

    def test_followers_are_told_of_each_new_run(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a"), FAILURE)
        storage.enqueue([again("b")])
        position = storage.follow(None)[0]

        storage.enqueue([again("a"), again("b")], lambda: ["of a", "of b"])

        assert storage.follow(position)[1] == ["of a"]

    def test_each_run_counts(self, storage: Storage, clock: FakeClock) -> None:
        for _ in range(3):
            run(storage, clock, again("a"), FAILURE)
        storage.enqueue([again("a")])

        (stat,) = storage.stats(clock.now() - 120 * SECOND)
        assert (stat.enqueued, stat.failed) == (4, 3)


class AgainRevokedRules:
    def test_a_revocation_of_one_enqueue_holds_for_no_other(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([again("a", own=5)])
        storage.revoke(TaskIds(["a"], 4))
        assert storage.get_revocation(TaskIds(["a"], 5)) is None
        end(storage, clock, claim(storage)[0], Returned(None))
        storage.revoke(TaskIds(["a"], 5))

        storage.enqueue([again("a", own=6)])

        assert storage.get_revocation(TaskIds(["a"], 6)) is None
        assert claim_ids(storage) == ["a"]

    def test_a_revocation_of_one_enqueue_holds_for_it(self, storage: Storage, clock: FakeClock) -> None:
        storage.revoke(TaskIds(["a"], 5))
        storage.enqueue([again("a", own=5), again("b", own=6)])
        storage.revoke(TaskIds(["b"], 6))

        assert claim_ids(storage, 9) == []
        assert [get_row(storage, id).reason for id in "ab"] == ["revoked"] * 2

    def test_a_running_task_is_asked_to_stop_by_a_revocation_of_its_enqueue_only(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([again("a", own=5)])
        claim(storage)
        storage.revoke(TaskIds(["a"], 4))
        others = storage.turn(ME, [], 0).revoked_running

        storage.revoke(TaskIds(["a"], 5))

        assert (others, storage.turn(ME, [], 0).revoked_running) == ([], ["a"])

    def test_a_revocation_of_an_id_that_is_not_held_holds_for_its_next_enqueue(self, storage: Storage, clock: FakeClock) -> None:
        for outcome in (Returned(None), FAILURE):
            run(storage, clock, again("a"), outcome)
            storage.revoke(TaskIds(["a"]))
            assert storage.get_revocation(TaskIds(["a"])) is not None
            storage.enqueue([again("a")])
            assert claim_ids(storage) == []
            storage.enqueue([again("a")])
            end(storage, clock, claim(storage)[0], Returned(None))

    def test_revocations_of_what_is_not_held_can_be_taken_back(self, storage: Storage, clock: FakeClock) -> None:
        run(storage, clock, again("a", own=5), FAILURE)
        storage.revoke(TaskIds(["a"]))
        storage.revoke(TaskIds(["a"], 6))

        assert (storage.restore(TaskIds(["a"], 5)), storage.restore(TaskIds(["a"], 6)), storage.restore(TaskIds(["a"]))) == (
            [],
            ["a"],
            ["a"],
        )
        storage.enqueue([again("a", own=6)])
        assert claim_ids(storage) == ["a"]

    def test_the_revocation_of_an_enqueue_can_be_taken_back_while_it_waits(self, storage: Storage) -> None:
        storage.enqueue([again("a", own=5)])
        storage.revoke(TaskIds(["a"], 5))

        assert storage.restore(TaskIds(["a"], 4)) == []
        assert storage.get_revocation(TaskIds(["a"], 5)) is not None
        assert storage.restore(TaskIds(["a"], 5)) == ["a"]
        assert claim_ids(storage) == ["a"]
