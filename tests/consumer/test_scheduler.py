"""Ticks of periodic tasks: each fires once, missed ones are made up for by the newest, whatever the clock does (C7)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from huey import Huey, crontab
from huey.consumer.scheduler import MISFIRE_GRACE, Scheduler
from huey.cron import MINUTE
from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Micros
from huey.storage.memory import MemoryStorage
from huey.task.record import Record
from huey.testing.clock import NOON, FakeClock


class Ticking(MemoryStorage):
    """Notes what fires, and does what the test says between a look at the ticks and the next call."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("app", clock=clock)
        self.fired: list[tuple[str, str]] = []
        """Name and minute."""
        self.between: Callable[[], object] = lambda: None
        self.is_away = False
        self.loses_reply = False

    def ticks(self) -> dict[str, Micros]:
        ticks = super().ticks()
        between, self.between = self.between, lambda: None
        between()
        return ticks

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        if self.is_away:
            raise StorageUnavailable("away")
        fired = super().tick(name, tick, record, events, now)
        if fired and record is not None:
            self.fired.append((name, minute(tick)))
        if self.loses_reply:
            raise StorageUnavailable("the reply was lost")
        return fired


def minute(at: Micros) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).strftime("%H:%M")


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.storage = Ticking(self.clock)
        self.huey = Huey("app", storage=self.storage, clock=self.clock)
        self.scheduler = self.another()

    def another(self, zone: tzinfo | None = UTC, **options: Any) -> Scheduler:
        huey = self.huey
        return Scheduler(huey.storage, huey.registry, huey.codec, huey.clock, zone=zone, **options)

    def periodic(self, schedule: Callable[[datetime], bool], name: str = "job", **options: Any) -> None:
        self.huey.periodic_task(schedule, name=name, **options)(lambda: None)

    def look_at(self, seconds: float) -> list[str]:
        """Look so many seconds after noon, on a clock that was set to it; the minutes that fired then."""
        self.clock.set(NOON + round(seconds * SECOND))
        before = len(self.storage.fired)
        self.scheduler.run_once()
        return [minute for _, minute in self.storage.fired[before:]]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_tick_fires_in_its_minute_and_once(bench: Bench) -> None:
    bench.periodic(crontab(minute="1"))

    assert bench.look_at(0) == []
    assert bench.look_at(59.9) == []
    assert bench.look_at(60) == ["12:01"]
    assert bench.look_at(60) == []
    assert bench.look_at(119.9) == []
    assert bench.look_at(120) == []


def test_a_fired_tick_is_a_task_in_the_queue(bench: Bench) -> None:
    bench.periodic(crontab(), retries=2, retry_delay=1.5, priority=3, expires=30)

    bench.look_at(10)

    [row] = bench.storage.find()
    assert (row.name, row.retries, row.retry_delay, row.priority, row.due) == ("job", 2, 1.5, 3, None)
    assert row.expires == bench.clock.now() + 30 * SECOND


def test_a_new_task_starts_with_the_minute_that_runs(bench: Bench) -> None:
    bench.periodic(crontab())

    assert bench.look_at(30) == ["12:00"]


def test_a_task_never_seen_before_does_not_make_up_for_the_past(bench: Bench) -> None:
    bench.periodic(crontab(minute="58"))

    assert bench.look_at(0) == []
    assert bench.storage.ticks() == {"job": NOON - MINUTE}, "from here on a missed tick is known"


def test_of_missed_ticks_the_newest_fires(bench: Bench) -> None:
    bench.periodic(crontab())
    bench.look_at(0)

    assert bench.look_at(4 * 60 + 5) == ["12:04"]
    assert bench.look_at(4 * 60 + 20) == []


def test_a_missed_tick_fires_within_the_grace(bench: Bench) -> None:
    bench.periodic(crontab(minute="1"))
    bench.look_at(0)

    assert bench.look_at(60 + MISFIRE_GRACE - 0.1) == ["12:01"]


def test_a_tick_missed_for_longer_than_the_grace_does_not_fire(bench: Bench) -> None:
    bench.periodic(crontab(minute="1"))
    bench.look_at(0)

    assert bench.look_at(60 + MISFIRE_GRACE) == []
    assert bench.look_at(3600 + 60) == ["13:01"]


def test_the_grace_can_be_set(bench: Bench) -> None:
    bench.periodic(crontab(minute="1"))
    bench.scheduler = bench.another(grace=3600.0)
    bench.look_at(0)

    assert bench.look_at(55 * 60) == ["12:01"]


def test_a_restarted_scheduler_goes_on_where_the_last_one_ended(bench: Bench) -> None:
    bench.periodic(crontab())
    bench.look_at(0)

    bench.scheduler = bench.another()

    assert bench.look_at(20) == []
    assert bench.look_at(2 * 60) == ["12:02"]


def test_a_clock_set_back_fires_nothing_twice(bench: Bench) -> None:
    bench.periodic(crontab())
    bench.look_at(0)
    assert bench.look_at(3 * 60) == ["12:03"]

    assert [bench.look_at(seconds) for seconds in range(0, 240, 20)] == [[]] * 12
    assert bench.look_at(4 * 60) == ["12:04"]


def test_a_clock_set_ahead_fires_what_is_due_once(bench: Bench) -> None:
    bench.periodic(crontab(minute="*/15"))
    bench.look_at(0)

    assert bench.look_at(3600 + 30) == ["13:00"]
    assert bench.look_at(3600 + 59) == []


def test_two_schedulers_make_one_run(bench: Bench) -> None:
    bench.periodic(crontab())
    other = bench.another()

    bench.storage.between = other.run_once
    assert bench.look_at(0) == ["12:00"]
    bench.storage.between = other.run_once
    assert bench.look_at(60) == ["12:01"]

    assert bench.storage.counts().ready == 2


def test_each_task_has_ticks_of_its_own(bench: Bench) -> None:
    bench.periodic(crontab(), "each")
    bench.periodic(crontab(minute="*/2"), "second")

    for seconds in (0, 60, 120):
        bench.look_at(seconds)

    assert bench.storage.fired == [("each", "12:00"), ("second", "12:00"), ("each", "12:01"), ("each", "12:02"), ("second", "12:02")]


def test_tasks_that_are_not_periodic_never_tick(bench: Bench) -> None:
    bench.huey.task(name="plain")(lambda: None)

    bench.look_at(0)

    assert (bench.storage.ticks(), bench.storage.find()) == ({}, [])


def test_any_callable_of_a_datetime_is_a_schedule(bench: Bench) -> None:
    asked: list[datetime] = []
    bench.periodic(lambda at: asked.append(at) or at.minute == 1)  # type: ignore[func-returns-value]

    bench.look_at(0)
    bench.look_at(60)

    assert bench.storage.fired == [("job", "12:01")]
    assert asked == [datetime(2025, 6, 16, 12, 0), datetime(2025, 6, 16, 12, 1)]


def test_the_zone_is_that_of_the_consumers_clock(bench: Bench) -> None:
    bench.periodic(crontab(hour="14", minute="0"))
    bench.scheduler = bench.another(zone=ZoneInfo("Europe/Berlin"))

    assert bench.look_at(0) == ["12:00"]


def test_a_broken_callable_stops_no_others_and_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(at: datetime) -> bool:
        raise ValueError("no such day")

    bench.periodic(broken, "broken")
    bench.periodic(crontab(), "sound")

    for seconds in (0, 60, 120):
        bench.look_at(seconds)

    assert bench.storage.fired == [("sound", "12:00"), ("sound", "12:01"), ("sound", "12:02")]
    assert [record.message for record in caplog.records] == ["periodic task broken: cannot evaluate its schedule; it does not run"]


def test_a_tick_that_could_not_be_written_fires_later(bench: Bench) -> None:
    bench.periodic(crontab(minute="1"))
    bench.look_at(0)
    bench.storage.is_away = True
    assert _look_through(bench, 60) == []

    bench.storage.is_away = False

    assert bench.look_at(120) == ["12:01"]


def test_a_tick_whose_reply_was_lost_does_not_fire_again(bench: Bench) -> None:
    bench.periodic(crontab(minute="1"))
    bench.look_at(0)
    bench.storage.loses_reply = True
    _look_through(bench, 60)

    bench.storage.loses_reply = False

    assert bench.look_at(120) == []
    assert bench.storage.fired == [("job", "12:01")]


def _look_through(bench: Bench, seconds: float) -> list[str]:
    """A look that may fail, as a service bears it."""
    try:
        return bench.look_at(seconds)
    except StorageUnavailable:
        return []


def test_a_storage_that_is_away_is_not_told_as_a_broken_schedule(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.periodic(crontab())
    bench.storage.is_away = True

    _look_through(bench, 0)

    assert "schedule cannot be read" not in caplog.text


def test_the_next_look_comes_with_the_next_minute(bench: Bench) -> None:
    bench.clock.set(NOON + 57 * SECOND)

    assert bench.scheduler.run_once() == pytest.approx(3, abs=0.1)


def test_the_clock_is_read_every_5_s_the_storage_every_minute(bench: Bench) -> None:
    """A clock that was set, or a machine that slept, is noticed soon, and an idle scheduler costs nothing."""
    looks: list[int] = []

    for second in range(0, 180, 5):
        bench.storage.between = lambda second=second: looks.append(second)  # type: ignore[misc]
        bench.clock.set(NOON + second * SECOND)
        assert bench.scheduler.run_once() == pytest.approx(5, abs=0.1)

    assert looks == [0, 60, 120]


def test_a_minute_that_failed_is_looked_at_again(bench: Bench) -> None:
    bench.periodic(crontab())
    bench.storage.is_away = True
    _look_through(bench, 0)

    bench.storage.is_away = False

    assert bench.look_at(1) == ["12:00"]


def test_the_next_look_comes_after_a_shorter_interval(bench: Bench) -> None:
    assert bench.another(interval=2.0).run_once() == 2.0


def test_followers_are_told_of_a_tick(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.periodic(crontab())
    position, _ = bench.storage.follow(None)

    with caplog.at_level(logging.INFO):
        bench.look_at(0)

    [told] = bench.storage.follow(position)[1]
    assert '"status": "enqueued"' in told
    assert "periodic task enqueued: job" in caplog.text
