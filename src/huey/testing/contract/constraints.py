"""Terms: unique keys, limits, ids that stay known. For storages that keep them (``supports_constraints``)."""

from __future__ import annotations

from typing import Any

from huey.runtime.clock import SECOND
from huey.storage.base import Storage
from huey.storage.rows import Counts, TaskIds, TaskName
from huey.task.lifecycle import Finish, Raised, Returned, Snoozed, State, WorkerDied, decide
from huey.task.record import Record
from huey.task.record_options import DONE, WAITING, Constraints, with_constraints
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, OTHER, Another, claim, claim_ids, claimed, end, get_row, seen, task, write


def wishing(
    id: str, *, name: str = "app.add", priority: int = 0, eta: int | None = None, expires: int | None = None, **constraints: Any
) -> Record:
    """A task with terms."""
    return task(id, name, priority=priority, eta=eta, expires=expires, options=with_constraints(None, Constraints(**constraints)))


def limited(id: str, at_most: int = 1, key: str = "k", **fields: Any) -> Record:
    return wishing(id, concurrency_key=key, max_running=at_most, **fields)


def unique(id: str, key: str = "k", unique_for: str | float = DONE, **fields: Any) -> Record:
    return wishing(id, unique=key, unique_for=unique_for, **fields)


class UniqueRules:
    def test_while_a_unique_key_is_held_the_id_of_its_holder_is_returned(self, storage: Storage, another: Another) -> None:
        assert storage.enqueue([unique("a"), unique("b"), unique("c", "other"), task("d")]) == {"b": "a"}
        assert another().enqueue([unique("e")]) == {"e": "a"}

        assert claim_ids(storage, 9) == ["a", "c", "d"]
        assert storage.get("b") is None

    def test_a_unique_key_is_held_until_its_task_is_done(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a")])
        lease = claim(storage)[0]
        running = storage.enqueue([unique("b")])
        end(storage, clock, lease, Snoozed(5, "limit"))
        snoozed = storage.enqueue([unique("c")])
        clock.forward(6)
        end(storage, clock, claim(storage)[0], Returned(None))

        assert (running, snoozed) == ({"b": "a"}, {"c": "a"})
        assert storage.enqueue([unique("d")]) == {}

    def test_a_task_that_fails_or_is_revoked_or_expires_gives_its_key_up(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a"), unique("b", "l"), unique("c", "m", expires=clock.now() + SECOND), unique("d", "n")])
        storage.revoke(TaskIds(["b"]))
        storage.revoke(TaskName("app.once"), once=True)
        clock.forward(2)
        for lease in claim(storage, 9):
            end(storage, clock, lease, Raised({"error": "E()"}))

        assert storage.enqueue([unique("e"), unique("f", "l"), unique("g", "m"), unique("h", "n")]) == {}

    def test_a_key_for_while_it_waits_is_given_up_at_the_start(self, storage: Storage) -> None:
        storage.enqueue([unique("a", unique_for=WAITING)])
        waiting = storage.enqueue([unique("b", unique_for=WAITING)])
        claim(storage)

        assert waiting == {"b": "a"}
        assert storage.enqueue([unique("c", unique_for=WAITING)]) == {}
        assert storage.enqueue([unique("d", unique_for=WAITING)]) == {"d": "c"}

    def test_a_task_that_goes_back_takes_its_key_again_if_it_is_free(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a", unique_for=WAITING), unique("b", "l", unique_for=WAITING), unique("c", "m", unique_for=WAITING)])
        a, b, c = claim(storage, 3)
        storage.enqueue([unique("x", "l", unique_for=WAITING)])

        write(storage, *(decide(lease, Snoozed(0, "limit"), clock.now()) for lease in (a, b)))
        storage.release(ME, [c])

        duplicates = storage.enqueue([unique(id, key, unique_for=WAITING) for id, key in (("d", "k"), ("e", "l"), ("f", "m"))])
        assert duplicates == {"d": "a", "e": "x", "f": "c"}

    def test_a_task_that_is_put_back_by_hand_takes_its_key_again_if_it_is_free(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a"), unique("b", "l")])
        for lease in claim(storage, 2):
            end(storage, clock, lease, Raised({"error": "E()"}))
        storage.enqueue([unique("x", "l")])

        storage.retry(["a", "b"])

        assert storage.enqueue([unique("c"), unique("d", "l")]) == {"c": "a", "d": "x"}

    def test_a_key_for_a_time_is_held_by_the_clock(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a", unique_for=10.0)])
        end(storage, clock, claim(storage)[0], Returned(None))
        clock.forward(9)
        held = storage.enqueue([unique("b", unique_for=10.0), unique("c", unique_for=DONE)])
        clock.forward(2)

        assert held == {"b": "a", "c": "a"}
        assert storage.enqueue([unique("d", unique_for=10.0)]) == {}

    def test_a_revoked_task_that_has_not_started_gives_its_key_up_to_the_next(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a"), unique("b", "l")])
        storage.revoke(TaskIds(["a"]))
        storage.revoke(TaskIds(["b"]), clock.now() - SECOND)

        assert storage.enqueue([unique("c"), unique("d"), unique("e", "l")]) == {"d": "c", "e": "b"}
        assert claim_ids(storage, 9) == ["b", "c"]
        storage.revoke(TaskIds(["b", "c"]))
        assert storage.enqueue([unique("f"), unique("g", "l")]) == {"f": "c", "g": "b"}

    def test_a_dead_workers_task_keeps_its_key(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([unique("a")])
        claim(storage)
        clock.forward(60)

        lease = storage.reclaim(seen(storage), OTHER)[0]
        reclaimed = storage.enqueue([unique("b")])
        end(storage, clock, lease, WorkerDied(), by=OTHER)

        assert reclaimed == {"b": "a"}
        assert storage.enqueue([unique("c")]) == {"c": "a"}

    def test_a_tick_leaves_out_a_task_whose_key_is_held(self, storage: Storage, clock: FakeClock) -> None:
        minute = clock.now()

        fired = [storage.tick("t", minute + n, unique(id), now=clock.now()) for n, id in enumerate("ab")]

        assert fired == [True, True]
        assert claim_ids(storage, 9) == ["a"]

    def test_followers_are_told_of_what_is_put_in(self, storage: Storage) -> None:
        storage.enqueue([unique("a")])
        position = storage.follow(None)[0]
        records = [task("a"), unique("b"), unique("c", "l"), task("d"), unique("e", "l")]

        storage.enqueue(records, lambda: [f"of {record.id}" for record in records])
        storage.enqueue([unique("f")], lambda: ["of f"])

        assert storage.follow(position)[1] == ["of c", "of d"]

    def test_a_chosen_id_stays_known_after_the_end(self, storage: Storage, clock: FakeClock) -> None:
        mine = wishing("a", id_ttl=3600.0)
        storage.enqueue([mine])
        end(storage, clock, claim(storage)[0], Returned(b"1"))

        assert storage.enqueue([mine, task("b")]) == {"a": "a"}
        assert claim_ids(storage, 9) == ["b"]
        clock.forward(3601)
        storage.enqueue([mine])
        assert claim_ids(storage, 9) == ["a"]

    def test_a_chosen_id_stays_known_from_when_it_is_due(self, storage: Storage, clock: FakeClock) -> None:
        mine = wishing("a", eta=clock.now() + 100 * SECOND, id_ttl=60.0)
        storage.enqueue([mine])
        clock.forward(101)
        end(storage, clock, claim(storage)[0], Returned(None))
        clock.forward(50)

        storage.enqueue([mine])

        assert claim(storage) == []

    def test_a_chosen_id_is_forgotten_with_a_task_that_is_discarded(self, storage: Storage, clock: FakeClock) -> None:
        mine = wishing("a", id_ttl=60.0)
        storage.enqueue([mine])
        end(storage, clock, claim(storage)[0], Raised({"error": "E()"}))

        storage.discard(["a"])
        storage.enqueue([mine])

        assert claim_ids(storage) == ["a"]

    def test_what_is_past_its_time_is_pruned(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([wishing("a", id_ttl=60.0), unique("b", unique_for=60.0)])
        clock.forward(61)

        assert storage.prune() == 2
        assert storage.prune() == 0

    def test_flush_forgets_keys_and_ids(self, storage: Storage) -> None:
        storage.enqueue([wishing("a", id_ttl=60.0), unique("b", unique_for=60.0), unique("c", "l")])

        storage.flush()

        assert storage.enqueue([wishing("a", id_ttl=60.0), unique("d", unique_for=60.0), unique("e", "l")]) == {}
        assert claim_ids(storage, 9) == ["a", "d", "e"]


class LimitRules:
    def test_as_many_tasks_of_a_limit_are_handed_out_as_it_allows(self, storage: Storage, another: Another) -> None:
        storage.enqueue([limited(id, 2) for id in "abcd"])
        another().enqueue([limited("e", 2), limited("f", 1, "other"), task("g")])

        assert claim_ids(storage, 9) == ["a", "b", "f", "g"]
        assert claim_ids(storage, 9, by=OTHER) == []
        assert [get_row(storage, id).state for id in "cde"] == [State.BLOCKED] * 3
        assert storage.counts() == Counts(running=4, blocked=3)

    def test_each_end_lets_the_next_one_in(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited(id) for id in "abcdef"])
        order = []

        for outcome in (
            Returned(None),
            Raised({"error": "E()"}),
            Raised({"error": "E()"}, may_retry=False),
            Returned(b"1"),
            Returned(None),
        ):
            leases = claim(storage, 9)
            order += [lease.id for lease in leases]
            end(storage, clock, leases[0], outcome)

        assert order == ["a", "b", "c", "d", "e"]
        assert storage.find(State.BLOCKED) == []

    def test_one_turn_ends_one_and_claims_the_next(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b"), limited("c")])
        first = claim(storage)[0]

        turn = storage.turn(ME, [decide(first, Returned(None), clock.now())], 9)

        assert [lease.id for lease in turn.leases] == ["b"]

    def test_what_waits_for_a_limit_stands_in_nobodys_way(self, storage: Storage) -> None:
        storage.enqueue([limited(f"{n:04}", priority=9) for n in range(500)])
        claim(storage)
        storage.enqueue([task("other")])

        turn = storage.turn(ME, [], 1)

        assert [lease.id for lease in turn.leases] == ["other"]

    def test_the_best_of_a_limit_comes_first_whenever_it_came(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("low", priority=-5), limited("none")])
        ready = [row.id for row in storage.find("ready")]
        storage.enqueue([limited("high", priority=5)])

        order = []
        while leases := claim(storage, 9):
            order += [lease.id for lease in leases]
            end(storage, clock, leases[0], Returned(None))

        assert (ready, order) == (["none"], ["high", "none", "low"])

    def test_a_scheduled_task_meets_its_limit_when_it_is_due(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a", eta=clock.now() + SECOND), limited("b"), limited("c", eta=clock.now() + 2 * SECOND)])
        lease = claim(storage, 9)[0]
        clock.forward(3)

        turn = storage.turn(ME, [], 9)
        states = [get_row(storage, id).state for id in "ac"]
        end(storage, clock, lease, Returned(None))

        assert (lease.id, turn.leases, states) == ("b", [], [State.BLOCKED] * 2)
        assert claim_ids(storage, 9) == ["a"]

    def test_a_task_that_is_tried_again_lets_go_of_its_place(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b")])
        lease = claim(storage, 9)[0]
        clock.forward(1)

        end(storage, clock, lease, Snoozed(0, "limit"))

        b = claim(storage, 9)
        assert [lease.id for lease in b] == ["b"]
        assert get_row(storage, "a").state == State.BLOCKED
        end(storage, clock, b[0], Snoozed(60, "limit"))
        assert claim_ids(storage, 9) == ["a"]

    def test_those_turned_away_let_the_next_ones_in(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b", expires=clock.now() + SECOND), limited("c", name="app.other"), limited("d")])
        storage.revoke(TaskIds(["a"]))
        storage.revoke(TaskName("app.other"))
        clock.forward(2)

        turns = [storage.turn(ME, [], 9) for _ in range(4)]

        assert [[cancelled.id for cancelled in turn.cancelled] for turn in turns] == [["a"], ["b"], ["c"], []]
        assert [lease.id for lease in turns[3].leases] == ["d"]

    def test_a_dead_workers_tasks_count_until_their_end_is_decided(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b")])
        claim(storage)
        clock.forward(60)

        lease = storage.reclaim(seen(storage), OTHER)[0]
        others = claim_ids(storage, 9, by=OTHER)
        end(storage, clock, lease, WorkerDied(is_suspect=False), by=OTHER)

        assert others == []
        assert claim_ids(storage, 9) == ["a"]

    def test_a_suspect_counts_among_those_of_its_limit(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b")])
        lease = claim(storage)[0]
        write(storage, Finish(lease, State.QUEUED, due=lease.ready_at, solo_crashes=1, deaths=1))
        thread, alone = OTHER._replace(kind="thread"), OTHER._replace(id="alone", kind="quarantine")

        assert claim_ids(storage, 9, by=thread) == []
        assert claim_ids(storage, 9, by=alone) == ["a"]

    def test_a_released_task_is_among_the_first_again(self, storage: Storage) -> None:
        storage.enqueue([limited("a"), limited("b")])
        leases = claim(storage, 9)

        storage.release(ME, leases)

        assert claim_ids(storage, 9) == ["a"]

    def test_a_released_task_makes_room_for_a_better_one(self, storage: Storage) -> None:
        storage.enqueue([limited("a"), limited("b")])
        leases = claim(storage, 9)
        storage.enqueue([limited("c", priority=1)])

        storage.release(ME, leases)

        assert claim_ids(storage, 9) == ["c"]

    def test_a_task_that_is_put_back_by_hand_waits_for_its_limit(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b")])
        end(storage, clock, claim(storage)[0], Raised({"error": "E()"}))
        b = claim(storage)[0]

        storage.retry(["a"])

        assert claim(storage, 9) == []
        end(storage, clock, b, Returned(None))
        assert claim_ids(storage, 9) == ["a"]

    def test_a_tick_meets_the_limit_too(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a")])

        storage.tick("t", clock.now(), limited("b"))

        assert claim_ids(storage, 9) == ["a"]

    def test_a_waiting_task_can_be_revoked_and_restored(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a"), limited("b"), limited("c")])
        lease = claim(storage)[0]
        storage.revoke(TaskIds(["b", "c"]))

        assert storage.restore(TaskIds(["c"])) == ["c"]
        end(storage, clock, lease, Returned(None))
        assert [cancelled.id for cancelled in storage.turn(ME, [], 9).cancelled] == ["b"]
        assert claim_ids(storage, 9) == ["c"]

    def test_a_mark_left_for_its_id_is_carried_by_a_task_with_terms(self, storage: Storage) -> None:
        storage.revoke(TaskIds(["a"]))

        storage.enqueue([limited("a"), limited("b")])

        assert [cancelled.id for cancelled in storage.turn(ME, [], 9).cancelled] == ["a"]
        assert storage.restore(TaskIds(["a"])) == []

    def test_the_limit_holds_while_many_come_and_go(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited(f"{n:03}", 3, f"k{n % 4}") for n in range(100)])
        running = claim(storage, 9)
        done = []

        while running:
            assert max([lease.options for lease in running].count(lease.options) for lease in running) <= 3
            ends = [decide(lease, Returned(None), clock.now()) for lease in running[:2]]
            done += [lease.id for lease in running[:2]]
            running = running[2:] + storage.turn(ME, ends, 9).leases

        assert sorted(done) == [f"{n:03}" for n in range(100)]
        assert storage.counts() == Counts()

    def test_tasks_of_one_limit_may_have_different_numbers(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([limited("a", 2), limited("b", 2), limited("c", 1), limited("d", 2)])
        storage.enqueue([limited("e", 1)])
        done = []

        while leases := claim(storage, 9):
            assert len(leases) <= 2
            for lease in leases:
                end(storage, clock, lease, Returned(None))
                done.append(lease.id)

        assert sorted(done) == ["a", "b", "c", "d", "e"]
        assert storage.counts() == Counts()

    def test_terms_are_kept_by_enqueue_too(self, storage: Storage) -> None:
        storage.enqueue([limited("a"), limited("b"), unique("c"), unique("d")])

        assert claim_ids(storage, 9) == ["a", "c"]

    def test_a_running_task_of_its_terms_tells_them(self, storage: Storage) -> None:
        lease = claimed(storage, wishing("a", at_most_once=True))

        assert lease.is_at_most_once
