"""Locks and rates. For storages that keep them (``supports_constraints``)."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.storage.base import LEASE, Storage
from huey.storage.locks import HOLDER, Held, Holder
from huey.task.lifecycle import Returned, Snoozed
from huey.testing.clock import FakeClock
from huey.testing.contract.enqueueing import ODD
from huey.testing.contract.tools import ME, OTHER, Another, at_once, claim, claimed, end, seen, task

HERE, THERE = Holder("process-1"), Holder("process-2")


class LockRules:
    def test_a_lock_has_one_holder(self, storage: Storage, another: Another) -> None:
        token = storage.acquire_lock("l", HERE)

        assert token is not None
        assert another().acquire_lock("l", THERE) is None
        assert storage.acquire_lock("l", HERE) is None
        assert another().find_lock("l") == Held("l", token, HERE)
        assert storage.find_lock("other") is None

    def test_of_many_who_ask_one_gets_it(self, storage: Storage, another: Another) -> None:
        other = another()

        tokens = at_once(*(lambda n=n: (storage, other)[n % 2].acquire_lock("l", Holder(str(n))) for n in range(4)))

        assert len([token for token in tokens if token is not None]) == 1

    def test_a_lock_that_is_given_up_is_free(self, storage: Storage, another: Another) -> None:
        token = storage.acquire_lock("l", HERE) or 0

        assert another().release_lock("l", token)
        assert not storage.release_lock("l", token)
        assert storage.find_lock("l") is None
        assert storage.acquire_lock("l", THERE) is not None

    def test_the_token_of_a_lock_only_grows(self, storage: Storage) -> None:
        tokens = []
        for _ in range(4):
            tokens.append(storage.acquire_lock("l", HERE) or 0)
            storage.release_lock("l", tokens[-1])
        storage.flush()
        tokens.append(storage.acquire_lock("l", HERE) or 0)

        assert tokens == sorted(set(tokens))
        assert tokens[0] > 0

    def test_who_lost_a_lock_does_not_free_the_next_holders(self, storage: Storage, clock: FakeClock) -> None:
        before = storage.acquire_lock("l", HERE) or 0
        clock.forward(HOLDER / SECOND + 1)
        after = storage.acquire_lock("l", THERE)

        assert not storage.release_lock("l", before)
        assert storage.find_lock("l") == Held("l", after or 0, THERE)

    def test_a_processs_lock_ends_with_its_lease_unless_it_is_renewed(self, storage: Storage, clock: FakeClock) -> None:
        storage.acquire_lock("a", HERE)
        storage.acquire_lock("b", HERE)
        storage.acquire_lock("c", THERE)
        clock.forward(HOLDER / SECOND - 1)
        assert storage.renew_locks(HERE) == 2
        clock.forward(2)

        assert [storage.find_lock(name) is not None for name in "abc"] == [True, True, False]
        clock.forward(HOLDER / SECOND)
        assert storage.renew_locks(HERE) == 0
        assert storage.find_lock("a") is None

    def test_a_tasks_lock_ends_with_its_run(self, storage: Storage, clock: FakeClock) -> None:
        for outcome in (Returned(None), Snoozed(0, "limit")):
            lease = claimed(storage)
            storage.acquire_lock("l", Holder(lease.id, lease.token))
            held = storage.acquire_lock("l", THERE)
            end(storage, clock, lease, outcome)

            assert held is None
            assert storage.find_lock("l") is None

    def test_a_tasks_lock_lasts_as_long_as_its_workers_lease_is_renewed(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        storage.acquire_lock("l", Holder(lease.id, lease.token))
        for _ in range(5):
            clock.forward(LEASE / SECOND - 1)
            storage.heartbeat([ME])

        assert storage.acquire_lock("l", THERE) is None
        clock.forward(LEASE / SECOND + 1)
        assert storage.acquire_lock("l", THERE) is not None

    def test_a_takeover_frees_the_lock_of_a_dead_workers_task_at_once(self, storage: Storage) -> None:
        lease = claimed(storage)
        storage.acquire_lock("l", Holder(lease.id, lease.token))

        storage.reclaim(seen(storage), OTHER)

        assert storage.find_lock("l") is None
        assert storage.acquire_lock("l", Holder(lease.id, lease.token)) is None
        assert storage.acquire_lock("l", Holder(lease.id, lease.token + 1)) is not None

    def test_a_run_that_is_not_leased_gets_no_lock(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        end(storage, clock, lease, Returned(None))
        storage.enqueue([task("b")])

        assert storage.acquire_lock("l", Holder(lease.id, lease.token)) is None
        assert storage.acquire_lock("l", Holder("b", 1)) is None

    def test_a_lock_with_a_time_is_free_after_it_whatever_is_renewed(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        run = Holder(lease.id, lease.token)
        storage.acquire_lock("of a process", HERE, ttl=20)
        storage.acquire_lock("of a run", run, ttl=20.0)
        storage.acquire_lock("without", HERE)
        for _ in range(2):
            clock.forward(10 - 0.001)
            storage.heartbeat([ME])
            assert storage.renew_locks(HERE) == 2
        before = [storage.find_lock(name) is not None for name in ("of a process", "of a run", "without")]
        clock.forward(0.003)

        assert before == [True, True, True]
        assert [storage.find_lock(name) is not None for name in ("of a process", "of a run", "without")] == [False, False, True]
        assert storage.renew_locks(HERE) == 1
        assert storage.acquire_lock("of a process", THERE) is not None
        assert storage.acquire_lock("of a run", run) is not None

    def test_a_time_never_makes_a_lock_last_beyond_its_holder(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        storage.acquire_lock("of a process", HERE, ttl=3600)
        storage.acquire_lock("of a run", Holder(lease.id, lease.token), ttl=3600)
        end(storage, clock, lease, Returned(None))
        clock.forward(HOLDER / SECOND + 1)

        assert (storage.find_lock("of a process"), storage.find_lock("of a run")) == (None, None)

    def test_who_held_a_lock_beyond_its_time_neither_frees_nor_keeps_the_next_holders(self, storage: Storage, clock: FakeClock) -> None:
        before = storage.acquire_lock("l", HERE, ttl=1) or 0
        clock.forward(1.5)
        nobodys = storage.release_lock("l", before)
        after = storage.acquire_lock("l", THERE, ttl=10) or 0

        assert (nobodys, storage.release_lock("l", before), storage.renew_locks(HERE)) == (False, False, 0)
        assert storage.find_lock("l") == Held("l", after, THERE)
        assert after > before
        clock.forward(10)
        assert storage.find_lock("l") is None

    def test_a_lock_past_its_time_is_neither_flushed_nor_kept(self, storage: Storage, clock: FakeClock) -> None:
        storage.acquire_lock("l", HERE, ttl=1)
        clock.forward(2)
        storage.renew_locks(HERE)

        assert storage.flush_locks(["l"]) == storage.flush_locks() == set()
        storage.acquire_lock("m", HERE, ttl=1)
        clock.forward(2)
        storage.prune()
        clock.set(clock.now() - 2 * SECOND)
        assert storage.find_lock("m") is None

    def test_flushed_locks_are_free_and_named(self, storage: Storage, clock: FakeClock) -> None:
        storage.acquire_lock("old", HERE)
        clock.forward(HOLDER / SECOND + 1)
        for name in ("a", "b", "c"):
            storage.acquire_lock(name, HERE)

        assert storage.flush_locks(["a", "unknown"]) == {"a"}
        assert storage.flush_locks() == {"b", "c"}
        assert storage.flush_locks() == set()
        assert storage.acquire_lock("a", THERE) is not None

    def test_flush_frees_locks_and_forgets_rates(self, storage: Storage) -> None:
        storage.acquire_lock("l", HERE)
        storage.hit_rate_limit("r", 1, 60)

        storage.flush()

        assert storage.find_lock("l") is None
        assert storage.hit_rate_limit("r", 1, 60) == 0.0

    def test_names_of_locks_and_rates_may_hold_anything_and_never_meet(self, storage: Storage) -> None:
        assert all(storage.acquire_lock(name, HERE) for name in ODD)
        assert [storage.hit_rate_limit(name, 1, 60) for name in ODD] == [0.0] * len(ODD)


class RateRules:
    def test_a_rate_allows_so_many_uses_in_a_window(self, storage: Storage, another: Another, clock: FakeClock) -> None:
        clock.forward(20.5)

        waits = [store.hit_rate_limit("r", 3, 60) for store in (storage, another(), storage, storage)]

        assert waits == [0.0, 0.0, 0.0, 39.5]
        assert (storage.rate("r", 60), storage.rate("other", 60)) == (4, 0)
        assert storage.hit_rate_limit("other", 1, 60) == 0.0

    def test_windows_are_aligned_to_multiples_of_their_length(self, storage: Storage, clock: FakeClock) -> None:
        clock.forward(59)
        before = storage.hit_rate_limit("r", 1, 60), storage.hit_rate_limit("r", 1, 60)
        clock.forward(1)

        assert before == (0.0, 1.0)
        assert storage.rate("r", 60) == 0
        assert storage.hit_rate_limit("r", 1, 60) == 0.0

    def test_of_many_who_ask_at_the_same_time_no_more_than_the_limit_get_it(self, storage: Storage, another: Another) -> None:
        other = another()

        waits = at_once(*(lambda n=n: [(storage, other)[n % 2].hit_rate_limit("r", 5, 60) for _ in range(3)] for n in range(4)))

        assert sum(wait == 0.0 for part in waits for wait in part) == 5

    def test_a_clock_that_was_set_back_gives_no_further_uses(self, storage: Storage, clock: FakeClock) -> None:
        storage.hit_rate_limit("r", 2, 60)
        clock.set(clock.now() - 3600 * SECOND)
        back = [storage.hit_rate_limit("r", 2, 60) == 0.0 for _ in range(2)]
        clock.set(clock.now() + 3600 * SECOND)

        assert back == [True, False]
        assert storage.hit_rate_limit("r", 2, 60) > 0
        assert storage.rate("r", 60) == 4

    def test_what_was_refused_counts_in_the_usage_and_gives_nobody_a_place(self, storage: Storage, clock: FakeClock) -> None:
        waits = [storage.hit_rate_limit("r", limit, 60) == 0.0 for limit in (1, 1, 0, 3, 4, 5)]

        assert waits == [True, False, False, False, False, False]
        assert storage.rate("r", 60) == 6
        clock.forward(60)
        assert storage.hit_rate_limit("r", 1, 60) == 0.0
        assert storage.rate("r", 60) == 1

    def test_a_rate_can_be_forgotten(self, storage: Storage) -> None:
        storage.hit_rate_limit("r", 1, 60)

        storage.rate("r", 60, reset=True)

        assert storage.rate("r", 60) == 0
        assert storage.hit_rate_limit("r", 1, 60) == 0.0

    def test_what_is_past_its_time_is_pruned_of_locks_and_rates(self, storage: Storage, clock: FakeClock) -> None:
        storage.acquire_lock("l", HERE)
        storage.hit_rate_limit("r", 1, 60)
        lease = claimed(storage)
        storage.acquire_lock("m", Holder(lease.id, lease.token))
        assert storage.prune() == 0
        clock.forward(61)

        assert storage.prune() == 3
        assert storage.prune() == 0
        assert claim(storage) == []
