"""Workers that live, stop and die, and what becomes of what they held."""

from __future__ import annotations

from huey.runtime.clock import SECOND
from huey.runtime.waker import Waker
from huey.storage.base import LEASE, Storage
from huey.task.lifecycle import Raised, Returned, State, WorkerDied, decide
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import (
    ME,
    OTHER,
    Another,
    at_once,
    claim,
    claim_ids,
    claimed,
    end,
    get_row,
    ids,
    known,
    seen,
    task,
    worker,
    write,
)

THREAD = worker("worker-thread")._replace(kind="thread")
QUARANTINE = worker("worker-quarantine")._replace(kind="quarantine")


class DeathRules:
    def test_a_beat_makes_workers_known_to_all(self, storage: Storage, another: Another) -> None:
        storage.heartbeat([ME, OTHER])

        assert {row.worker for row in another().workers()} == {ME, OTHER}
        assert [(row.is_expired, row.holds) for row in another().workers()] == [(False, 0)] * 2

    def test_a_worker_is_expired_when_no_beat_came_for_the_time_of_a_lease(self, storage: Storage, clock: FakeClock) -> None:
        storage.heartbeat([ME])

        clock.forward(LEASE / SECOND - 1)
        assert not seen(storage).is_expired
        clock.forward(2)
        assert seen(storage).is_expired

    def test_a_beat_renews_a_lease(self, storage: Storage, clock: FakeClock) -> None:
        storage.heartbeat([ME, OTHER])
        clock.forward(10)

        storage.heartbeat([ME])

        clock.forward(10)
        assert (seen(storage).is_expired, seen(storage, OTHER).is_expired) == (False, True)

    def test_a_worker_that_was_late_is_well_again_after_a_beat(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(60)

        storage.heartbeat([ME])

        assert not seen(storage).is_expired
        assert end(storage, clock, lease, Returned(None)).stale == []

    def test_an_expired_lease_holds_until_somebody_takes_it_over(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(60)

        assert claim(storage, by=OTHER) == []
        assert end(storage, clock, lease, Returned(None)).stale == []

    def test_setting_the_wall_clock_ends_no_lease(self, storage: Storage, clock: FakeClock) -> None:
        storage.heartbeat([ME])

        clock.set(clock.now() + 86400 * SECOND)
        assert not seen(storage).is_expired
        clock.set(clock.now() - 9 * 86400 * SECOND)
        clock.forward(16)
        assert seen(storage).is_expired

    def test_a_worker_shows_how_much_it_holds(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        leases = claim(storage, 2)
        claim(storage, 1, by=OTHER)

        end(storage, clock, leases[0], Returned(None))

        assert (seen(storage).holds, seen(storage, OTHER).holds) == (1, 1)

    def test_reclaim_takes_over_all_that_a_dead_worker_holds_with_new_tokens(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        before = {lease.id: lease for lease in claim(storage, 2)}
        clock.forward(60)

        taken = storage.reclaim(seen(storage), OTHER)

        assert {lease.id for lease in taken} == {"a", "b"}
        assert all(lease == before[lease.id]._replace(token=lease.token) for lease in taken)
        assert all(lease.token > before[lease.id].token for lease in taken)
        assert [(row.id, row.worker, row.state) for row in storage.find(State.RUNNING)] == [
            ("a", OTHER.id, State.RUNNING),
            ("b", OTHER.id, State.RUNNING),
        ]

    def test_a_dead_worker_that_holds_nothing_is_forgotten(self, storage: Storage, clock: FakeClock) -> None:
        storage.heartbeat([ME])
        clock.forward(60)

        assert storage.reclaim(seen(storage), OTHER) == []
        assert known(storage) is None

    def test_reclaim_forgets_the_dead_and_knows_the_heir(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        clock.forward(60)

        storage.reclaim(seen(storage), OTHER)

        assert known(storage) is None
        assert (seen(storage, OTHER).holds, seen(storage, OTHER).is_expired) == (1, False)

    def test_reclaim_leaves_others_alone(self, storage: Storage, clock: FakeClock) -> None:
        third = worker("worker-3")
        storage.enqueue([task("a"), task("b")])
        claim(storage)
        theirs = claim(storage, by=third)[0]
        clock.forward(60)

        storage.reclaim(seen(storage), OTHER)

        assert seen(storage, third).holds == 1
        assert end(storage, clock, theirs, Returned(None), by=third).stale == []

    def test_reclaim_does_nothing_when_the_dead_one_beat_meanwhile(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(60)
        dead = seen(storage)
        storage.heartbeat([ME])

        assert storage.reclaim(dead, OTHER) == []
        assert end(storage, clock, lease, Returned(None)).stale == []

    def test_reclaim_does_nothing_when_the_dead_one_made_a_turn_meanwhile(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)
        clock.forward(60)
        dead = seen(storage)
        storage.turn(ME, [], 0)

        assert storage.reclaim(dead, OTHER) == []
        assert get_row(storage).worker == ME.id

    def test_a_dead_worker_is_taken_over_once(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        storage.enqueue([task(f"{n}") for n in range(5)])
        claim(storage, 5)
        clock.forward(60)
        dead, other = seen(storage), another()

        taken = at_once(lambda: storage.reclaim(dead, OTHER), lambda: other.reclaim(dead, worker("worker-3")))

        assert sorted(lease.id for part in taken for lease in part) == ["0", "1", "2", "3", "4"]
        assert [] in taken

    def test_an_heir_that_dies_is_taken_over_itself(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage)
        clock.forward(60)
        second = storage.reclaim(seen(storage), OTHER)[0]
        clock.forward(60)

        third = storage.reclaim(seen(storage, OTHER), worker("worker-3"))[0]

        assert lease.token < second.token < third.token
        assert (third.attempt, third.solo_crashes, third.deaths) == (0, 0, 0)

    def test_a_dead_worker_is_just_another_outcome_and_costs_no_try(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage, task("suspect", retries=1))
        clock.forward(60)
        storage.enqueue([task("waits")])

        leases = storage.reclaim(seen(storage), OTHER)
        write(storage, *(decide(lease, WorkerDied(), clock.now()) for lease in leases), by=OTHER)

        again = claim(storage, 2)
        assert [lease.id for lease in again] == ["suspect", "waits"]
        assert (again[0].attempt, again[0].deaths, again[0].is_suspect) == (0, 1, True)

    def test_goodbye_forgets_a_worker_that_holds_nothing(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Returned(None))

        storage.deregister(ME)

        assert known(storage) is None

    def test_a_worker_that_still_holds_tasks_stays_known_after_its_goodbye(self, storage: Storage, clock: FakeClock) -> None:
        claimed(storage)

        storage.deregister(ME)

        assert seen(storage).holds == 1
        assert [lease.id for lease in storage.reclaim(seen(storage), OTHER)] == ["a"]

    def test_goodbye_of_an_unknown_worker_is_harmless(self, storage: Storage) -> None:
        storage.heartbeat([OTHER])

        storage.deregister(ME)

        assert [row.worker for row in storage.workers()] == [OTHER]

    def test_a_released_task_keeps_its_place(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("first")])
        clock.forward(1)
        storage.enqueue([task("second")])
        leases = claim(storage)
        clock.forward(1)

        storage.release(ME, leases)

        row = get_row(storage, "first")
        assert (row.state, row.worker, row.ready_at, row.attempt) == (State.QUEUED, None, leases[0].ready_at, 0)
        assert seen(storage).holds == 0
        assert claim_ids(storage, 2) == ["first", "second"]

    def test_a_release_without_a_lease_changes_nothing(self, storage: Storage) -> None:
        stale = claimed(storage)
        storage.release(ME, [stale])
        lease = claim(storage)[0]

        storage.release(ME, [stale])
        storage.release(OTHER, [lease])
        storage.release(ME, [lease._replace(id="unknown")])

        assert (get_row(storage).state, get_row(storage).token) == (State.RUNNING, lease.token)

    def test_many_are_released_at_once(self, storage: Storage) -> None:
        storage.enqueue([task(f"{n:03}") for n in range(300)])
        leases = claim(storage, 300)

        storage.release(ME, leases[:200])

        assert storage.counts()[:3] == (200, 0, 100)

    def test_a_suspect_is_for_workers_that_take_suspects(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("suspect"), task("clean")])
        become_suspect(storage, clock, "suspect")

        assert claim_ids(storage, 2, by=THREAD) == ["clean"]
        assert claim_ids(storage, 2, by=QUARANTINE) == ["suspect"]

    def test_a_quarantine_worker_takes_nothing_else(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("clean")])

        assert claim_ids(storage, 2, by=QUARANTINE) == []
        assert get_row(storage, "clean").state == State.QUEUED

    def test_suspects_come_first_for_a_worker_that_takes_both(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("suspect"), task("urgent", priority=5), task("b", priority=1), task("a", priority=1)])
        become_suspect(storage, clock, "suspect")

        assert claim_ids(storage, 3) == ["suspect", "urgent", "a"]
        assert claim_ids(storage, 3) == ["b"]

    def test_what_others_take_wakes_no_worker_that_does_not(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("suspect")])
        become_suspect(storage, clock, "suspect")
        waker = Waker()

        heard = [storage.listen(who, 0, waker) for who in (ME, THREAD, QUARANTINE)]
        claim(storage, by=QUARANTINE)
        storage.enqueue([task("clean")])
        heard += [storage.listen(who, 0, waker) for who in (ME, THREAD, QUARANTINE)]

        waker.close()
        assert heard == [True, False, True, True, True, False]

    def test_suspects_are_found_apart_and_among_the_ready(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("clean", priority=9), task("suspect"), task("later", eta=clock.now() + SECOND)])
        become_suspect(storage, clock, "suspect")

        assert ids(storage.find("suspect")) == ["suspect"]
        assert ids(storage.find("ready")) == ["suspect", "clean"]
        assert ids(storage.find(State.QUEUED)) == ["suspect", "clean", "later"]
        assert storage.counts().ready == 2

    def test_a_suspect_that_ran_to_its_end_is_none_any_more(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a", retries=1)])
        become_suspect(storage, clock, "a")

        end(storage, clock, claim(storage, by=QUARANTINE)[0], Raised({"error": "E()"}), by=QUARANTINE)

        assert claim_ids(storage, by=THREAD) == ["a"]

    def test_a_worker_is_known_with_its_kind_and_its_keeper(self, storage: Storage, another: Another) -> None:
        kept = THREAD._replace(supervisor="12:34")

        storage.heartbeat([kept])

        assert [row.worker for row in another().workers()] == [kept]


def become_suspect(storage: Storage, clock: FakeClock, id: str) -> None:
    """Let the worker of a task die while it runs."""
    leases = claim(storage, 100, by=THREAD)
    storage.release(THREAD, [lease for lease in leases if lease.id != id])
    write(storage, *(decide(lease, WorkerDied(), clock.now()) for lease in leases if lease.id == id), by=THREAD)
    storage.deregister(THREAD)
