"""History: what is remembered of failed runs, and what is kept of what succeeded."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from huey.runtime.clock import SECOND, Micros
from huey.storage.base import ATTEMPTS_KEPT, Storage
from huey.storage.rows import Counts, TaskIds
from huey.task.lifecycle import Cancelled, Finish, Raised, Returned, Snoozed, State, WorkerDied
from huey.testing.clock import FakeClock
from huey.testing.contract.again import again
from huey.testing.contract.edges import pipeline
from huey.testing.contract.statistics import totals
from huey.testing.contract.tools import ME, OTHER, Another, claim, claimed, end, get_row, ids, seen, task, write

Keeping = Callable[..., Storage]


class AttemptRules:
    def test_a_failed_task_keeps_its_arguments_and_what_went_wrong(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Raised(error("no")))

        row = get_row(storage)
        assert (row.payload, row.reason, json.loads(row.error or "")) == (b"payload", "error", error("no"))
        assert attempts(storage) == [attempt(clock.now(), "no")]

    def test_each_failed_try_is_remembered_until_the_end(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        first, second = clock.now(), clock.now() + SECOND
        end(storage, clock, claimed(storage, task(retries=1)), Raised(error("one")))
        retried = attempts(another())
        clock.forward(1)

        end(storage, clock, claim(storage, by=OTHER)[0], Raised(error("two")), by=OTHER)

        assert retried == [attempt(first, "one")]
        assert attempts(another()) == [attempt(first, "one"), attempt(second, "two", worker=OTHER.id)]
        assert storage.find(State.FAILED) == [get_row(storage)]

    def test_only_the_last_tries_are_remembered(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(retries=9)])

        for n in range(ATTEMPTS_KEPT + 2):
            end(storage, clock, claim(storage)[0], Raised(error(str(n))))

        assert [each["error"] for each in attempts(storage)] == [str(n) for n in range(2, ATTEMPTS_KEPT + 2)]

    def test_a_death_is_remembered_with_the_worker_that_died(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        clock.forward(60)
        (lease,) = storage.reclaim(seen(storage), OTHER)

        end(storage, clock, lease, WorkerDied(), by=OTHER)

        assert attempts(storage) == [attempt(clock.now(), None, reason="worker died")]

    def test_who_looks_after_the_dead_is_not_taken_for_one_of_them(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        clock.forward(60)
        storage.reclaim(seen(storage), OTHER)
        clock.forward(60)
        third = OTHER._replace(id="worker-3")
        (lease,) = storage.reclaim(seen(storage, OTHER), third)
        end(storage, clock, lease, WorkerDied(), by=third)

        end(storage, clock, claim(storage, by=third)[0], Raised(error("no")), by=third)

        assert [each["worker"] for each in attempts(storage)] == [ME.id, third.id]

    def test_why_a_run_ended_is_remembered_also_when_the_task_is_revoked_then(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=1))
        storage.revoke(TaskIds(["a"]))

        end(storage, clock, lease, Raised(error("no")))

        assert (get_row(storage).state, get_row(storage).reason) == (State.CANCELLED, "revoked")
        assert attempts(storage) == [attempt(clock.now(), "no", reason="error")]

    def test_what_was_given_back_unrun_is_not_held_against_the_dead(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        clock.forward(60)
        storage.release(OTHER, storage.reclaim(seen(storage), OTHER))

        end(storage, clock, claim(storage, by=OTHER)[0], Raised(error("no")), by=OTHER)

        assert [each["worker"] for each in attempts(storage)] == [OTHER.id]

    def test_what_ends_otherwise_is_no_attempt(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Snoozed(0, "shutdown"))
        storage.release(ME, claim(storage))
        end(storage, clock, claim(storage)[0], Cancelled("revoked"))

        assert get_row(storage).attempts is None

    def test_an_error_without_a_text_is_an_attempt(self, storage: Storage) -> None:
        write(storage, Finish(claimed(storage), State.FAILED, reason="error", error={}))

        assert [each["error"] for each in attempts(storage)] == [None]

    def test_who_retries_by_hand_sees_the_former_attempts(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Raised(error("no")))

        storage.retry(["a"])

        assert (get_row(storage).error, [each["error"] for each in attempts(storage)]) == (None, ["no"])

    def test_an_ended_task_can_be_discarded_with_its_result(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        for id in ("failed", "kept"):
            write(storage, Finish(claimed(storage, task(id)), State.FAILED, reason="error", value=b"error"))
        end(storage, clock, claimed(storage, task("cancelled")), Cancelled("revoked"))

        gone = storage.discard(["failed", "cancelled", "unknown"])

        assert (sorted(gone), ids(another().find())) == (["cancelled", "failed"], ["kept"])
        assert another().items("result") == {"kept": b"error"}
        assert storage.discard([]) == storage.discard(["failed"]) == []

    def test_what_waits_or_runs_is_not_discarded(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage, task("running"))
        storage.enqueue([task("ready"), task("scheduled", eta=clock.now() + SECOND)])
        storage.put("result", "ready", b"former")

        assert storage.discard(["running", "ready", "scheduled"]) == []
        assert (len(storage.find()), storage.peek("result", "ready")) == (3, b"former")


class KeepingRules:
    """For storages that can keep what succeeded: a fixture ``keeping(keep_finished)`` makes an open and empty one."""

    def test_a_succeeded_task_can_be_kept(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(10)
        lease = claimed(storage)
        clock.forward(1)

        turn = end(storage, clock, lease, Returned(b"5"))
        once_more = end(storage, clock, lease, Returned(b"6"))

        row = get_row(storage)
        assert (turn.stale, once_more.stale, storage.peek("result", "a")) == ([], ["a"], b"5")
        assert (row.state, row.worker, row.reason, row.finished, row.payload) == (State.SUCCEEDED, None, None, clock.now(), b"payload")
        assert storage.counts() == Counts(succeeded=1, results=1)
        assert (storage.find(State.SUCCEEDED), claim(storage), seen(storage).holds) == ([row], [], 0)

    def test_what_succeeded_stays_so(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(10)
        end(storage, clock, claimed(storage), Returned(b"5"))

        storage.revoke(TaskIds(["a"]))
        storage.enqueue([task("a")])

        assert (storage.retry(["a"]), storage.restore(TaskIds(["a"])), claim(storage)) == ([], [], [])
        assert (get_row(storage).state, totals(storage, "enqueued")) == (State.SUCCEEDED, {"app.add": 1})
        assert (storage.discard(["a"]), storage.get("a"), storage.peek("result", "a")) == (["a"], None, None)

    def test_an_id_that_comes_again_is_a_new_run_though_the_former_one_was_kept(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(10)
        storage.enqueue([again("a")])
        (first,) = claim(storage)
        end(storage, clock, first, Returned(b"5"))

        duplicates = storage.enqueue([again("a", payload=b"new")])

        row = get_row(storage)
        assert (duplicates, row.state, row.payload, row.finished, row.attempt) == ({}, State.QUEUED, b"new", None, 0)
        assert (storage.counts(), storage.peek("result", "a")) == (Counts(ready=1), None)
        (second,) = claim(storage)
        assert second.token > first.token
        assert end(storage, clock, first, Returned(b"late")).stale == ["a"]
        end(storage, clock, second, Returned(b"6"))
        assert (storage.find(State.SUCCEEDED), storage.peek("result", "a")) == ([get_row(storage)], b"6")

    def test_tokens_of_what_was_kept_and_then_removed_do_not_come_again(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(10)
        tokens = []
        for _ in range(3):
            storage.enqueue([again("a")])
            (lease,) = claim(storage)
            tokens.append(lease.token)
            end(storage, clock, lease, Returned(b"5"))
            storage.discard(["a"])

        assert tokens == sorted(set(tokens))

    def test_the_newest_are_kept(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(2)
        for id in "dacb":
            end(storage, clock, claimed(storage, task(id)), Returned(None))
            clock.forward(1)
        write(storage, Finish(claimed(storage, task("failed")), State.FAILED, reason="error"))

        assert (storage.prune(), storage.prune()) == (2, 0)
        assert sorted(ids(storage.find())) == ["b", "c", "failed"]

    def test_the_children_of_what_was_kept_can_be_found(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(10)
        storage.enqueue_workflow(pipeline(storage, "a", "b"))
        end(storage, clock, claim(storage)[0], Returned(b"5"))

        (edge,) = storage.edges(["a"])

        assert (edge.parent.id, edge.child.id, edge.outcome) == ("a", "b", "succeeded")
        storage.discard(["a"])
        assert [it.parent.id for it in storage.edges(["b"])] == ["a"]

    def test_they_are_kept_for_a_time(self, keeping: Keeping, clock: FakeClock) -> None:
        storage = keeping(timedelta(days=60))
        end(storage, clock, claimed(storage, task("old")), Returned(None))
        clock.forward(31 * 86400)
        end(storage, clock, claimed(storage, task("new")), Returned(None))
        storage.prune()
        before = sorted(ids(storage.find()))
        clock.forward(29 * 86400)

        storage.prune()

        assert (before, ids(storage.find())) == (["new", "old"], ["new"])


def error(text: str) -> dict[str, Any]:
    return {"error": text, "traceback": f"Traceback: {text}"}


def attempts(storage: Storage, id: str = "a") -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = json.loads(get_row(storage, id).attempts or "[]")
    return kept


def attempt(at: Micros, error: str | None, reason: str = "error", worker: str = ME.id) -> dict[str, Any]:
    return {"at": at, "worker": worker, "host": ME.host, "pid": ME.pid, "reason": reason, "error": error}
