"""The clock of a test, and ``drain(until=...)``, which travels along what becomes due."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from huey import Huey, MemoryHuey, crontab
from huey.testing import memory
from huey.testing.memory_queue import MemoryQueue
from tests.testing.conftest import MONDAY


def times(queue: MemoryQueue, until: float | timedelta | datetime, since: datetime = MONDAY) -> list[tuple[str, float]]:
    """Drain, and return what ran, and when in seconds."""
    return [(run.name, (run.at - since).total_seconds()) for run in queue.drain(until=until)]


# -- the clock


def test_it_stands_still(queue: MemoryQueue) -> None:
    assert queue.clock.time == MONDAY
    assert queue.clock.time == MONDAY


@pytest.mark.parametrize("duration", [90, 90.0, timedelta(minutes=1, seconds=30)])
def test_it_advances_both_clocks(queue: MemoryQueue, duration: float | timedelta) -> None:
    before = queue.clock.monotonic()

    queue.clock.advance(duration)

    assert queue.clock.time == MONDAY + timedelta(seconds=90)
    assert queue.clock.monotonic() - before == 90_000_000


@pytest.mark.parametrize("duration", [-1, timedelta(days=-1)])
def test_it_does_not_advance_back(queue: MemoryQueue, duration: float | timedelta) -> None:
    with pytest.raises(ValueError, match=r"time does not run back; to set the clock back, use move_to\(datetime\)"):
        queue.clock.advance(duration)


def test_it_advances_by_durations_only(queue: MemoryQueue) -> None:
    with pytest.raises(ValueError, match="give seconds or a timedelta"):
        queue.clock.advance("soon")  # type: ignore[arg-type]


def test_it_moves_to_a_time(queue: MemoryQueue) -> None:
    queue.clock.move_to(datetime(2027, 3, 4, 5, 6, 7, 890_123, tzinfo=timezone(timedelta(hours=2))))

    assert queue.clock.time == datetime(2027, 3, 4, 3, 6, 7, 890_123, tzinfo=UTC)


def test_set_back_it_goes_on_with_durations(queue: MemoryQueue) -> None:
    before = queue.clock.monotonic()

    queue.clock.move_to(datetime(2020, 1, 1))

    assert (queue.clock.time, queue.clock.monotonic()) == (datetime(2020, 1, 1, tzinfo=UTC), before)


def test_a_naive_time_is_that_of_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        with memory(MemoryHuey("utc"), datetime(2026, 1, 5)) as queue:
            assert queue.clock.time == datetime(2026, 1, 5, tzinfo=UTC)
        with memory(MemoryHuey("local", utc=False), datetime(2026, 1, 5)) as queue:
            assert queue.clock.time == datetime(2026, 1, 5, 5, tzinfo=UTC)
            queue.clock.move_to(datetime(2026, 1, 6))
            assert queue.clock.time == datetime(2026, 1, 6, 5, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


# -- drain(until=...)


def test_it_stops_at_each_eta_in_order(huey: Huey, queue: MemoryQueue) -> None:
    one = huey.task(name="one")(lambda: 1)
    one.schedule(delay=300)
    one.schedule(delay=60)
    one.schedule(eta=MONDAY + timedelta(seconds=120))
    one.schedule(delay=601)

    assert times(queue, 600) == [("one", 60), ("one", 120), ("one", 300)]
    assert queue.clock.time == MONDAY + timedelta(seconds=600)


def test_what_is_due_at_the_end_runs(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(name="one")(lambda: 1).schedule(delay=600)

    assert times(queue, MONDAY + timedelta(seconds=600)) == [("one", 600)]


def test_retries_back_off(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(name="fails", retries=4, retry_delay=10, retry_backoff=2)(lambda: 1 / 0)()

    assert times(queue, timedelta(hours=1)) == [("fails", 0), ("fails", 10), ("fails", 30), ("fails", 70), ("fails", 150)]


def test_windows_of_a_rate_pass(huey: Huey, queue: MemoryQueue) -> None:
    limited = huey.task(name="limited", rate="2/m")(lambda: 1)
    for _ in range(5):
        limited()

    assert times(queue, 120) == [("limited", 0), ("limited", 0), ("limited", 60), ("limited", 60), ("limited", 120)]


def test_what_becomes_due_on_another_queue_runs(huey: Huey, queue: MemoryQueue) -> None:
    late = huey.task(name="late", queue="mail")(lambda: 1)
    huey.task(name="early")(lambda: bool(late.schedule(delay=5))).schedule(delay=5)

    assert times(queue, 60) == [("early", 5), ("late", 10)]


def test_a_wall_time_is_read_and_runs_once(huey: Huey, queue: MemoryQueue) -> None:
    one = huey.task(name="one")(lambda: 1)
    one.schedule(eta=datetime(2026, 1, 5, 18, 0), convert_utc=False)
    one.schedule(eta=datetime(2026, 1, 5, 11, 0), convert_utc=False, expires=60)

    assert [run.value for run in queue.drain()] == [1]
    queue.assert_enqueued(one, times=1)
    assert times(queue, timedelta(days=1)) == [("one", 6 * 3600)]


def test_a_sleep_past_the_end_leaves_the_clock_there(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(name="long")(lambda: time.sleep(100))()

    assert times(queue, 10) == [("long", 0)]
    assert queue.clock.time == MONDAY + timedelta(seconds=100)


def test_an_end_in_the_past_runs_what_is_due(huey: Huey, queue: MemoryQueue) -> None:
    huey.task(name="one")(lambda: 1)()

    assert times(queue, MONDAY - timedelta(days=1)) == [("one", 0)]
    assert queue.clock.time == MONDAY


def test_old_failures_are_pruned_on_the_way(huey: Huey, queue: MemoryQueue) -> None:
    huey.task()(lambda: 1 / 0)()

    queue.drain(until=timedelta(days=29))
    assert huey.inspector.counts().failed == 1
    queue.drain(until=timedelta(days=2))
    assert huey.inspector.counts().failed == 0


# -- periodic tasks


def test_a_week_of_a_crontab_runs_in_order(huey: Huey, queue: MemoryQueue) -> None:
    huey.periodic_task(crontab(hour="3", minute="30"), name="nightly")(lambda: None)
    huey.periodic_task("0 6 * * mon", name="weekly")(lambda: None)

    ran = [(run.name, f"{run.at:%a %H:%M}") for run in queue.drain(until=timedelta(days=7))]

    days = ["Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"]
    assert ran == [*(("nightly", f"{day} 03:30") for day in days), ("weekly", "Mon 06:00")]


def test_a_schedule_that_is_a_function_runs_as_well(huey: Huey, queue: MemoryQueue) -> None:
    huey.periodic_task(lambda at: at.minute % 20 == 0, name="often")(lambda: None)

    assert times(queue, 3600) == [("often", 0), ("often", 1200), ("often", 2400), ("often", 3600)]


def test_periodic_tasks_of_other_queues_run(huey: Huey, queue: MemoryQueue) -> None:
    huey.periodic_task("0 13 * * *", name="hourly", queue="mail")(lambda: None)

    assert times(queue, 3600) == [("hourly", 3600)]


def test_a_tick_runs_when_the_clock_is_moved_to_it(huey: Huey, queue: MemoryQueue) -> None:
    huey.periodic_task("0 3 * * *", name="nightly")(lambda: None)

    queue.clock.move_to(datetime(2026, 1, 6, 3, 0))

    assert [run.name for run in queue.drain()] == ["nightly"]
    assert queue.drain() == []


def test_the_minute_in_which_a_test_begins_ticks_not(huey: Huey) -> None:
    huey.periodic_task("* * * * *", name="always")(lambda: None)

    with memory(huey) as queue:
        assert queue.drain() == []
        queue.clock.advance(60)
        assert len(queue.drain()) == 1


def test_a_minute_that_the_test_asks_for_ticks(huey: Huey) -> None:
    huey.periodic_task("* * * * *", name="always")(lambda: None)

    with memory(huey) as queue:
        queue.clock.move_to(queue.clock.time)
        assert len(queue.drain()) == 1


def test_a_leap_skips_ticks_as_a_machine_asleep(huey: Huey, queue: MemoryQueue) -> None:
    huey.periodic_task("0 3 * * *", name="nightly")(lambda: None)

    queue.clock.move_to(datetime(2026, 1, 8, 12, 0))

    assert queue.drain() == []


def test_a_failed_periodic_task_is_retried(huey: Huey, queue: MemoryQueue) -> None:
    huey.periodic_task("0 13 * * *", name="hourly", retries=1, retry_delay=30)(lambda: 1 / 0)

    assert times(queue, 7200) == [("hourly", 3600), ("hourly", 3630)]


# -- next_runs


def test_the_next_runs_of_a_periodic_task(huey: Huey, queue: MemoryQueue) -> None:
    nightly = huey.periodic_task("30 3 * * mon,thu", name="nightly")(lambda: None)

    assert nightly.next_runs() == [datetime(2026, 1, 8, 3, 30, tzinfo=UTC), datetime(2026, 1, 12, 3, 30, tzinfo=UTC)]
    assert nightly.next_runs(timedelta(days=3)) == [datetime(2026, 1, 8, 3, 30, tzinfo=UTC)]
    assert nightly.next_runs(4, start=datetime(2026, 1, 8, 3, 30)) == [datetime(2026, 1, 12, 3, 30, tzinfo=UTC)]
    assert nightly.next_runs(0.5) == []


def test_next_runs_are_in_the_zone_of_the_crontab(huey: Huey) -> None:
    daily = huey.periodic_task(crontab(hour="2", minute="30", tz="Europe/Paris"))(lambda: None)

    found = daily.next_runs(2, datetime(2026, 3, 28, 12, tzinfo=UTC))

    assert [f"{run:%d %H:%M %z}" for run in found] == ["29 03:00 +0200", "30 02:30 +0200"]


def test_next_runs_of_a_function(huey: Huey) -> None:
    halves = huey.periodic_task(lambda at: at.minute in (0, 30))(lambda: None)

    found = halves.next_runs(timedelta(hours=1), datetime(2026, 1, 5, 12, 0))

    assert [f"{run:%H:%M}" for run in found] == ["12:30", "13:00"]


def test_next_runs_take_a_duration_only(huey: Huey) -> None:
    with pytest.raises(ValueError, match=r"days=inf: give a number from 0 to"):
        huey.periodic_task("@daily")(lambda: None).next_runs(float("inf"))
