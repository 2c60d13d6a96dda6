"""Rules of naive times that are not converted: they travel as wall time, and the consumer reads them on its own clock. For any storage.

A class derives from ``WallTimeRules`` and gives a fixture ``make``, which makes an instance with an empty queue: ``make(**options)``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from huey import Huey
from huey.runtime.clock import SECOND
from huey.testing.clock import FakeClock

TOKYO, NEW_YORK, KIRITIMATI, BAKER = "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati", "Etc/GMT+12"
CONSUMERS = (None, TOKYO, NEW_YORK, KIRITIMATI, BAKER)
"""Zones of the consumer; None: its clock shows UTC."""

Make = Callable[..., Huey]
SetZone = Callable[[str], None]


def run_next(huey: Huey) -> Any:
    """Take the next task as a consumer would: what it returned; None if there was none, or none that was due."""
    task = huey.dequeue()
    return None if task is None else huey.execute(task)


def wall(clock: FakeClock, zone: str | None) -> datetime:
    """What a clock shows now in that zone."""
    return datetime.fromtimestamp(clock.now() / SECOND, UTC if zone is None else ZoneInfo(zone)).replace(tzinfo=None)


def turn_to(clock: FakeClock, shown: datetime, zone: str | None) -> None:
    """Turn the clock until it shows that in the zone."""
    aware = shown.replace(tzinfo=UTC if zone is None else ZoneInfo(zone))
    clock.forward(aware.timestamp() - clock.now() / SECOND)


class WallTimeRules:
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.mark.parametrize("producer", [TOKYO, NEW_YORK])
    @pytest.mark.parametrize("consumer", CONSUMERS)
    def test_an_unconverted_eta_is_read_on_the_consumers_clock(
        self, producer: str, consumer: str | None, make: Make, clock: FakeClock, set_zone: SetZone
    ) -> None:
        huey = make(clock=clock, utc=consumer is None)
        task = huey.task()(lambda: "ran")
        set_zone(producer)
        task.schedule(eta=wall(clock, consumer) + timedelta(seconds=60), convert_utc=False)

        set_zone(consumer or producer)
        assert run_next(huey) is None
        clock.forward(59)
        assert run_next(huey) is None
        clock.forward(1)
        assert run_next(huey) == "ran"

    @pytest.mark.parametrize("consumer", CONSUMERS)
    def test_far_ahead_too(self, consumer: str | None, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=consumer is None)
        set_zone(TOKYO)
        eta = datetime(2026, 1, 15, 8, 30)
        huey.task()(lambda: "ran").schedule(eta=eta, convert_utc=False)

        set_zone(consumer or TOKYO)
        for hours in (48, 13, 1):
            turn_to(clock, eta - timedelta(hours=hours), consumer)
            assert run_next(huey) is None
        turn_to(clock, eta - timedelta(seconds=1), consumer)
        assert run_next(huey) is None
        clock.forward(1)
        assert run_next(huey) == "ran"

    @pytest.mark.parametrize(
        ("eta", "begin"),
        [(datetime(2026, 3, 8, 12), datetime(2026, 3, 7, 12)), (datetime(2026, 11, 1, 12), datetime(2026, 10, 31, 12))],
        ids=["clocks go forward in between", "clocks go back in between"],
    )
    def test_the_consumers_clock_may_change_in_between(
        self, eta: datetime, begin: datetime, make: Make, clock: FakeClock, set_zone: SetZone
    ) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        turn_to(clock, begin, NEW_YORK)
        huey.task()(lambda: "ran").schedule(eta=eta, convert_utc=False)

        set_zone(NEW_YORK)
        assert run_next(huey) is None
        for _ in range(22):
            clock.forward(3600)
            assert run_next(huey) is None
        turn_to(clock, eta - timedelta(seconds=1), NEW_YORK)
        assert run_next(huey) is None
        clock.forward(1)
        assert run_next(huey) == "ran"

    def test_a_wall_time_that_has_passed_is_now(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        task = huey.task()(lambda: "ran")
        set_zone(TOKYO)
        for eta in (wall(clock, TOKYO), wall(clock, TOKYO) - timedelta(days=400), datetime(1, 1, 1)):
            task.schedule(eta=eta, convert_utc=False)

        assert [run_next(huey) for _ in range(3)] == ["ran"] * 3

    def test_an_aware_eta_is_exact_whether_it_is_converted_or_not(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        eta = datetime.fromtimestamp(clock.now() / SECOND + 60, ZoneInfo(NEW_YORK))
        huey.task()(lambda: "ran").schedule(eta=eta, convert_utc=False)

        clock.forward(59)
        assert run_next(huey) is None
        clock.forward(1)
        assert run_next(huey) == "ran"

    def test_a_relative_expiry_counts_from_the_wall_time(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(NEW_YORK)
        task = huey.task()(lambda: "ran")
        eta = wall(clock, TOKYO) + timedelta(hours=20)
        for _ in range(2):
            task.schedule(eta=eta, convert_utc=False, expires=60)

        set_zone(TOKYO)
        clock.forward(12 * 3600)
        assert (run_next(huey), run_next(huey)) == (None, None)
        turn_to(clock, eta + timedelta(seconds=59), TOKYO)
        assert run_next(huey) == "ran"
        clock.forward(1)
        assert run_next(huey) is None
        clock.forward(3600)
        assert run_next(huey) is None

    def test_a_task_that_was_first_seen_after_its_expiry_has_expired(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        told: list[str] = []
        huey.signal()(lambda signal, task, *extra: told.append(signal))
        huey.task()(lambda: "ran").schedule(eta=wall(clock, TOKYO) + timedelta(seconds=10), convert_utc=False, expires=60)

        clock.forward(71)

        assert run_next(huey) is None
        assert told[-1] == "expired"

    def test_retries_are_no_wall_times(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        runs: list[int] = []

        @huey.task(retries=1, retry_delay=5)
        def fail() -> str:
            runs.append(1)
            if len(runs) == 1:
                raise ValueError
            return "done"

        fail.schedule(eta=wall(clock, TOKYO) + timedelta(seconds=60), convert_utc=False)
        run_next(huey)
        clock.forward(60)
        run_next(huey)
        clock.forward(4)
        assert run_next(huey) is None
        clock.forward(1)
        assert run_next(huey) == "done"

    def test_it_can_be_revoked_meanwhile(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        handle = huey.task()(lambda: "ran").schedule(eta=wall(clock, TOKYO) + timedelta(seconds=60), convert_utc=False)
        run_next(huey)

        handle.revoke()

        clock.forward(60)
        assert run_next(huey) is None

    @pytest.mark.parametrize("consumer", CONSUMERS)
    @pytest.mark.parametrize("what", ["function", "task"])
    def test_a_naive_revoke_until_is_read_on_the_consumers_clock(
        self, what: str, consumer: str | None, make: Make, clock: FakeClock, set_zone: SetZone
    ) -> None:
        huey = make(clock=clock, utc=consumer is None)
        task = huey.task()(lambda: "ran")
        set_zone(NEW_YORK if consumer == TOKYO else TOKYO)
        before, after = task.schedule(delay=59), task.schedule(delay=60)
        until = wall(clock, consumer) + timedelta(seconds=60)
        if what == "function":
            task.revoke(until)
        else:
            before.revoke(revoke_until=until)
            after.revoke(revoke_until=until)

        set_zone(consumer or TOKYO)
        clock.forward(59)
        assert run_next(huey) is None
        clock.forward(1)
        assert run_next(huey) == "ran"

    @pytest.mark.parametrize("zone", [TOKYO, NEW_YORK])
    @pytest.mark.parametrize("utc", [True, False])
    def test_a_naive_revoke_until_is_told_in_naive_times_as_it_is(
        self, utc: bool, zone: str, make: Make, clock: FakeClock, set_zone: SetZone
    ) -> None:
        huey = make(clock=clock, utc=utc)
        set_zone(zone)
        task = huey.task()(lambda: "ran")
        until = datetime(2031, 5, 6, 7, 8, 9)

        task.revoke(until)

        assert task.is_revoked(until - timedelta(microseconds=1))
        assert not task.is_revoked(until)
        exact = until.replace(tzinfo=UTC if utc else ZoneInfo(zone))
        assert task.is_revoked(exact - timedelta(hours=2))
        assert not task.is_revoked(exact + timedelta(hours=2))
        assert task.is_revoked()
