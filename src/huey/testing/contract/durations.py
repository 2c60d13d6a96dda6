"""Delays are durations: they count on the storage's clock, whatever the host that gives them takes for the time."""

from __future__ import annotations

import pytest

from huey.clock import FOREVER, SECOND, micros
from huey.lifecycle import AskedAgain, Finish, Limited, Outcome, Raised, Snoozed, State, Unknown, decide
from huey.storage.base import Storage
from huey.testing.clock import TurnableClock
from huey.testing.contract.tools import ME, claim, claim_ids, claimed, look, task, write

ERROR = {"error": "ValueError()", "traceback": ""}
SKEWS = (-3600, -60, 60, 3600)
"""Seconds by which the host's clock differs from the storage's."""
WAITS: dict[str, tuple[Outcome, float]] = {
    "retry_delay": (Raised(ERROR), 30.0),
    "snooze": (Snoozed(7.5, "limit"), 7.5),
    "rate limit": (Limited(ERROR, 12.0, True), 30.0),
    "asked again": (AskedAgain(ERROR, delay=3.0), 3.0),
    "unknown task": (Unknown(ERROR), 5.0),
}


class DurationRules:
    @pytest.mark.parametrize("skew", SKEWS)
    def test_a_delay_counts_from_the_enqueue_by_the_storages_clock(self, skew: int, storage: Storage, clock: TurnableClock) -> None:
        host = clock.now() + skew * SECOND

        storage.enqueue([task(delay=10 * SECOND, eta=host + 10 * SECOND)])

        assert look(storage).due == clock.now() + 10 * SECOND
        clock.forward(9)
        assert claim_ids(storage) == []
        clock.forward(1)
        assert claim_ids(storage) == ["a"]

    @pytest.mark.parametrize("skew", SKEWS)
    def test_an_expiry_that_is_a_duration_counts_from_the_enqueue(self, skew: int, storage: Storage, clock: TurnableClock) -> None:
        host, start = clock.now() + skew * SECOND, clock.now()

        storage.enqueue([task(id, expires_in=10 * SECOND, expires=host + 10 * SECOND) for id in ("a", "b")])

        clock.forward(9)
        assert [(lease.id, lease.expires) for lease in claim(storage)] == [("a", start + 10 * SECOND)]
        clock.forward(1)
        turn = storage.turn(ME, [], 1)
        assert [(each.id, each.reason) for each in turn.cancelled] == [("b", "expired")]

    def test_a_delay_and_an_expiry_hold_for_a_tick_too(self, storage: Storage, clock: TurnableClock) -> None:
        assert storage.tick("app.tick", 1, task(delay=5 * SECOND, expires_in=20 * SECOND, eta=1, expires=2))

        row = look(storage)
        assert (row.due, row.expires) == (clock.now() + 5 * SECOND, clock.now() + 20 * SECOND)

    @pytest.mark.parametrize("skew", SKEWS)
    @pytest.mark.parametrize("wait", WAITS)
    def test_the_wait_until_another_run_is_kept_by_the_storages_clock(
        self, wait: str, skew: int, storage: Storage, clock: TurnableClock
    ) -> None:
        outcome, seconds = WAITS[wait]
        lease = claimed(storage, task(retries=1, retry_delay=0 if wait == "asked again" else 30.0))
        clock.forward(1)

        write(storage, decide(lease, outcome, clock.now() + skew * SECOND))

        assert look(storage).due == clock.now() + micros(seconds)
        clock.forward(seconds - 1)
        assert claim(storage) == []
        clock.forward(1)
        assert claim_ids(storage) == ["a"]

    @pytest.mark.parametrize("eta", [-(10**17), -62135596800 * SECOND, -1, 0, 1])
    def test_a_time_long_ago_is_now(self, eta: int, storage: Storage, clock: TurnableClock) -> None:
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

        assert (look(storage, "a").due, look(storage, "b").due) == (eta, eta)
        assert claim_ids(storage, 9) == ["c"]
