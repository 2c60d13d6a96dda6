"""Succeeded tasks that are kept for a time of their own (``Finish.keep``), whatever ``keep_finished`` says."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import KEPT_RESULT, Storage
from huey.storage.rows import Counts, TaskIds, Turn
from huey.task.lifecycle import Finish, State
from huey.task.record import Lease
from huey.testing.clock import FakeClock
from huey.testing.contract.again import again
from huey.testing.contract.edges import pipeline
from huey.testing.contract.statistics import totals
from huey.testing.contract.tools import ME, Another, claim, claimed, get_row, ids, seen, task, write

MINUTE = 60 * SECOND


def succeed(storage: Storage, lease: Lease, keep: int | None = MINUTE, value: bytes | None = b"5") -> Turn:
    return write(storage, Finish(lease, State.SUCCEEDED, value=value, keep=keep))


class KeptRules:
    def test_a_success_can_be_kept_for_a_time(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        lease = claimed(storage)
        clock.forward(1)

        turn, once_more = succeed(storage, lease), succeed(storage, lease)

        row, until = get_row(another()), clock.now() + MINUTE
        assert (turn.stale, once_more.stale, storage.peek("result", "a")) == ([], ["a"], b"5")
        assert (row.state, row.worker, row.finished, row.due, row.payload) == (State.SUCCEEDED, None, clock.now(), until, b"payload")
        assert (storage.counts(), totals(storage, "succeeded")) == (Counts(succeeded=1, results=1), {"app.add": 1})
        assert (storage.find(State.SUCCEEDED), storage.find("kept"), storage.find()) == ([row], [row], [row])
        assert (claim(storage), seen(storage).holds) == ([], 0)

    def test_it_goes_when_the_time_is_over(self, storage: Storage, clock: FakeClock) -> None:
        succeed(storage, claimed(storage))
        clock.forward(59)
        before, is_there = storage.prune(), storage.get("a") is not None
        clock.forward(1)

        assert (before, is_there) == (0, True)
        assert (storage.prune(), storage.get("a"), storage.find("kept"), storage.counts()) == (1, None, [], Counts(results=1))
        assert storage.prune() == 0

    def test_without_a_time_it_goes_at_once(self, storage: Storage) -> None:
        succeed(storage, claimed(storage), keep=None)

        assert (storage.get("a"), storage.find("kept")) == (None, [])

    def test_only_a_success_is_kept_so(self, storage: Storage, clock: FakeClock) -> None:
        write(storage, Finish(claimed(storage), State.FAILED, reason="error", keep=MINUTE))

        clock.forward(60)

        assert (storage.prune(), get_row(storage).state, storage.find("kept")) == (0, State.FAILED, [])

    def test_the_first_to_go_are_listed_first(self, storage: Storage, clock: FakeClock) -> None:
        for id, seconds in (("b", 30), ("c", 10), ("a", 20)):
            succeed(storage, claimed(storage, task(id, name=f"app.{id}")), keep=seconds * SECOND)

        assert ids(storage.find("kept")) == ["c", "a", "b"]
        assert (ids(storage.find("kept", limit=2)), ids(storage.find("kept", "app.b"))) == (["c", "a"], ["b"])

    def test_the_time_can_be_changed(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        for id in ("longer", "shorter", "same"):
            succeed(storage, claimed(storage, task(id)))

        storage.keep(["longer", "unknown"], clock.now() + 10 * MINUTE)
        another().keep(["shorter"], clock.now() + SECOND)
        clock.forward(60)

        assert (storage.prune(), ids(storage.find("kept"))) == (2, ["longer"])
        clock.forward(9 * 60)
        assert (storage.prune(), storage.find()) == (1, [])

    def test_only_what_is_kept_so_can_be_kept_longer(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("ready"), task("scheduled", eta=clock.now() + SECOND)])
        write(storage, Finish(claimed(storage, task("failed", priority=1)), State.FAILED, reason="error"))
        before = storage.find()

        storage.keep(["ready", "scheduled", "failed"], clock.now() + MINUTE)
        storage.keep([], clock.now() + MINUTE)

        assert (storage.find(), storage.find("kept")) == (before, [])

    def test_its_result_stays_as_long(self, storage: Storage, clock: FakeClock) -> None:
        succeed(storage, claimed(storage))
        storage.put("result", "a", b"5", ttl=10)
        storage.put("result", "other", b"6", ttl=10)

        storage.keep(["a"], clock.now() + 10 * MINUTE)
        clock.forward(600 + KEPT_RESULT / SECOND - 1)
        storage.prune()

        assert storage.items("result") == {"a": b"5"}
        clock.forward(1)
        assert storage.items("result") == {}

    def test_a_result_that_stays_longer_anyway_does_so(self, storage: Storage, clock: FakeClock) -> None:
        succeed(storage, claimed(storage))
        storage.put("result", "a", b"5", ttl=3600)

        storage.keep(["a"], clock.now() + SECOND)
        clock.forward(3599)
        storage.prune()

        assert storage.items("result") == {"a": b"5"}

    def test_a_result_that_was_read_does_not_come_back(self, storage: Storage, clock: FakeClock) -> None:
        succeed(storage, claimed(storage))
        storage.take("result", ["a"], remove=True)

        storage.keep(["a"], clock.now() + 10 * MINUTE)

        assert (storage.items("result"), storage.counts()) == ({}, Counts(succeeded=1))

    def test_without_a_value_it_has_no_result(self, storage: Storage, clock: FakeClock) -> None:
        succeed(storage, claimed(storage), value=None)

        assert (storage.counts(), get_row(storage).state) == (Counts(succeeded=1), State.SUCCEEDED)

    def test_what_was_kept_stays_succeeded(self, storage: Storage, clock: FakeClock) -> None:
        succeed(storage, claimed(storage))

        storage.revoke(TaskIds(["a"]))
        storage.enqueue([task("a")])

        assert (storage.retry(["a"]), storage.restore(TaskIds(["a"])), claim(storage)) == ([], [], [])
        assert (get_row(storage).state, ids(storage.find("kept"))) == (State.SUCCEEDED, ["a"])

    def test_what_was_kept_can_be_discarded(self, storage: Storage) -> None:
        succeed(storage, claimed(storage))

        assert (storage.discard(["a"]), storage.get("a"), storage.find("kept"), storage.counts()) == (["a"], None, [], Counts())

    def test_an_id_that_was_kept_may_come_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([again("a")])
        (first,) = claim(storage)
        succeed(storage, first)

        storage.enqueue([again("a", payload=b"new")])
        (second,) = claim(storage)
        clock.forward(60)
        storage.prune()

        assert (second.payload, second.token > first.token, storage.find("kept")) == (b"new", True, [])
        assert (get_row(storage).state, succeed(storage, first).stale) == (State.RUNNING, ["a"])
        assert (succeed(storage, second).stale, storage.counts()) == ([], Counts(succeeded=1, results=1))

    def test_the_tokens_of_what_was_kept_do_not_come_again(self, storage: Storage, clock: FakeClock) -> None:
        tokens = []
        for _ in range(3):
            storage.enqueue([again("a")])
            (lease,) = claim(storage)
            tokens.append(lease.token)
            succeed(storage, lease)
            clock.forward(60)
            storage.prune()

        assert tokens == sorted(set(tokens))

    def test_what_waited_for_it_runs_and_its_edges_go_with_it(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue_workflow(pipeline(storage, "a", "b"))
        succeed(storage, claim(storage)[0])

        (end,) = storage.parent_ends("b")
        (edge,) = storage.edges(["a"])

        assert (end.value, edge.child.id, edge.outcome, ids(storage.find("ready"))) == (b"5", "b", "succeeded", ["b"])
        clock.forward(60)
        assert (storage.prune(), storage.get("a"), claim(storage)[0].id) == (1, None, "b")

    def test_many_are_kept_and_go(self, storage: Storage, clock: FakeClock) -> None:
        leases: list[Lease] = []
        for part in range(3):
            storage.enqueue([task(f"{part}-{n}") for n in range(400)])
            leases += (some := claim(storage, 400))
            storage.turn(ME, [Finish(lease, State.SUCCEEDED, keep=MINUTE) for lease in some], 0)
        kept = storage.counts().succeeded
        storage.keep([lease.id for lease in leases[:1000]], clock.now() + 2 * MINUTE)
        clock.forward(60)
        first = storage.prune()
        clock.forward(60)
        while storage.prune():
            pass

        assert (kept, first, storage.counts()) == (1200, 200, Counts())
