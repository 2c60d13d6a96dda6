"""Statistics: what is counted, in which minute, and for how long."""

from __future__ import annotations

from typing import Any

from huey.runtime.clock import SECOND, Micros
from huey.storage.base import Storage
from huey.storage.rows import TaskIds, TaskName
from huey.storage.stats import BOUNDS, HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT, Stat
from huey.task.lifecycle import Finish, Snoozed, State
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, Another, claim, claimed, end, task, write


class StatisticsRules:
    def test_nothing_is_counted_yet(self, storage: Storage) -> None:
        assert storage.stats(0) == []

    def test_what_happens_to_tasks_is_counted_by_name_and_minute(self, storage: Storage, clock: FakeClock, another: Another) -> None:
        begin = to_next_minute(clock)
        storage.enqueue([task("a"), task("b", retries=1), task("c"), task("d", "app.other")])
        a, b, c, d = claim(storage, 4)
        clock.forward(60)

        ends = ran(a, State.SUCCEEDED, 0.5), ran(b, State.QUEUED, 4.0, attempt=1), ran(c, State.FAILED, 0.25), ran(d, State.CANCELLED)
        write(storage, *ends)

        assert another().stats(0) == [
            stat("app.add", begin, enqueued=3),
            stat("app.other", begin, enqueued=1),
            stat("app.add", begin + MINUTE * SECOND, succeeded=1, failed=1, retried=1, took=4.75, longest=4.0, buckets=[5, 6, 8]),
            stat("app.other", begin + MINUTE * SECOND, cancelled=1),
        ]

    def test_all_turns_of_a_minute_add_up(self, storage: Storage, clock: FakeClock) -> None:
        begin = to_next_minute(clock)
        for n, took in enumerate([0.0009, 0.001, 0.0011, 20_000.0]):
            write(storage, ran(claimed(storage, task(str(n))), State.SUCCEEDED, took))
            clock.forward(1)

        assert storage.stats(0) == [
            stat("app.add", begin, enqueued=4, succeeded=4, took=20_000.003, longest=20_000.0, buckets=[0, 0, 1, 15])
        ]

    def test_one_turn_counts_many_names(self, storage: Storage) -> None:
        storage.enqueue([task(f"{n:03}", f"app.f{n % 7}") for n in range(300)])

        write(storage, *(ran(lease, State.SUCCEEDED, 0.002) for lease in claim(storage, 300)))

        assert totals(storage, "enqueued") == totals(storage, "succeeded") == {f"app.f{n}": 300 // 7 + (n < 300 % 7) for n in range(7)}
        assert all(sum(each.histogram) == each.histogram[1] == each.succeeded for each in storage.stats(0))

    def test_what_is_put_back_without_a_try_is_not_counted(self, storage: Storage, clock: FakeClock) -> None:
        end(storage, clock, claimed(storage), Snoozed(0, "limit"))
        storage.release(ME, claim(storage))

        assert totals(storage, "retried") == {"app.add": 0}

    def test_a_refused_finish_is_not_counted(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(id, retries=3) for id in "abcd"] + [task("e", "app.other")])
        a, b, c, d, e = claim(storage, 5)
        storage.release(ME, [a, b, e])

        turn = write(
            storage,
            ran(a, State.SUCCEEDED, 100.0),
            ran(b, State.FAILED, 100.0),
            ran(c, State.SUCCEEDED, 2.0),
            ran(d, State.QUEUED, 1.0, attempt=1),
            ran(e, State.SUCCEEDED, 100.0),
        )

        assert turn.stale == ["a", "b", "e"]
        assert (totals(storage, "succeeded"), totals(storage, "failed")) == ({"app.add": 1, "app.other": 0}, {"app.add": 0, "app.other": 0})
        assert (totals(storage, "longest")["app.add"], totals(storage, "took")) == (2.0, {"app.add": 3.0, "app.other": 0.0})

    def test_each_run_is_in_its_bucket_also_beside_a_refused_one(self, storage: Storage) -> None:
        tooks = [bound + more for bound in BOUNDS for more in (0, 0.000001)]
        storage.enqueue([task(f"{n:02}") for n in range(2 * len(tooks) + 1)])
        leases = claim(storage, 2 * len(tooks) + 1)
        rejected = leases.pop()
        storage.release(ME, [rejected])
        half = len(tooks)

        write(storage, *(ran(lease, State.SUCCEEDED, took) for lease, took in zip(leases[:half], tooks, strict=True)))
        once = storage.stats(0)[0].histogram
        ends = (ran(lease, State.SUCCEEDED, took) for lease, took in zip(leases[half:], tooks, strict=True))
        turn = write(storage, *ends, ran(rejected, State.SUCCEEDED, 1.0))

        assert once == (1, *[2] * 14, 1)
        assert (turn.stale, storage.stats(0)[0].histogram) == ([rejected.id], (2, *[4] * 14, 2))

    def test_a_turn_sent_again_counts_once(self, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b"), task("c")])
        a, b, c = claim(storage, 3)
        write(storage, ran(a, State.SUCCEEDED, 1.0), ran(b, State.FAILED, 1.0))

        write(storage, ran(a, State.SUCCEEDED, 1.0), ran(b, State.FAILED, 1.0), ran(c, State.SUCCEEDED, 1.0))

        assert (totals(storage, "succeeded"), totals(storage, "failed")) == ({"app.add": 2}, {"app.add": 1})
        assert totals(storage, "took") == {"app.add": 3.0}

    def test_a_task_that_is_held_already_is_not_counted_again(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a"), task("b", "app.other")])

        storage.enqueue([task("a")])
        storage.enqueue([task("a"), task("b", "app.other"), task("c")])
        storage.enqueue([task("a"), task("c")])
        storage.tick("every_minute", clock.now(), task("a"))

        assert totals(storage, "enqueued") == {"app.add": 2, "app.other": 1}

    def test_a_task_counts_in_its_minute_whenever_it_is_claimed_and_ends(self, storage: Storage, clock: FakeClock) -> None:
        begin = to_next_minute(clock)
        storage.enqueue([task("a"), task("later", eta=begin + 90 * SECOND)])
        clock.forward(60)
        storage.enqueue([task("b")])
        waiting = storage.stats(0)
        clock.forward(MINUTES_KEPT / SECOND)
        storage.prune()

        claimed_late = claim(storage, 9)
        running = storage.stats(0)
        write(
            storage, *(ran(lease, state) for lease, state in zip(claimed_late, (State.SUCCEEDED, State.FAILED, State.QUEUED), strict=True))
        )

        once = [stat("app.add", begin, enqueued=2), stat("app.add", begin + 60 * SECOND, enqueued=1)]
        assert waiting == running == once
        assert [row.enqueued for row in storage.stats(0)][:2] == [2, 1]
        assert storage.stats(begin + 60 * SECOND)[0].enqueued == 1
        storage.prune()
        assert totals(storage, "enqueued") == {"app.add": 3}

    def test_many_ends_count_in_the_minutes_of_their_tasks(self, storage: Storage, clock: FakeClock) -> None:
        begin = to_next_minute(clock)
        for n in range(60):
            storage.enqueue([task(f"{n:02}", f"app.f{n % 2}")])
            clock.forward(2)

        write(storage, *(ran(lease, State.SUCCEEDED) for lease in claim(storage, 60)))

        found = {(row.name, (row.start - begin) // SECOND): (row.enqueued, row.succeeded) for row in storage.stats(0)}
        assert found == {
            **dict.fromkeys([("app.f0", 0), ("app.f1", 0), ("app.f0", 60), ("app.f1", 60)], (15, 0)),
            **dict.fromkeys([("app.f0", 120), ("app.f1", 120)], (0, 30)),
        }

    def test_who_puts_a_task_back_by_hand_enqueues_it_once_more(self, storage: Storage) -> None:
        write(storage, ran(claimed(storage), State.FAILED))

        storage.retry(["a"])

        assert totals(storage, "enqueued") == {"app.add": 2}

    def test_an_enqueue_that_is_followed_counts_too(self, storage: Storage) -> None:
        storage.follow(None)

        storage.enqueue([task("a"), task("b", "app.other")], lambda: ["{}"])
        storage.enqueue([task("b", "app.other"), task("c")], lambda: ["{}"])

        assert totals(storage, "enqueued") == {"app.add": 2, "app.other": 1}

    def test_a_tick_counts_as_an_enqueue(self, storage: Storage, clock: FakeClock) -> None:
        for n in (1, 1, 2):
            storage.tick("every_minute", n, task(str(n)))
        storage.tick("noted only", 1, None)

        assert totals(storage, "enqueued") == {"app.add": 2}

    def test_what_the_claim_turns_away_counts_as_cancelled(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("revoked"), task("late", expires=clock.now() - 1), task("barred", "app.bad"), task("well")])
        storage.revoke(TaskIds(["revoked"]))
        storage.revoke(TaskName("app.bad"))

        claim(storage, 9)
        claim(storage, 9)

        assert totals(storage, "cancelled") == {"app.add": 2, "app.bad": 1}

    def test_a_running_task_that_was_revoked_counts_as_cancelled(self, storage: Storage) -> None:
        lease = claimed(storage, task(retries=1))
        storage.revoke(TaskIds(["a"]))

        write(storage, ran(lease, State.QUEUED, 1.0, attempt=1))

        assert (totals(storage, "cancelled"), totals(storage, "retried")) == ({"app.add": 1}, {"app.add": 0})

    def test_only_rows_that_end_after_a_time_are_told(self, storage: Storage, clock: FakeClock) -> None:
        begin = to_next_minute(clock)
        for n in range(3):
            storage.enqueue([task(str(n))])
            clock.forward(60)

        starts = [[each.start for each in storage.stats(begin + since)] for since in (-1, 60 * SECOND - 1, 60 * SECOND, 180 * SECOND)]

        minutes = [begin + n * 60 * SECOND for n in range(3)]
        assert starts == [minutes, minutes, minutes[1:], []]

    def test_old_minutes_are_folded_into_their_hour(self, storage: Storage, clock: FakeClock) -> None:
        begin = to_next_hour(clock)
        for n in range(3):
            write(storage, ran(claimed(storage, task(str(n))), State.SUCCEEDED, 2.0 - n))
            clock.forward(60)
        write(storage, ran(claimed(storage, task("b", "app.other")), State.SUCCEEDED))

        clock.forward(MINUTES_KEPT / SECOND - 120)
        storage.prune()
        part = storage.stats(0)
        clock.forward(3600)
        storage.prune()

        whole = stat("app.add", begin, span=HOUR, enqueued=3, succeeded=3, took=3.0, longest=2.0, buckets=[6, 7])
        rest = stat("app.add", begin + 120 * SECOND, enqueued=1, succeeded=1)
        assert part[0] == whole._replace(enqueued=2, succeeded=2)
        assert part[1:] == [rest, stat("app.other", begin + 180 * SECOND, enqueued=1, succeeded=1)]
        assert storage.stats(0) == [whole, stat("app.other", begin, span=HOUR, enqueued=1, succeeded=1)]
        assert storage.stats(begin + HOUR * SECOND) == []

    def test_old_hours_go(self, storage: Storage, clock: FakeClock) -> None:
        to_next_hour(clock)
        write(storage, ran(claimed(storage), State.SUCCEEDED))
        clock.forward(HOURS_KEPT / SECOND - 1)
        storage.prune()
        before = storage.stats(0)
        clock.forward(2)

        storage.prune()

        assert [each.span for each in before] == [HOUR]
        assert storage.stats(0) == []

    def test_many_old_minutes_are_folded_in_bounded_steps(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(str(n), f"app.f{n}") for n in range(700)])
        write(storage, *(ran(lease, State.SUCCEEDED) for lease in claim(storage, 700)))
        clock.forward(MINUTES_KEPT / SECOND + 60)

        steps = [storage.prune()]
        while steps[-1]:
            steps.append(storage.prune())

        assert (sum(steps), max(steps) < 700) == (700, True)
        assert sum(each.enqueued for each in storage.stats(0)) == 700

    def test_flush_removes_what_was_counted(self, storage: Storage, another: Another) -> None:
        claimed(storage)

        storage.flush()

        assert another().stats(0) == []


def ran(lease: Any, state: str, took: float = 0.0, attempt: int = 0) -> Finish:
    return Finish(lease, state, attempt=attempt, reason=None if state == State.SUCCEEDED else "error", duration=took)


def stat(name: str, start: Micros, *, span: int = MINUTE, buckets: list[int] | None = None, **numbers: Any) -> Stat:
    """A row of which all but *numbers* is zero; *buckets*: those of its runs."""
    histogram = [0] * 16
    for bucket in buckets or []:
        histogram[bucket] += 1
    none = {"enqueued": 0, "succeeded": 0, "failed": 0, "retried": 0, "cancelled": 0, "took": 0.0, "longest": 0.0}
    return Stat(name, start, span, **none | numbers, histogram=tuple(histogram))


def totals(storage: Storage, what: str) -> dict[str, Any]:
    """One number of all rows, by name."""
    found: dict[str, Any] = {}
    for each in storage.stats(0):
        found[each.name] = found.get(each.name, 0) + getattr(each, what)
    return found


def to_next_minute(clock: FakeClock) -> Micros:
    return _to_next(clock, MINUTE)


def to_next_hour(clock: FakeClock) -> Micros:
    return _to_next(clock, HOUR)


def _to_next(clock: FakeClock, span: int) -> Micros:
    """Let time pass to the start of the next span: that time."""
    clock.forward((span * SECOND - clock.now() % (span * SECOND)) / SECOND)
    return clock.now()
