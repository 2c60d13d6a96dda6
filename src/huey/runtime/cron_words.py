"""Describes a schedule in words: ``every minute of 4 May``, ``at 03:00 every day``."""

from __future__ import annotations

from collections.abc import Callable, Collection

from huey.runtime.cron_fields import MONTH_NAMES, WEEKDAY_NAMES

MOST_TIMES = 4
"""Times of a day that are listed one by one."""


def spoken(
    months: Collection[int], days: Collection[int], weekdays: Collection[int], hours: Collection[int], minutes: Collection[int]
) -> str:
    """Return the minutes that match, in words."""
    date = _date(months, days, weekdays)
    if len(minutes) == 60:
        of_hours = "" if len(hours) == 24 else f" of {_few('hour', hours)}"
        return f"every minute{of_hours}{f' {date[1]} {date[0]}' if date[0] else ''}"
    if len(hours) * len(minutes) <= MOST_TIMES:
        times = [f"{hour:02}:{minute:02}" for hour in sorted(hours) for minute in sorted(minutes)]
        return f"at {_and(times)} {f'{date[2]} {date[0]}' if date[0] else 'every day'}"
    if len(hours) == 24 and len(minutes) > 1 and set(minutes) == set(range(0, 60, 60 // len(minutes))):
        return f"every {60 // len(minutes)} minutes{f' {date[1]} {date[0]}' if date[0] else ''}"
    of_hours = "every hour" if len(hours) == 24 else _few("hour", hours)
    return f"at {_few('minute', minutes)} of {of_hours}{f' {date[2]} {date[0]}' if date[0] else ''}"


def _date(months: Collection[int], days: Collection[int], weekdays: Collection[int]) -> tuple[str, str, str]:
    """Return the days that match, the preposition for them after "every minute", and the one after a time."""
    in_months = "" if len(months) == 12 else _runs(months, lambda month: MONTH_NAMES[month - 1])
    on = "" if len(weekdays) == 7 else _runs([day or 7 for day in weekdays], lambda day: WEEKDAY_NAMES[day % 7])
    if len(days) == 31:
        if not on:
            return in_months, "of", "every day of"
        return f"{on} in {in_months}" if in_months else on, "on", "on"
    dates = f"{_runs(days, str)} {in_months}" if in_months else f"{_few('day', days)} of every month"
    return (f"{dates} if it is {on}" if on else dates), "of" if in_months else "on", "on"


def _few(what: str, values: Collection[int]) -> str:
    return f"{what}{'s' if len(values) > 1 else ''} {_runs(values, str)}"


def _runs(values: Collection[int], name: Callable[[int], str]) -> str:
    """Return the values in order, three and more in a row as a range."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts: list[str] = []
    for run in runs:
        parts.extend([f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else map(name, run))
    return _and(parts)


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
