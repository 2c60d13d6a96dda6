"""Crontab beyond the promises of 0.4.9: what it refuses, zones, and when it is due while clocks change (C7, T12)."""

from __future__ import annotations

import sys
import time
import warnings
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import huey
from huey.cron import MINUTE, Crontab, crontab, latest_due, next_due
from huey.exceptions import ConfigurationError
from huey.runtime.clock import SECOND, Micros

NOON = datetime(2026, 5, 4, 12, 0)


def at(text: str) -> Micros:
    """The instant of an ISO time with offset."""
    return round(datetime.fromisoformat(text).timestamp()) * SECOND


def local(instant: Micros, zone: tzinfo) -> str:
    return datetime.fromtimestamp(instant // SECOND, zone).isoformat(timespec="minutes")


def all_due(validate: Callable[[datetime], bool], first: Micros, end: Micros, zone: tzinfo | None = UTC) -> list[Micros]:
    """Every due minute with first <= m < end, oldest first."""
    due: list[Micros] = []
    found: Micros | None = end
    while (found := latest_due(validate, first - 1, found - 1, zone)) is not None:  # type: ignore[operator]
        due.insert(0, found)
    return due


def around(day: str, zone: tzinfo) -> tuple[Micros, Micros]:
    """The day before, this day and the day after."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    return tuple(round((midnight + timedelta(days=days)).timestamp()) * SECOND for days in (-1, 2))  # type: ignore[return-value]


@given(data=st.data())
@settings(derandomize=True, max_examples=100, deadline=None)
def test_a_list_is_the_union_of_its_parts(data: Any) -> None:
    field, low, high = data.draw(st.sampled_from([("minutes", 0, 59), ("hours", 0, 23), ("days", 1, 31), ("months", 1, 12)]))
    number = st.integers(low, high)
    expected: set[int] = set()
    parts = []
    for first, last, step in data.draw(st.lists(st.tuples(number, number, st.integers(1, 9)), min_size=1, max_size=4)):
        first, last = min(first, last), max(first, last)
        forms = {
            f"{first}": {first},
            f"{first}-{last}": {value for value in range(60) if first <= value <= last},
            f"{first}-{last}/{step}": {value for value in range(60) if first <= value <= last and (value - first) % step == 0},
            f"*/{step}": {value for value in range(60) if low <= value <= high and (value - low) % step == 0},
        }
        parts.append(data.draw(st.sampled_from(sorted(forms))))
        expected |= forms[parts[-1]]

    schedule = crontab(**{field.rstrip("s"): ",".join(parts)}, strict=True)

    assert getattr(schedule, field) == expected


@given(text=st.one_of(st.text(max_size=20), st.text("0123456789*/-, x", max_size=20)))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_with_a_value_error(text: Any) -> None:
    for given_as in ("minute", "day_of_week", "tz"):
        with warnings.catch_warnings(), suppress(ValueError):
            warnings.simplefilter("ignore")
            assert crontab(**{given_as: text})(NOON) in (True, False)


@pytest.mark.parametrize("text", ["", " ", "x", "mon", "1.5", "1_0", "+5", "٣", "5--3", "*-5", "*/", "/5", "5/10", "**", "1 2", "@hourly"])
def test_a_field_of_which_nothing_can_be_read_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="cannot read") as caught:
        crontab(minute=text)

    assert f"crontab(minute={text!r})" in str(caught.value)


def test_unreadable_text_beside_readable_warns_and_is_left_out() -> None:
    with pytest.warns(UserWarning, match=r"crontab\(hour='5,soon,'\): cannot read 'soon', '', left out") as caught:
        schedule = crontab(hour="5,soon,")

    assert schedule.hours == {5}
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="cannot read 'soon'"):
        crontab(hour="5,soon", strict=True)


def test_a_step_longer_than_the_range_warns() -> None:
    with pytest.warns(UserWarning, match=r"minute='\*/90'.*only 0 matches"):
        schedule = crontab(minute="*/90")

    assert schedule.minutes == {0}


@pytest.mark.parametrize("given", [None, True, 1.5, [1, 2], {1, 2}, b"1"])
def test_a_field_is_a_number_or_text(given: Any) -> None:
    with pytest.raises(TypeError, match="minute="):
        crontab(minute=given)


@pytest.mark.parametrize("line", ["5 4 2 1 3", "  5\t4  2 1 3\n"])
def test_one_text_of_five_fields_is_a_cron_line(line: Any) -> None:
    assert repr(crontab(line, strict=True)) == "crontab(minute='5', hour='4', day='2', month='1', day_of_week='3')"


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("0 3 * *", "five"),
        ("0 3 * * * *", "five"),
        ("1, 2", "five"),
        ("0 3 * * moo", "='moo'"),
        ("@dayly", "did you mean '@daily'"),
        ("@reboot", "on_startup"),
    ],
)
def test_a_wrong_line_is_refused(line: Any, fact: Any) -> None:
    with pytest.raises(ValueError, match=fact):
        crontab(line)


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("0 6 * * mon-fri", "0 6 * * 1-5"),
        ("0 6 * * MON,Wed,friday", "0 6 * * 1,3,5"),
        ("0 6 * * fri-sun", "0 6 * * 5-7"),
        ("0 6 * * sat-mon/2", "0 6 * * 6,1"),
        ("0 0 1 jan *", "0 0 1 1 *"),
        ("0 0 1 nov-february/2 *", "0 0 1 11,1 *"),
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        (" @Midnight ", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_lines_are_read_as_people_write_them(line: Any, same: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = crontab(line, strict=True), crontab(same)

    fields = ("months", "days", "weekdays", "hours", "minutes")
    assert [getattr(one, field) for field in fields] == [getattr(other, field) for field in fields]


@pytest.mark.parametrize(("field", "text"), [("hour", "mon"), ("minute", "jan"), ("day", "sun"), ("month", "mon"), ("day_of_week", "jan")])
def test_a_name_of_another_field_cannot_be_read(field: Any, text: Any) -> None:
    with pytest.raises(ValueError, match=f"cannot read '{text}'"):
        crontab(**{field: text})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0 * * * *", "at minute 0 of every hour"),
        ("0,30 * * * *", "every 30 minutes"),
        ("0,40 * * * *", "at minutes 0 and 40 of every hour"),
        ("* 3 * * *", "every minute of hour 3"),
        ("0 3 * * *", "at 03:00 every day"),
        ("0 22-2/2 * * *", "at 00:00, 02:00 and 22:00 every day"),
        ("0 9-17 * * mon-fri", "at minute 0 of hours 9 to 17 on Monday to Friday"),
        ("* * 4 5 *", "every minute of 4 May"),
        ("* * 4 * *", "every minute on day 4 of every month"),
        ("30 4 1,15 * fri", "at 04:30 on days 1 and 15 of every month if it is Friday"),
        ("0 0 * 11-2 sun", "at 00:00 on Sunday in January, February, November and December"),
        ("* * * may *", "every minute of May"),
    ],
)
def test_a_schedule_says_in_words_when_it_is_due(line: Any, words: Any) -> None:
    assert crontab(line).in_words == words


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fields_by_position_say_how_they_are_read() -> None:
    assert crontab("5", "4").doubt == (
        "crontab('5', '4') has positional fields: here they mean every minute of 4 May, in huey 3.x they mean at 04:05 every day; "
        "write crontab(day='4', month='5') or crontab(minute='5', hour='4')"
    )
    assert crontab("12", "30").doubt.endswith("here they mean every minute of 30 December; write crontab(day='30', month='12')")  # type: ignore[union-attr]
    assert crontab("0 3 * * *").doubt is None
    assert crontab("@daily").doubt is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_too_many_or_twice_given_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="at most five"):
        crontab(1, 2, 3, 4, 5, 6)
    with pytest.raises(TypeError, match="month given both"):
        crontab("1", month="2")
    with pytest.raises(TypeError, match="hour given both"):
        crontab("0 3 * * *", hour="4")


# The callable, and its zone


def test_huey_hands_on_the_callable_and_not_its_module() -> None:
    assert huey.crontab is crontab


def test_hourly_and_daily() -> None:
    assert [minute for minute in range(60) if crontab.hourly()(NOON.replace(minute=minute))] == [0]
    assert [hour for hour in range(24) if crontab.daily()(NOON.replace(hour=hour))] == [0]
    assert str(crontab.daily(tz="Europe/Berlin").tz) == "Europe/Berlin"


def test_it_shows_how_it_was_made() -> None:
    assert repr(crontab()) == "crontab()"
    assert repr(crontab(hour=3, minute="0", tz="Europe/Berlin")) == "crontab(minute='0', hour=3, tz='Europe/Berlin')"


def test_an_aware_datetime_is_moved_to_the_zone_of_the_crontab() -> None:
    schedule = crontab(hour="14", minute="0", tz="Europe/Berlin")

    assert schedule(NOON.replace(tzinfo=UTC))
    assert schedule(NOON.replace(hour=14))
    assert not schedule(NOON)
    assert crontab(hour="12")(NOON.replace(tzinfo=ZoneInfo("Asia/Kathmandu")))


@pytest.mark.parametrize("tz", ["Europe/Berlin", ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=2)), UTC])
def test_a_zone_is_a_name_or_a_zone_of_the_standard_library(tz: Any) -> None:
    assert crontab(tz=tz).tz is not None


class OtherZone(tzinfo):
    """A zone of some other library, which may know nothing of fold."""


@pytest.mark.parametrize("tz", ["Europe/Atlantis", "", "Europe", "../etc/passwd", "a\0b", OtherZone(), 3])  # type: ignore[abstract]
def test_an_unknown_zone_is_refused_by_name(tz: Any) -> None:
    with pytest.raises(ValueError, match="Europe/Paris") as caught:
        crontab(tz=tz)

    assert repr(tz) in str(caught.value)


@pytest.fixture
def no_zone_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = zoneinfo.TZPATH
    for name in ["tzdata", *sys.modules]:
        if name.partition(".")[0] == "tzdata":
            monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=before)


def test_a_machine_without_zone_data_is_told_what_to_install(no_zone_data: Any) -> None:
    with pytest.raises(ConfigurationError, match="pip install tzdata"):
        crontab(tz="Europe/Berlin")


# latest_due


def test_the_newest_minute_of_a_half_open_span() -> None:
    noon = at("2026-05-04T12:00Z")

    assert latest_due(crontab(minute="*/5"), noon, at("2026-05-04T12:14:59Z")) == at("2026-05-04T12:10Z")
    assert latest_due(crontab(), noon - 1, noon) == noon
    assert latest_due(crontab(), noon - MINUTE, noon + MINUTE - 1) == noon
    assert latest_due(crontab(), noon, noon + MINUTE - 1) is None
    assert latest_due(crontab(), noon, noon - MINUTE) is None


def test_any_callable_is_asked_newest_first_until_one_is_due() -> None:
    asked: list[datetime] = []

    def validate(when: datetime) -> bool:
        asked.append(when)
        return len(asked) == 3

    found = latest_due(validate, at("2026-05-04T12:00Z"), at("2026-05-04T12:05:30Z"))

    assert found == at("2026-05-04T12:03Z")
    assert asked == [datetime(2026, 5, 4, 12, minute) for minute in (5, 4, 3)]


def test_an_error_of_the_callable_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        latest_due(lambda when: 1 / when.hour, 0, MINUTE)  # type: ignore[arg-type, return-value]


def test_the_zone_of_the_crontab_wins() -> None:
    noon = at("2026-05-04T12:00Z")

    for zone in (UTC, ZoneInfo("Asia/Kathmandu")):
        assert latest_due(crontab("0 14 * * *", tz="Europe/Berlin"), noon - 1, noon, zone) == noon
    assert latest_due(crontab("45 17 * * *"), noon - 1, noon, ZoneInfo("Asia/Kathmandu")) == noon
    assert latest_due(crontab("0 12 * * *"), noon - 1, noon) == noon


def test_a_callable_gets_the_naive_wall_time_of_each_instant() -> None:
    asked: list[datetime] = []
    latest_due(lambda when: bool(asked.append(when)), at("2026-10-25T00:59Z"), at("2026-10-25T01:00Z"), ZoneInfo("Europe/Berlin"))
    latest_due(lambda when: bool(asked.append(when)), at("2026-10-24T23:59Z"), at("2026-10-25T00:00Z"), ZoneInfo("Europe/Berlin"))

    assert asked == [datetime(2026, 10, 25, 2, 0)] * 2
    assert [(when.fold, when.tzinfo) for when in asked] == [(1, None), (0, None)]


@pytest.fixture
def machine_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Moves this machine to another zone."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


# When clocks change: zone, day, a wall time skipped or repeated that day, when a daily job of that time runs

GAPS = [
    ("Europe/Berlin", "2026-03-29", "02:30", "03:00+02:00"),
    ("Europe/Berlin", "2026-03-29", "02:00", "03:00+02:00"),
    ("Europe/Berlin", "2026-03-29", "03:00", "03:00+02:00"),
    ("America/New_York", "2026-03-08", "02:59", "03:00-04:00"),
    ("Australia/Lord_Howe", "2026-10-04", "02:15", "02:30+11:00"),
    ("Africa/Casablanca", "2026-03-22", "02:30", "03:00+01:00"),
    ("Pacific/Chatham", "2026-09-27", "03:00", "03:45+13:45"),
    ("Australia/Sydney", "2026-10-04", "02:30", "03:00+11:00"),
    ("America/Santiago", "2026-09-06", "00:00", "01:00-03:00"),
    ("Asia/Kathmandu", "1986-01-01", "00:10", "00:15+05:45"),
    ("Antarctica/Troll", "2026-03-29", "01:30", "03:00+02:00"),
]
FOLDS = [
    ("Europe/Berlin", "2026-10-25", "02:30", "02:30+02:00"),
    ("Europe/Berlin", "2026-10-25", "02:00", "02:00+02:00"),
    ("Europe/Berlin", "2026-10-25", "03:00", "03:00+01:00"),
    ("America/New_York", "2026-11-01", "01:30", "01:30-04:00"),
    ("Australia/Lord_Howe", "2026-04-05", "01:45", "01:45+11:00"),
    ("Africa/Casablanca", "2026-02-15", "02:30", "02:30+01:00"),
    ("Pacific/Chatham", "2026-04-05", "03:00", "03:00+13:45"),
    ("Australia/Sydney", "2026-04-05", "02:30", "02:30+11:00"),
    ("America/Santiago", "2026-04-04", "23:30", "23:30-03:00"),
    ("Antarctica/Troll", "2026-10-25", "01:30", "01:30+02:00"),
]
CHANGES = sorted({(zone, day) for zone, day, _, _ in GAPS + FOLDS})


@pytest.mark.parametrize(("name", "day", "time_of_day", "expected"), GAPS + FOLDS)
def test_a_daily_job_runs_once_a_day_through_a_change(name: Any, day: Any, time_of_day: Any, expected: Any, machine_in: Any) -> None:
    zone = ZoneInfo(name)
    schedule = dict(zip(("hour", "minute"), time_of_day.split(":"), strict=True))
    machine_in(name)

    due = all_due(crontab(**schedule, tz=name), *around(day, zone))

    assert [local(instant, zone) for instant in due if local(instant, zone).startswith(day)] == [f"{day}T{expected}"]
    assert len(due) == 3
    assert all_due(crontab(**schedule), *around(day, zone), None) == due


@pytest.mark.parametrize(("name", "day"), CHANGES)
def test_every_five_minutes_follows_elapsed_time(name: Any, day: Any, machine_in: Any) -> None:
    span = around(day, ZoneInfo(name))
    machine_in(name)

    assert all_due(crontab(minute="*/5"), *span, None) == list(range(*span, 5 * MINUTE))


@pytest.mark.parametrize(("name", "day"), [row for row in CHANGES if row[0] not in ("Australia/Lord_Howe", "Asia/Kathmandu")])
def test_an_hourly_job_follows_elapsed_time(name: Any, day: Any) -> None:
    first, end = around(day, ZoneInfo(name))

    due = all_due(crontab(minute="15", tz=name), first, end)

    assert due == list(range(first + 15 * MINUTE, end, 60 * MINUTE))


@pytest.mark.parametrize(
    ("day", "minute", "expected"),
    [
        ("2026-10-04", "15", ["00:15+10:30", "01:15+10:30", "02:30+11:00", "03:15+11:00"]),
        ("2026-10-04", "45", ["00:45+10:30", "01:45+10:30", "02:45+11:00", "03:45+11:00"]),
        ("2026-04-05", "15", ["00:15+11:00", "01:15+11:00", "02:15+10:30", "03:15+10:30"]),
        ("2026-04-05", "45", ["00:45+11:00", "01:45+11:00", "02:45+10:30", "03:45+10:30"]),
    ],
)
def test_half_an_hour_of_change_leaves_one_run_per_wall_hour(day: Any, minute: Any, expected: Any) -> None:
    zone = ZoneInfo("Australia/Lord_Howe")

    due = [local(instant, zone) for instant in all_due(crontab(minute=minute, tz=zone), *around(day, zone))]

    assert [text for text in due if text.startswith(day)][:4] == [f"{day}T{text}" for text in expected]


def test_jobs_of_one_gap_run_together_once() -> None:
    zone = ZoneInfo("Europe/Berlin")

    due = all_due(crontab("*/10 2-3 29 3 *", tz=zone), *around("2026-03-29", zone))

    assert [local(instant, zone) for instant in due] == [f"2026-03-29T03:{minute}0+02:00" for minute in range(6)]


def test_a_day_that_an_island_skipped() -> None:
    zone = ZoneInfo("Pacific/Apia")
    span = at("2011-12-29T00:00-10:00"), at("2011-12-31T12:00+14:00")

    daily = all_due(crontab("0 3 * * *", tz=zone), *span)
    monthly = all_due(crontab("0 3 30 * *", tz=zone), *span)
    hourly = all_due(crontab("15 * * * *", tz=zone), *span)

    assert [local(instant, zone) for instant in daily] == ["2011-12-29T03:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T03:00+14:00"]
    assert [local(instant, zone) for instant in monthly] == ["2011-12-31T00:00+14:00"]
    assert hourly == list(range(span[0] + 15 * MINUTE, span[1], 60 * MINUTE))


@cache
def showings(name: str, day: str) -> dict[datetime, list[Micros]]:
    """Each wall time of three days, and the instants that showed it."""
    shown: dict[datetime, list[Micros]] = {}
    first, end = around(day, ZoneInfo(name))
    for instant in range(first, end, MINUTE):
        utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
        shown.setdefault(utc.astimezone(ZoneInfo(name)).replace(tzinfo=None, fold=0), []).append(instant)
    return shown


def expected_due(shown: dict[datetime, list[Micros]], wanted: Callable[[datetime], bool], is_elapsed: bool) -> list[Micros]:
    """The rule of C7, walking along the wall instead of along time."""
    due: set[Micros] = set()
    wall = min(shown)
    last = max(shown)
    while wall <= last:
        if wanted(wall) and wall in shown:
            due.update(shown[wall] if is_elapsed else shown[wall][:1])
        if wanted(wall) and wall not in shown and not is_elapsed:
            due.add(shown[min(later for later in shown if later > wall)][0])
        wall += timedelta(minutes=1)
    return sorted(due)


@given(
    change=st.sampled_from(CHANGES),
    minutes=st.one_of(st.sampled_from([{0, 30}, {15, 45}, set(range(7, 60, 15))]), st.sets(st.integers(0, 59), min_size=1, max_size=8)),
    hours=st.one_of(st.just(set(range(24))), st.sets(st.integers(0, 4) | st.just(23), min_size=1)),
    weekdays=st.one_of(st.just(set(range(7))), st.sets(st.integers(0, 6), min_size=1)),
)
@settings(derandomize=True, max_examples=150, deadline=None)
def test_any_schedule_through_any_change(change: Any, minutes: Any, hours: Any, weekdays: Any) -> None:
    name, day = change
    shift = {"Australia/Lord_Howe": 30, "Asia/Kathmandu": 15}.get(name, 60)
    is_elapsed = len(hours) == 24 and all((minute + shift) % 60 in minutes for minute in minutes)
    fields = {"minute": minutes, "hour": hours, "day_of_week": weekdays}
    schedule = crontab(**{field: ",".join(map(str, values)) for field, values in fields.items()}, tz=name)  # type: ignore[arg-type]

    def wanted(wall: datetime) -> bool:
        return wall.minute in minutes and wall.hour in hours and (wall.weekday() + 1) % 7 in weekdays

    expected = expected_due(showings(*change), wanted, is_elapsed)

    assert all_due(schedule, *around(day, ZoneInfo(name))) == expected


# The calendar


def days_due(schedule: Crontab, first: str, end: str) -> list[str]:
    days: list[str] = []
    found = next_due(schedule, at(first) - 1)
    while found is not None and found < at(end):
        days.append(local(found, UTC)[:10])
        found = next_due(schedule, found)
    return days


def test_the_31st_comes_in_seven_months() -> None:
    due = days_due(crontab("0 3 31 * *"), "2026-01-01T00:00Z", "2027-01-01T00:00Z")

    assert due == [f"2026-{month:02}-31" for month in (1, 3, 5, 7, 8, 10, 12)]


def test_leap_day_comes_every_four_years() -> None:
    assert days_due(crontab("0 3 29 2 *"), "2026-01-01T00:00Z", "2034-01-01T00:00Z") == ["2028-02-29", "2032-02-29"]
    assert next_due(crontab("0 3 31 2 *"), at("2026-01-01T00:00Z")) is None


@pytest.mark.parametrize("name", ["Europe/Berlin", "Asia/Kathmandu"])
def test_a_year_has_each_daily_run_once(name: Any) -> None:
    zone = ZoneInfo(name)
    first, end = (round(datetime(year, 1, 1, tzinfo=zone).timestamp()) * SECOND for year in (2026, 2027))

    due = all_due(crontab("30 2 * * *", tz=zone), first, end)

    assert [local(instant, zone)[:10] for instant in due] == [str(date(2026, 1, 1) + timedelta(days=count)) for count in range(365)]


@pytest.mark.parametrize(("name", "day"), CHANGES)
@pytest.mark.parametrize("line", ["30 2 * * *", "0 0 * * *", "15 * * * *", "59 23 * * 6"])
def test_next_due_and_latest_due_agree(name: Any, day: Any, line: Any) -> None:
    first, end = around(day, ZoneInfo(name))
    schedule = crontab(line, tz=name)

    due = all_due(schedule, first, end)

    assert due == [next_due(schedule, earlier) for earlier in [first - 1, *due][: len(due)]]


def test_next_due_in_the_hour_that_steps_back_over_midnight() -> None:
    # St. John's fell back at 00:01, to 23:01 of the day before.
    assert next_due(crontab("*/5 * * * 6", tz="America/St_Johns"), at("2010-11-06T23:59-02:30")) == at("2010-11-06T23:05-03:30")
