"""Parser of crontab fields: returns the values that they name, and describes them in words: ``at 03:00 every day``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from itertools import chain

from huey.runtime.suggestions import did_you_mean

Part = str | int
"""One field of a crontab, as given."""

OLD_ORDER = ("month", "day", "day_of_week", "hour", "minute")
LINE_ORDER = ("minute", "hour", "day", "month", "day_of_week")
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTH_NAMES = tuple(name.capitalize() for name in _MONTHS)
WEEKDAY_NAMES = tuple(name.capitalize() for name in _WEEKDAYS)


def _numbered(names: tuple[str, ...], start: int) -> dict[str, int]:
    return {text: number for number, name in enumerate(names, start) for text in (name, name[:3])}


_NAMES = {"month": _numbered(_MONTHS, 1), "day_of_week": _numbered(_WEEKDAYS, 0)}
_ALLOWED = {"month": (1, 12), "day": (1, 31), "day_of_week": (0, 7), "hour": (0, 23), "minute": (0, 59)}
_EVERY = _ALLOWED | {"day_of_week": (0, 6)}
_VALUE = r"\d{1,9}|[a-z]+"
_PART = re.compile(rf"(-?\d{{1,9}}|[a-z]+)|(?:\*|({_VALUE})-({_VALUE}))(?:/(\d{{1,9}}))?", re.ASCII)
_FORMS = "use numbers{names}, '*', '*/n', 'm-n', 'm-n/k' or a comma list of these"
_EXAMPLES = {"month": ", names such as 'jan'", "day_of_week": ", names such as 'mon'"}


def of_line(line: str) -> dict[str, Part]:
    """Return the fields of a cron line: minute, hour, day, month, day_of_week; or of a word such as ``@daily``. Raise ValueError if it is
    neither."""
    words = SHORTHANDS.get(line.strip().lower(), line).split()
    if len(words) == 1 and words[0].startswith("@"):
        if words[0].lower() == "@reboot":
            raise ValueError(f"crontab({line!r}): for functions to call when a consumer starts, use @huey.on_startup()")
        hint = did_you_mean(words[0].lower(), SHORTHANDS) or f"; there are {', '.join(SHORTHANDS)}"
        raise ValueError(f"crontab({line!r}): no such word{hint}")
    if len(words) != len(LINE_ORDER):
        raise ValueError(f"crontab({line!r}): {len(words)} fields; a cron line has five: minute hour day month day_of_week")
    return dict(zip(LINE_ORDER, words, strict=True))


def is_line(text: object) -> bool:
    """Return True if *text* is a whole cron line or a word that stands for one, rather than a field."""
    return isinstance(text, str) and (len(text.split()) > 1 or text.strip().startswith("@"))


def values_of(field: str, given: Part, *, strict: bool) -> tuple[frozenset[int], list[str]]:
    """Return the values that a field names, and warnings about it. Raise ValueError if a value is out of range or nothing can be read, with
    *strict* if any part cannot be; TypeError for neither a number nor text."""
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise TypeError(f"crontab({field}={given!r}): give a number or text, such as 5 or '5,10-15'")
    parts = {part.strip(): _matched(field, part.strip()) for part in str(given).split(",")}
    unread = [part for part, found in parts.items() if not found]
    doubts = [f"cannot read {', '.join(map(repr, unread))}, left out"] if unread else []
    if unread and (strict or len(unread) == len(parts)):
        forms = _FORMS.format(names=_EXAMPLES.get(field, ""))
        raise ValueError(f"crontab({field}={given!r}): cannot read {', '.join(map(repr, unread))}; {forms}")
    values: set[int] = set()
    for part, found in parts.items():
        if found:
            named = _values(field, given, found)
            values.update(value % 7 if field == "day_of_week" else value for value in named)
            doubts.extend(_doubts(field, part, found, named))
    return frozenset(values), doubts


def _matched(field: str, part: str) -> Mapping[str, str | None] | None:
    """Parse one part of a list, names as numbers; None if it cannot be read."""
    found = _PART.fullmatch(part.lower())
    if found is None:
        return None
    names = _NAMES.get(field, {})
    texts = [text if text is None or not text.isalpha() else names.get(text, "") for text in found.groups()]
    if "" in texts:
        return None
    return dict(zip(("number", "first", "last", "step"), [None if text is None else str(text) for text in texts], strict=True))


def _values(field: str, given: Part, found: Mapping[str, str | None]) -> list[int]:
    """Return the values that one part of a list names, in its order; a range that ends before it starts wraps around."""
    (low, high), (bottom, top) = _ALLOWED[field], _EVERY[field]
    first, last, step = found["number"] or found["first"], found["number"] or found["last"], found["step"]
    start, end = (bottom, top) if first is None or last is None else (int(first), int(last))
    for value in (start, end):
        if not low <= value <= high:
            raise ValueError(f"crontab({field}={given!r}): {value} is out of range; {field} goes from {low} to {high}")
    if step and not int(step):
        raise ValueError(f"crontab({field}={given!r}): {step} is out of range; a step is 1 or more")
    if start > end and field == "day_of_week":
        # Sunday is 7 as the end of a range, and 0 as its start.
        start %= 7
    named = range(start, end + 1) if start <= end else chain(range(start, top + 1), range(bottom, end + 1))
    return list(named)[:: int(step or 1)]


def _doubts(field: str, part: str, found: Mapping[str, str | None], named: list[int]) -> list[str]:
    """Return warnings about a part that can be read."""
    low, high = _EVERY[field]
    if found["step"] and int(found["step"]) > high - low + 1:
        return [f"the step of {part!r} is longer than the whole range, only {named[0]} matches"]
    return []


MOST_TIMES = 4
"""Most times of a day that are listed individually."""


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
    """Return the days that match, and the prepositions for them after "every minute" and after a time."""
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
    """Return the values in order, with three or more consecutive ones as a range."""
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
