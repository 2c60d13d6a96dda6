"""Ticks over one SQLite file, whatever becomes of the consumers and of the clock; whole days on which the clocks change (C7, T12).

The expected minutes are worked out here from the rule in words, not by the crontab.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from huey import SqliteHuey, crontab
from huey.consumer.scheduler import Scheduler
from huey.cron import MINUTE
from huey.runtime.clock import SECOND, Micros
from huey.task.record import Record
from huey.testing.clock import NOON, FakeClock


class Clockwork:
    """Consumers' schedulers over one file; each ``start`` is a process of its own as far as the storage can tell."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.fired: list[tuple[str, Micros]] = []
        """Name and minute of every tick that became a task."""
        self._folder = folder
        self._schedules: dict[str, Any] = {}
        self._open: list[SqliteHuey] = []

    def periodic(self, name: str, schedule: Any) -> None:
        self._schedules[name] = schedule

    def start(self) -> Scheduler:
        huey = SqliteHuey("app", filename=self._folder / "queue.db", clock=self.clock, fsync=False)
        self._open.append(huey)
        for name, schedule in self._schedules.items():
            huey.periodic_task(schedule, name=name)(lambda: None)
        huey.storage.tick = self._noting(huey.storage.tick)  # type: ignore[method-assign]
        return Scheduler(huey.storage, huey.registry, huey.codec, huey.clock)

    def _noting(self, tick: Callable[..., bool]) -> Callable[..., bool]:
        def noted(name: str, at: Micros, record: Record | None, *rest: Any) -> bool:
            has_fired = tick(name, at, record, *rest)
            if has_fired and record is not None:
                self.fired.append((name, at))
            return has_fired

        return noted

    def enqueued(self) -> Counter[str]:
        return Counter(row.name for row in self._open[-1].storage.find(limit=10**6))

    def close(self) -> None:
        for huey in self._open:
            huey.close()


@pytest.fixture
def clockwork(tmp_path: Path) -> Iterator[Clockwork]:
    it = Clockwork(tmp_path)
    yield it
    it.close()


# -- consumers that come and go, a clock that jumps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_restarts_and_clock_jumps_make_one_run_per_tick(clockwork: Clockwork, seed: int) -> None:
    """What must fire is worked out from what the clock showed at each look: the newest minute after the last tick, within the grace."""
    rng = random.Random(seed)
    clockwork.periodic("each", crontab())
    crew = [clockwork.start() for _ in range(3)]
    expected: list[Micros] = []
    restarts, jumps = 0, [-180, 600, -180, 600, 45, -30]
    first = NOON // MINUTE * MINUTE - MINUTE
    last = first
    for step in range(600):
        clockwork.clock.forward(rng.choice([1, 5, 5, 20]))
        if step % 30 == 7:
            crew[rng.randrange(3)] = clockwork.start()
            restarts += 1
        if step % 100 == 50:
            clockwork.clock.set(clockwork.clock.now() + jumps.pop(0) * SECOND)
        minute = clockwork.clock.now() // MINUTE * MINUTE
        if minute > last:
            expected.append(minute)
            last = minute

        for scheduler in rng.sample(crew, 3):
            scheduler.run_once()

    fired = [at for _, at in clockwork.fired]
    assert restarts == 20
    assert jumps == []
    assert max(Counter(fired).values()) == 1, "none twice"
    assert fired == expected, "one run per tick, the newest of those that were jumped over"
    assert clockwork.enqueued()["each"] == len(expected)
    assert len(expected) > 60


def test_after_a_jump_ahead_the_newest_missed_tick_runs(clockwork: Clockwork) -> None:
    clockwork.periodic("noon and four past", crontab(minute="0,4", hour="12"))
    clockwork.periodic("at ten past", crontab(minute="10", hour="12"))
    crew = [clockwork.start() for _ in range(3)]
    for at in (-60, 0):
        clockwork.clock.set(NOON + at * SECOND)
        for scheduler in crew:
            scheduler.run_once()

    clockwork.clock.set(NOON + 600 * SECOND)
    for scheduler in crew:
        scheduler.run_once()

    assert [(name, (at - NOON) // MINUTE) for name, at in clockwork.fired] == [("noon and four past", 0), ("at ten past", 10)]
    clockwork.clock.set(NOON + 24 * 3600 * SECOND + 8 * MINUTE)
    crew[0].run_once()
    assert [(name, (at - NOON) // MINUTE) for name, at in clockwork.fired[2:]] == [("noon and four past", 24 * 60 + 4)]


def test_after_a_jump_back_nothing_fires_until_the_clock_is_back(clockwork: Clockwork) -> None:
    clockwork.periodic("each", crontab())
    crew = [clockwork.start() for _ in range(3)]
    crew[0].run_once()
    clockwork.clock.set(NOON - 180 * SECOND)

    minutes = []
    for _ in range(5 * 12):
        clockwork.clock.forward(5)
        before = len(clockwork.fired)
        for scheduler in crew:
            scheduler.run_once()
        minutes += [(clockwork.clock.now() - NOON) // MINUTE] * (len(clockwork.fired) - before)

    assert minutes == [1, 2]


# -- days on which the clocks change ------------------------------------------------------------------------------------------------------

DAYS = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
]
FIXED = [(0, 0), (1, 30), (1, 45), (2, 0), (2, 15), (2, 30), (3, 0), (12, 0), (23, 59)]
"""Hour and minute of schedules that run once a day."""
EVERY = {"*": 1, "*/5": 5, "*/30": 30}
"""Minutes of schedules that run each so many minutes of real time; 30 divides every change of the clocks here."""


def instants_of(zone: ZoneInfo, day: date) -> list[Micros]:
    """All minutes of a day as its people live it: 23, 24 or 25 hours, 23.5 or 24.5 on Lord Howe."""
    begin, end = (datetime(on.year, on.month, on.day, tzinfo=zone).timestamp() for on in (day, day + timedelta(days=1)))
    return [round(second) * SECOND for second in range(round(begin), round(end), 60)]


def shown(at: Micros, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at / SECOND, UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def once_a_day(zone: ZoneInfo, day: date, hour: int, minute: int) -> Micros:
    """The first instant at which the clock shows that time; when it never does, the first one at which it shows a later time."""
    wanted = datetime(day.year, day.month, day.day, hour, minute)
    return next(at for at in instants_of(zone, day) if shown(at, zone) >= wanted)


@pytest.mark.parametrize(("name", "day"), DAYS, ids=[f"{name} {day}" for name, day in DAYS])
def test_each_minute_of_a_day_with_a_clock_change_is_exact(clockwork: Clockwork, name: str, day: date) -> None:
    """Two consumers look through the whole day, minute by minute; one of them starts anew each hour."""
    zone, minutes = ZoneInfo(name), instants_of(ZoneInfo(name), day)
    assert len(minutes) not in (24 * 60,), "the clocks change on it"
    for hour, minute in FIXED:
        clockwork.periodic(f"at {hour}:{minute:02}", crontab(hour=hour, minute=minute, tz=name))
    for text in EVERY:
        clockwork.periodic(f"every {text}", crontab(minute=text, tz=name))
    clockwork.periodic("every two hours", crontab(minute="0", hour="*/2", tz=name))
    crew = [clockwork.start(), clockwork.start()]

    for number, at in enumerate(minutes):
        clockwork.clock.set(at + 7 * SECOND)
        if number % 60 == 59:
            crew[0] = clockwork.start()
        for scheduler in crew:
            scheduler.run_once()

    fired: dict[str, list[Micros]] = {}
    for what, at in clockwork.fired:
        fired.setdefault(what, []).append(at)
    for hour, minute in FIXED:
        assert fired[f"at {hour}:{minute:02}"] == [once_a_day(zone, day, hour, minute)], (hour, minute)
    for text, step in EVERY.items():
        assert fired[f"every {text}"] == minutes[::step], text
    assert fired["every two hours"] == sorted({once_a_day(zone, day, hour, 0) for hour in range(0, 24, 2)})
    assert clockwork.enqueued() == {what: len(times) for what, times in fired.items()}
