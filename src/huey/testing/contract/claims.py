"""Claiming: what a turn hands out, and in which order."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import PROMOTE, TURN_BYTES, Storage
from huey.storage.rows import Turn
from huey.task.lifecycle import CancelledAtClaim, Finish, Snoozed, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, at_once, claim, claim_ids, claimed, end, get_row, known, seen, task


class ClaimRules:
    def test_a_claimed_task_is_running_under_its_worker(self, storage: Storage) -> None:
        storage.enqueue([task()])

        lease = claim(storage)[0]

        row = get_row(storage)
        assert (row.state, row.worker, row.token) == (State.RUNNING, ME.id, lease.token)

    def test_a_lease_tells_all_about_its_task(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=2, retry_delay=0.5))

        assert (lease.id, lease.name, lease.payload, lease.ready_at) == ("a", "app.add", b"payload", clock.now())
        assert (lease.attempt, lease.solo_crashes, lease.deaths, lease.unknown_until) == (0, 0, 0, None)
        assert (lease.retries, lease.retry_delay, lease.expires, lease.options) == (2, 0.5, None, None)

    def test_a_turn_with_nothing_to_do_returns_with_nothing(self, storage: Storage) -> None:
        turn = storage.turn(ME, [], 10)

        assert turn == Turn([])

    def test_a_turn_may_take_a_hook_for_the_time_in_which_it_waits(self, storage: Storage) -> None:
        storage.enqueue([task()])
        calls: list[str] = []

        lease = storage.turn(ME, [], 1, before_io=lambda: calls.append("first")).leases[0]
        storage.turn(ME, [Finish(lease, State.SUCCEEDED)], 0, before_io=lambda: calls.append("second"))

        assert calls in ([], ["first", "second"])
        assert storage.find() == []

    def test_a_turn_that_wants_nothing_claims_nothing(self, storage: Storage) -> None:
        storage.enqueue([task()])

        turn = storage.turn(ME, [], 0)

        assert turn.leases == []
        assert not turn.may_have_more
        assert get_row(storage).state == State.QUEUED

    def test_a_turn_claims_as_many_as_it_wants_and_tells_that_there_may_be_more(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])

        first, second = storage.turn(ME, [], 2), storage.turn(ME, [], 2)

        assert ([lease.id for lease in first.leases], first.may_have_more) == (["a", "b"], True)
        assert ([lease.id for lease in second.leases], second.may_have_more) == (["c"], False)

    def test_a_turn_claims_no_more_bytes_than_its_measure_and_one_task(self, storage: Storage, clock: FakeClock) -> None:
        light, heavy, least = [f"light-{n:03}" for n in range(512)], [f"heavy-{n:02}" for n in range(20)], [f"small-{n}" for n in range(9)]
        storage.enqueue([task(id, payload=b"x") for id in light])
        clock.forward(1)
        storage.enqueue([task(id, payload=bytes(1_000_000)) for id in heavy])
        clock.forward(1)
        storage.enqueue([task(id, payload=b"x") for id in least])

        turns = [storage.turn(ME, [], want) for want in (506, 512, 512, 512)]

        brought = [[lease.id for lease in turn.leases] for turn in turns]
        assert brought == [light[:506], light[506:] + heavy[:9], heavy[9:18], heavy[18:] + least]
        assert all(sum(len(lease.payload) for lease in turn.leases) <= TURN_BYTES + 1_000_000 for turn in turns)
        assert [turn.may_have_more for turn in turns] == [True, True, True, False]

    def test_what_a_turn_leaves_for_its_weight_is_not_touched(self, storage: Storage) -> None:
        storage.enqueue([task(f"{n}", payload=bytes(1_000_000)) for n in range(10, 30)])

        claim(storage, 512)

        assert [row.token for row in map(storage.get, ("18", "19", "29")) if row] == [1, 0, 0]
        assert storage.counts().ready == 11
        assert claim_ids(storage, by=OTHER) == ["19"]

    def test_higher_priority_comes_first(self, storage: Storage, clock: FakeClock) -> None:
        for id, priority in [("low", -(2**40)), ("none", 0), ("some", 1), ("high", 2**40)]:
            storage.enqueue([task(id, priority=priority)])
            clock.forward(1)

        assert claim_ids(storage, 9) == ["high", "some", "none", "low"]

    def test_a_released_task_comes_before_those_of_the_next_lower_priority(self, storage: Storage) -> None:
        for priority in (0, 1, -1, -2):
            storage.enqueue([task("m", priority=priority), task("z", priority=priority)])
            first = claim(storage, 2)[0]
            storage.enqueue([task("a", priority=priority - 1)])
            storage.release(ME, [first])

            assert claim_ids(storage, 2) == ["m", "a"]
            storage.turn(ME, [Finish(each, State.SUCCEEDED) for each in storage.leases(ME)], 0)

    def test_of_equal_priority_the_older_place_comes_first(self, storage: Storage, clock: FakeClock) -> None:
        for id in ["c", "a", "b"]:
            storage.enqueue([task(id, priority=5)])
            clock.forward(0.000001)

        assert claim_ids(storage, 9) == ["c", "a", "b"]

    def test_of_equal_place_the_smaller_id_comes_first(self, storage: Storage) -> None:
        storage.enqueue([task("c"), task("a"), task("B"), task("b")])

        assert claim_ids(storage, 9) == ["B", "a", "b", "c"]

    def test_the_order_is_the_same_one_by_one(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("d"), task("b", priority=1), task("c", priority=1), task("x", eta=clock.now() + SECOND, priority=1)])
        clock.forward(2)
        storage.enqueue([task("a", priority=1)])

        assert [claim_ids(storage)[0] for _ in range(5)] == ["b", "c", "x", "a", "d"]

    def test_two_claims_never_return_the_same_task(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task("a"), task("b")])

        assert claim_ids(storage, 2) == ["a", "b"]
        assert claim_ids(another(), 2, by=OTHER) == []
        assert claim_ids(storage, 2) == []

    def test_claims_at_the_same_time_share_what_there_is(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task(f"{n:03}") for n in range(90)])
        other = another()

        def claims(storage: Storage, who: int) -> list[str]:
            return [id for _ in range(15) for id in claim_ids(storage, 2, by=(ME, OTHER)[who])]

        taken = at_once(lambda: claims(storage, 0), lambda: claims(other, 1), lambda: claims(storage, 1))
        assert sorted(id for part in taken for id in part) == [f"{n:03}" for n in range(90)]

    def test_each_claim_raises_the_token(self, storage: Storage, clock: FakeClock) -> None:
        leases = [claimed(storage)]

        for _ in range(3):
            end(storage, clock, leases[-1], Snoozed(0, "limit"))
            leases += claim(storage)

        tokens = [lease.token for lease in leases]
        assert tokens[0] >= 1
        assert tokens == sorted(set(tokens))

    def test_a_scheduled_task_is_claimed_when_its_time_has_come_and_not_before(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(eta=clock.now() + 10 * SECOND)])

        clock.forward(9.999999)
        assert claim(storage) == []
        clock.forward(0.000001)
        assert claim_ids(storage) == ["a"]

    def test_a_scheduled_task_takes_the_place_of_its_time(self, storage: Storage, clock: FakeClock) -> None:
        due = clock.now() + 2 * SECOND
        storage.enqueue([task("scheduled", eta=due)])
        clock.forward(1)
        storage.enqueue([task("before")])
        clock.forward(2)
        storage.enqueue([task("after")])

        leases = claim(storage, 3)

        assert [lease.id for lease in leases] == ["before", "scheduled", "after"]
        assert leases[1].ready_at == due

    def test_a_turn_tells_when_the_next_scheduled_task_is_due(self, storage: Storage, clock: FakeClock) -> None:
        soon, later = clock.now() + SECOND, clock.now() + 5 * SECOND
        storage.enqueue([task("later", eta=later), task("soon", eta=soon)])

        assert storage.turn(ME, [], 0).next_due == soon
        clock.forward(1)
        assert storage.turn(ME, [], 1).next_due == later
        clock.forward(5)
        assert storage.turn(ME, [], 1).next_due is None

    def test_one_turn_makes_a_bounded_number_of_scheduled_tasks_ready_soonest_first(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(f"{n:03}", eta=clock.now() + (1000 - n) * SECOND) for n in range(PROMOTE + 10)])
        clock.forward(1001)

        first = claim_ids(storage, 1000)
        second = claim_ids(storage, 1000)

        assert first == [f"{n:03}" for n in reversed(range(10, PROMOTE + 10))]
        assert second == [f"{n:03}" for n in reversed(range(10))]

    def test_an_expired_task_is_cancelled_instead_of_handed_out(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(expires=clock.now() + SECOND, retries=2, retry_delay=1.5), task("b", expires=clock.now() + 9 * SECOND)])
        clock.forward(2)

        turn = storage.turn(ME, [], 9)

        assert turn.cancelled == [CancelledAtClaim("a", "app.add", "expired", 2, 1.5)]
        assert [lease.id for lease in turn.leases] == ["b"]
        assert (get_row(storage).state, get_row(storage).reason, get_row(storage).finished) == (State.CANCELLED, "expired", clock.now())

    def test_a_task_expires_also_while_it_is_scheduled(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(eta=clock.now() + 2 * SECOND, expires=clock.now() + SECOND)])
        clock.forward(3)

        assert [cancelled.reason for cancelled in storage.turn(ME, [], 1).cancelled] == ["expired"]

    def test_those_turned_away_are_not_replaced_in_the_same_turn(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a", expires=clock.now() + SECOND), task("b")])
        clock.forward(2)

        first, second = storage.turn(ME, [], 1), storage.turn(ME, [], 1)

        assert (first.leases, len(first.cancelled), first.may_have_more) == ([], 1, True)
        assert [lease.id for lease in second.leases] == ["b"]

    def test_a_turn_makes_its_worker_known_and_renews_its_lease(self, storage: Storage, clock: FakeClock) -> None:
        assert known(storage) is None
        storage.turn(ME, [], 0)
        first = seen(storage)
        clock.forward(1)

        storage.turn(ME, [], 0)

        assert first.worker == ME
        assert seen(storage).until > first.until

    def test_while_paused_nothing_is_claimed(self, storage: Storage, another: Another) -> None:
        storage.enqueue([task()])

        another().pause(True)
        paused = storage.turn(ME, [], 1)
        storage.pause(False)
        resumed = storage.turn(ME, [], 1)

        assert (paused.leases, paused.may_have_more, paused.is_paused) == ([], False, True)
        assert (len(resumed.leases), resumed.is_paused) == (1, False)

    def test_while_paused_finishes_are_written(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)

        storage.pause(True)

        assert end(storage, clock, lease, Snoozed(0, "limit")).stale == []
        assert get_row(storage).state == State.QUEUED
