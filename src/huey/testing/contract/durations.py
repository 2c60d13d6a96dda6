"""Delays are durations: they count on the storage's clock, whatever the host that gives them takes for the time."""

from __future__ import annotations

from typing import Any

import pytest

from huey.runtime.clock import FOREVER, SECOND, micros
from huey.storage.base import Storage
from huey.task.lifecycle import (
    UNKNOWN_FOR,
    Cancelled,
    Finish,
    NotDue,
    Outcome,
    Raised,
    RateLimited,
    RetryRequested,
    Snoozed,
    State,
    Unrunnable,
    WorkerDied,
    decide,
)
from huey.task.record_options import read_constraints
from huey.testing.clock import FakeClock
from huey.testing.contract.tools import ME, claim, claim_ids, claimed, get_row, task, write

ERROR = {"error": "ValueError()", "traceback": ""}
SKEWS = (-3600, -60, 60, 3600)
"""Seconds by which the host's clock differs from the storage's."""
BRIEF = '{"expires_in": 10000000}'
"""Options of a task that expires 10 s after each enqueue."""
GROWING = '{"backoff": 2, "constraints": {"keep_id": 7}}'
"""Options of a task whose wait doubles with each try."""
WAITS: dict[str, tuple[Outcome, float]] = {
    "retry_delay": (Raised(ERROR), 30.0),
    "snooze": (Snoozed(7.5, "limit"), 7.5),
    "rate limit": (RateLimited(ERROR, 12.0, True), 30.0),
    "asked again": (RetryRequested(ERROR, delay=3.0), 3.0),
    "unknown task": (Unrunnable(ERROR), UNKNOWN_FOR / SECOND),
}


class DurationRules:
    @pytest.mark.parametrize("skew", SKEWS)
    def test_a_delay_counts_from_the_enqueue_by_the_storages_clock(self, skew: int, storage: Storage, clock: FakeClock) -> None:
        host = clock.now() + skew * SECOND

        storage.enqueue([task(delay=10 * SECOND, eta=host + 10 * SECOND)])

        assert get_row(storage).due == clock.now() + 10 * SECOND
        clock.forward(9)
        assert claim_ids(storage) == []
        clock.forward(1)
        assert claim_ids(storage) == ["a"]

    @pytest.mark.parametrize("skew", SKEWS)
    def test_an_expiry_that_is_a_duration_counts_from_the_enqueue(self, skew: int, storage: Storage, clock: FakeClock) -> None:
        host, start = clock.now() + skew * SECOND, clock.now()

        storage.enqueue([task(id, expires_in=10 * SECOND, expires=host + 10 * SECOND) for id in ("a", "b")])

        clock.forward(9)
        assert [(lease.id, lease.expires) for lease in claim(storage)] == [("a", start + 10 * SECOND)]
        clock.forward(1)
        turn = storage.turn(ME, [], 1)
        assert [(each.id, each.reason) for each in turn.cancelled] == [("b", "expired")]

    @pytest.mark.parametrize("by", ["eta", "delay"])
    def test_an_expiry_that_is_a_duration_counts_from_when_a_task_for_later_is_due(
        self, by: str, storage: Storage, clock: FakeClock
    ) -> None:
        start, wait = clock.now(), 3600 * SECOND
        later: dict[str, Any] = {"eta": start + wait} if by == "eta" else {"delay": wait, "eta": 1}

        storage.enqueue([task(id, expires_in=60 * SECOND, **later) for id in ("a", "b")])

        assert get_row(storage).expires == start + 3660 * SECOND
        clock.forward(3659)
        assert claim_ids(storage) == ["a"]
        clock.forward(1)
        assert [(each.id, each.reason) for each in storage.turn(ME, [], 1).cancelled] == [("b", "expired")]

    @pytest.mark.parametrize("wait", [None, 30.0])
    def test_an_expiry_that_is_a_duration_counts_anew_from_each_retry(self, wait: float | None, storage: Storage, clock: FakeClock) -> None:
        start = clock.now()
        lease = claimed(storage, task(retries=3, retry_delay=wait or 0.0, expires_in=10 * SECOND, options=BRIEF))
        clock.forward(5)

        write(storage, decide(lease, Raised(ERROR), clock.now()))

        again = start + (5 + int(wait or 0)) * SECOND
        assert get_row(storage).expires == again + 10 * SECOND
        clock.forward((wait or 0) + 9)
        (lease,) = claim(storage)
        assert lease.expires == again + 10 * SECOND
        write(storage, decide(lease, Raised(ERROR), clock.now()))
        clock.forward((wait or 0) + 10)
        assert [each.reason for each in storage.turn(ME, [], 1).cancelled] == ["expired"]

    def test_an_expiry_that_is_a_time_bounds_all_retries(self, storage: Storage, clock: FakeClock) -> None:
        end = clock.now() + 10 * SECOND
        lease = claimed(storage, task(retries=3, expires=end))
        clock.forward(9)

        write(storage, decide(lease, Raised(ERROR), clock.now()))

        assert get_row(storage).expires == end
        clock.forward(1)
        assert [each.reason for each in storage.turn(ME, [], 1).cancelled] == ["expired"]

    def test_a_task_whose_worker_died_keeps_its_expiry(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(expires_in=10 * SECOND, options=BRIEF))
        clock.forward(5)

        write(storage, decide(lease, WorkerDied(), clock.now()))

        assert get_row(storage).expires == lease.expires == clock.now() + 5 * SECOND

    def test_a_task_that_is_put_back_by_hand_expires_no_more(self, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task(retries=1, expires_in=10 * SECOND, options=BRIEF)])
        clock.forward(10)
        assert [each.reason for each in storage.turn(ME, [], 1).cancelled] == ["expired"]

        storage.retry(["a"])

        (lease,) = claim(storage)
        assert lease.expires is None
        write(storage, decide(lease, Raised(ERROR), clock.now()))
        clock.forward(3600)
        assert claim_ids(storage) == ["a"]

    def test_a_wall_time_that_was_read_begins_the_expiry(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(options='{"wall": 1, "expires_in": 10000000}'))
        due = clock.now() + 3600 * SECOND

        write(storage, decide(lease, NotDue(due, 10 * SECOND), clock.now()))

        row = get_row(storage)
        assert (row.due, row.expires, row.attempt) == (due, due + 10 * SECOND, 0)
        clock.forward(3600)
        assert [lease.expires for lease in claim(storage)] == [due + 10 * SECOND]

    @pytest.mark.parametrize("waits", [[RetryRequested(ERROR), RetryRequested(ERROR), Raised(ERROR), RetryRequested(ERROR)]])
    def test_a_wait_that_grows_grows_with_each_run_that_was_asked_for_too(
        self, waits: list[Outcome], storage: Storage, clock: FakeClock
    ) -> None:
        storage.enqueue([task(retries=5, retry_delay=1.0, options=GROWING)])

        grew = []
        for outcome in waits:
            (lease,) = claim(storage)
            write(storage, decide(lease, outcome, clock.now()))
            grew.append(((get_row(storage).due or 0) - clock.now()) / SECOND)
            clock.forward(grew[-1])

        assert grew == [1, 2, 4, 8]
        assert get_row(storage).attempt == 1
        assert read_constraints(get_row(storage).options).id_ttl == 7

    @pytest.mark.parametrize("outcome", [RetryRequested(ERROR, delay=1), RetryRequested(ERROR, due=1), Snoozed(1, "limit")])
    def test_a_wait_that_grows_does_not_grow_by_other_runs(self, outcome: Outcome, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=5, retry_delay=1.0, options=GROWING))
        write(storage, decide(lease, outcome, clock.now()))
        clock.forward(2)
        (lease,) = claim(storage)

        write(storage, decide(lease, Raised(ERROR), clock.now()))

        assert get_row(storage).due == clock.now() + SECOND

    def test_put_back_by_hand_a_wait_begins_small_again(self, storage: Storage, clock: FakeClock) -> None:
        lease = claimed(storage, task(retries=5, retry_delay=1.0, options=GROWING))
        write(storage, decide(lease, RetryRequested(ERROR), clock.now()))
        clock.forward(1)
        (lease,) = claim(storage)
        write(storage, decide(lease, Cancelled("canceled"), clock.now()))
        storage.retry(["a"])
        (lease,) = claim(storage)

        write(storage, decide(lease, Raised(ERROR), clock.now()))

        assert get_row(storage).due == clock.now() + SECOND

    def test_a_delay_and_an_expiry_hold_for_a_tick_too(self, storage: Storage, clock: FakeClock) -> None:
        assert storage.tick("app.tick", 1, task(delay=5 * SECOND, expires_in=20 * SECOND, eta=1, expires=2))

        row = get_row(storage)
        assert (row.due, row.expires) == (clock.now() + 5 * SECOND, clock.now() + 25 * SECOND)

    @pytest.mark.parametrize("skew", SKEWS)
    @pytest.mark.parametrize("wait", WAITS)
    def test_the_wait_until_another_run_is_kept_by_the_storages_clock(
        self, wait: str, skew: int, storage: Storage, clock: FakeClock
    ) -> None:
        outcome, seconds = WAITS[wait]
        lease = claimed(storage, task(retries=1, retry_delay=0 if wait == "asked again" else 30.0))
        clock.forward(1)

        write(storage, decide(lease, outcome, clock.now() + skew * SECOND))

        assert get_row(storage).due == clock.now() + micros(seconds)
        clock.forward(seconds - 1)
        assert claim(storage) == []
        clock.forward(1)
        assert claim_ids(storage) == ["a"]

    @pytest.mark.parametrize("eta", [-(10**17), -62135596800 * SECOND, -1, 0, 1])
    def test_a_time_long_ago_is_now(self, eta: int, storage: Storage, clock: FakeClock) -> None:
        storage.enqueue([task("a"), task("b")])
        lease = claim(storage)[0]

        write(storage, Finish(lease, State.QUEUED, due=eta))
        storage.enqueue([task("c", eta=eta)])

        assert sorted(claim_ids(storage, 9)) == ["a", "b", "c"]

    @pytest.mark.parametrize("eta", [253402300799 * SECOND, 2**53 + 1, FOREVER])
    def test_a_time_that_never_comes_is_waited_for(self, eta: int, storage: Storage) -> None:
        storage.enqueue([task("a"), task("b", eta=eta), task("c", expires=eta)])
        lease = claim(storage)[0]

        write(storage, Finish(lease, State.QUEUED, due=eta))

        assert (get_row(storage, "a").due, get_row(storage, "b").due) == (eta, eta)
        assert claim_ids(storage, 9) == ["c"]
