"""Promises S70 to S81: crontab of the 0.4.9 documentation."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from huey.cron import crontab

NEW_YEAR = datetime(2015, 1, 1, 3, 0)
SUNDAY = datetime(2011, 1, 2)


def hours(schedule: Any) -> Any:
    return [hour for hour in range(24) if schedule(NEW_YEAR.replace(hour=hour))]


def weekdays(schedule: Any) -> Any:
    """Days that match, 0 = Sunday."""
    return [day for day in range(7) if schedule(SUNDAY + timedelta(days=day))]


def test_S70_keywords() -> None:
    nightly = crontab(minute="0", hour="3")

    assert nightly(NEW_YEAR) is True
    assert nightly(NEW_YEAR.replace(minute=1)) is False
    assert nightly(NEW_YEAR.replace(hour=4)) is False


def test_S71_positions_are_month_day_day_of_week_hour_minute() -> None:
    with pytest.warns(DeprecationWarning, match=r"crontab\(month='1', day='\*', day_of_week='\*', hour=4, minute='0'\)") as told:
        schedule = crontab("1", "*", "*", 4, "0")

    assert (schedule.months, schedule.hours, schedule.minutes) == ({1}, {4}, {0})
    assert told[0].filename == __file__


def test_S72_a_star_is_every_value() -> None:
    assert all(crontab()(NEW_YEAR + timedelta(minutes=97 * count)) for count in range(6000))


def test_S73_star_slash_n_counts_from_the_start_of_the_range() -> None:
    schedule = crontab(month="*/5", day="*/10", hour="*/4", minute="*/15")

    assert schedule.months == {1, 6, 11}
    assert schedule.days == {1, 11, 21, 31}
    assert schedule.hours == {0, 4, 8, 12, 16, 20}
    assert schedule.minutes == {0, 15, 30, 45}


def test_S74_a_range_includes_both_ends() -> None:
    assert crontab(minute="10-15").minutes == {10, 11, 12, 13, 14, 15}
    assert crontab(minute="10-10").minutes == {10}


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("hour", "22-2", {22, 23, 0, 1, 2}),
        ("hour", "22-2/2", {22, 0, 2}),
        ("minute", "50-10/7", {50, 57, 4}),
        ("day", "28-3", {28, 29, 30, 31, 1, 2, 3}),
        ("month", "11-2", {11, 12, 1, 2}),
        ("day_of_week", "5-1", {5, 6, 0, 1}),
        ("day_of_week", "7-2", {0, 1, 2}),
        ("day_of_week", "6-0/2", {6}),
    ],
)
def test_S74_a_range_whose_end_is_before_its_start_goes_round(field: Any, text: Any, expected: Any) -> None:
    schedule = crontab(**{field: text}, strict=True)

    assert (schedule.weekdays if field == "day_of_week" else getattr(schedule, f"{field}s")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8-9,*/6,1,4", [0, 1, 4, 6, 8, 9, 12, 18]),
        ("1, 3 ,5", [1, 3, 5]),
        ("5-9/2,9,9", [5, 7, 9]),
        ("*/24", [0]),
        ("23,*", list(range(24))),
    ],
)
def test_S75_lists_combine_all_forms(text: Any, expected: Any) -> None:
    assert hours(crontab(hour=text, minute=0)) == expected


@pytest.mark.parametrize("given", [0, "0", "00"])
def test_S76_a_number_is_text_or_int(given: Any) -> None:
    assert hours(crontab(hour=given)) == [0]


def test_S77_all_five_parts_must_match() -> None:
    schedule = crontab(month="1,5", day_of_week="0,6", day="1-7", hour="3", minute="0")

    assert schedule(datetime(2015, 5, 2, 3, 0))
    assert not schedule(datetime(2015, 6, 6, 3, 0))
    assert not schedule(datetime(2015, 5, 9, 3, 0))
    assert not schedule(datetime(2015, 5, 1, 3, 0))
    assert not schedule(datetime(2015, 5, 2, 4, 0))
    assert not schedule(datetime(2015, 5, 2, 3, 1))


@pytest.mark.parametrize(
    ("text", "expected"), [("0", [0]), (6, [6]), ("7", [0]), (7, [0]), ("5-7", [0, 5, 6]), ("0-7", list(range(7))), ("1-7/2", [0, 1, 3, 5])]
)
def test_S78_days_of_the_week_begin_with_sunday(text: Any, expected: Any) -> None:
    assert weekdays(crontab(day_of_week=text)) == expected


def test_S79_star_slash_n_for_days_of_the_week() -> None:
    assert weekdays(crontab(day_of_week="*/2")) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("field", "given", "fact"),
    [
        ("minute", "61", "61 is out of range; minute goes from 0 to 59"),
        ("minute", "0-61", "61 is out of range; minute goes from 0 to 59"),
        ("minute", "70-65", "70 is out of range"),
        ("minute", "1,2,99", "99 is out of range"),
        ("minute", -1, "-1 is out of range"),
        ("minute", "-1", "-1 is out of range"),
        ("hour", 24, "24 is out of range; hour goes from 0 to 23"),
        ("day", 0, "0 is out of range; day goes from 1 to 31"),
        ("day", "32", "32 is out of range"),
        ("month", "0-3", "0 is out of range; month goes from 1 to 12"),
        ("month", "13", "13 is out of range"),
        ("day_of_week", "8", "8 is out of range; day_of_week goes from 0 to 7"),
        ("hour", "*/0", "0 is out of range; a step is 1 or more"),
        ("hour", "2-9/0", "0 is out of range; a step is 1 or more"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_S80_out_of_range_is_refused(field: Any, given: Any, fact: Any, strict: Any) -> None:
    with pytest.raises(ValueError, match="out of range") as caught:
        crontab(**{field: given}, strict=strict)

    assert str(caught.value).startswith(f"crontab({field}={given!r}): {fact}")


def test_S80_text_that_cannot_be_read_warns_and_is_left_out() -> None:
    with pytest.warns(UserWarning, match=r"crontab\(hour='5,soon'\): cannot read 'soon', left out"):
        schedule = crontab(hour="5,soon")

    assert hours(schedule) == [5]


def test_S81_a_function_of_one_datetime_that_returns_a_bool() -> None:
    schedule = crontab(hour="3")

    assert callable(schedule)
    assert crontab()(datetime.now()) is True
    assert schedule(NEW_YEAR.replace(second=59, microsecond=999_999)) is True
    assert schedule(NEW_YEAR.replace(hour=4)) is False
