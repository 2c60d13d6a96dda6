"""Crontab: the minutes at which a periodic task is due.

``crontab(minute="0", hour="3")`` makes a schedule: a callable that takes a datetime and says whether that minute matches. The scheduler
asks ``latest_due`` for the newest due minute of a short span; any callable of a datetime will do there, a crontab is only one of them.

When the clocks change (C7), for a crontab in local time or with ``tz=``:

- wall times that are skipped run, together and once, at the first instant after the gap;
- wall times that are repeated run the first time only;
- but a schedule of every hour whose minutes look the same after the change follows elapsed time: ``minute="*/5"`` runs each five minutes
  and ``minute="15"`` each hour, straight through. Where a clock moves by half an hour (Lord Howe) ``minute="15"`` does not look the same,
  and the first two rules give it one run for each hour on the wall.

Any other callable is simply asked about the wall time of each instant.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import partial
from typing import final

from huey.clock import SECOND, Micros
from huey.exceptions import ConfigurationError

Part = str | int
"""What one field of a crontab may be given as."""

MINUTE: Micros = 60 * SECOND

_OLD_ORDER = ("month", "day", "day_of_week", "hour", "minute")
_LINE_ORDER = ("minute", "hour", "day", "month", "day_of_week")
_ALLOWED = {"month": (1, 12), "day": (1, 31), "day_of_week": (0, 7), "hour": (0, 23), "minute": (0, 59)}
_EVERY = _ALLOWED | {"day_of_week": (0, 6)}
_PART = re.compile(r"(-?\d{1,9})|(?:\*|(\d{1,9})-(\d{1,9}))(?:/(\d{1,9}))?", re.ASCII)
_FORMS = "use numbers, '*', '*/n', 'm-n' or a comma list of these"
_ONE_MINUTE = timedelta(minutes=1)
_DAY = 1440 * MINUTE


@final
class Crontab:
    """A schedule in the manner of cron: ``schedule(datetime)`` is True when all five fields match its minute (S77).

    A field is a number or text: ``*`` (every), ``*/n`` (every n-th, from the start of the range), ``m-n``, ``m-n/k``, a plain number, or a
    comma list of these. day_of_week: 0 = Sunday to 6 = Saturday, 7 = Sunday too. Unlike cron, a day must match both day and day_of_week.

    Give the fields by keyword, or as one cron line, ``crontab("0 3 * * *")``: minute, hour, day, month, day_of_week. Fields by position
    (month, day, day_of_week, hour, minute, as in 0.4.9) still work, with a DeprecationWarning.

    A number out of range is a ValueError. Text that cannot be read warns and is left out; it is a ValueError if ``strict``, or if nothing
    else is left in that field. A range that runs backwards (``5-2``) warns and matches nothing. A date that does not exist never matches.

    ``tz`` is a name ("Europe/Paris") or a ZoneInfo. It wins over the consumer's clock, and an aware datetime is first moved to it; a naive
    one is taken as it stands.
    """

    __slots__ = ("_given", "days", "hours", "minutes", "months", "tz", "weekdays")

    def __init__(
        self,
        *positional: Part,
        month: Part = "*",
        day: Part = "*",
        day_of_week: Part = "*",
        hour: Part = "*",
        minute: Part = "*",
        strict: bool = False,
        tz: str | tzinfo | None = None,
    ) -> None:
        fields: Mapping[str, Part] = {"minute": minute, "hour": hour, "day": day, "month": month, "day_of_week": day_of_week}
        if positional:
            fields = _with_positional(fields, positional)
        read = {field: _read(field, given, strict=strict) for field, given in fields.items()}
        for field, (_, doubts) in read.items():
            for doubt in doubts:
                warnings.warn(f"crontab({field}={fields[field]!r}): {doubt}", stacklevel=2)
        self._given = {field: given for field, given in fields.items() if given != "*"}
        self.months = read["month"][0]
        self.days = read["day"][0]
        self.weekdays = frozenset(value % 7 for value in read["day_of_week"][0])
        self.hours = read["hour"][0]
        self.minutes = read["minute"][0]
        self.tz = None if tz is None else _zone(tz)

    @classmethod
    def hourly(cls, *, tz: str | tzinfo | None = None) -> Crontab:
        """Each hour, at minute 0."""
        return cls(minute="0", tz=tz)

    @classmethod
    def daily(cls, *, tz: str | tzinfo | None = None) -> Crontab:
        """Each day, at midnight."""
        return cls(minute="0", hour="0", tz=tz)

    def __call__(self, at: datetime) -> bool:
        """Whether the minute of *at* matches, by what its clock shows: seconds and changes of the clock do not count here."""
        if self.tz is not None and at.tzinfo is not None:
            at = at.astimezone(self.tz)
        return self.fits(at)

    def fits(self, wall: datetime) -> bool:
        """Whether all five fields match this wall time; its zone is not looked at."""
        return wall.minute in self.minutes and wall.hour in self.hours and self.fits_date(wall)

    def fits_date(self, day: date) -> bool:
        """Whether month, day and day_of_week match."""
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def follows_elapsed(self, change: timedelta) -> bool:
        """Whether the schedule looks the same once the clock was moved by *change*: then its runs stay evenly spaced through it."""
        moved = int(change.total_seconds()) // 60
        return len(self.hours) == 24 and {(minute + moved) % 60 for minute in self.minutes} == self.minutes

    @property
    def may_match(self) -> bool:
        """False when a field has no value, so that no minute can match."""
        return all((self.months, self.days, self.weekdays, self.hours, self.minutes))

    def __repr__(self) -> str:
        shown = [f"{field}={given!r}" for field, given in self._given.items()]
        if self.tz is not None:
            shown.append(f"tz={str(self.tz)!r}")
        return f"crontab({', '.join(shown)})"


crontab = Crontab


def latest_due(validate: Callable[[datetime], bool], after: Micros, until: Micros, zone: tzinfo | None = UTC) -> Micros | None:
    """The newest due minute m (a multiple of MINUTE) with after < m <= until; None if there is none.

    *zone* is the consumer's clock: UTC, or None for the machine's local time. A crontab with ``tz`` follows that zone instead. Any other
    callable gets naive datetimes of the consumer's clock, newest first, until one is due; what it raises is raised here. Every minute of
    the span may be asked about: keep it short.
    """
    is_due = _test(validate, zone)
    minute = until - until % MINUTE
    while minute > after:
        if is_due(minute):
            return minute
        minute -= MINUTE
    return None


def next_due(schedule: Crontab, after: Micros, zone: tzinfo | None = UTC, days: int = 5 * 366) -> Micros | None:
    """The first due minute later than *after*; None if there is none within so many *days*. For showing, not for running."""
    if not schedule.may_match:
        return None
    clock = zone if schedule.tz is None else schedule.tz
    first = after - after % MINUTE + MINUTE
    for begin in range(first, first + days * _DAY, _DAY):
        end = begin + _DAY
        # From the day before: a change of the clocks may skip into this span, or step back out of it.
        if any(map(schedule.fits_date, _dates(_wall(begin - _DAY, clock), _wall(end, clock)))):
            found = next((minute for minute in range(begin, end, MINUTE) if _is_due(schedule, clock, minute)), None)
            if found is not None:
                return found
    return None


def _test(validate: Callable[[datetime], bool], zone: tzinfo | None) -> Callable[[Micros], bool]:
    if isinstance(validate, Crontab):
        return partial(_is_due, validate, zone if validate.tz is None else validate.tz)
    return lambda at: bool(validate(_wall(at, zone).replace(tzinfo=None)))


def _is_due(schedule: Crontab, zone: tzinfo | None, at: Micros) -> bool:
    """Whether a crontab is due at this instant, by the rule of C7."""
    wall = _wall(at, zone)
    if schedule.fits(wall):
        return wall.fold == 0 or schedule.follows_elapsed(_since_first_showing(wall))
    if zone is UTC:
        return False
    before = _wall(at - MINUTE, zone)
    # Both are of one zone, or naive: the difference is what the wall clock moved, not what passed.
    gap = wall - before - _ONE_MINUTE
    return gap > timedelta() and not schedule.follows_elapsed(gap) and any(map(schedule.fits, _skipped(before, gap)))


def _wall(at: Micros, zone: tzinfo | None) -> datetime:
    """What the clock of *zone* shows; ``fold`` is 1 when it has shown the same before."""
    return datetime.fromtimestamp(at // SECOND, zone)


def _since_first_showing(wall: datetime) -> timedelta:
    return timedelta(seconds=wall.timestamp() - wall.replace(fold=0).timestamp())


def _skipped(before: datetime, gap: timedelta) -> Iterable[datetime]:
    """The wall minutes that a gap jumped over; *before* is the last minute shown."""
    return (before + count * _ONE_MINUTE for count in range(1, gap // _ONE_MINUTE + 1))


def _dates(first: datetime, last: datetime) -> Iterable[date]:
    return (first.date() + timedelta(days=count) for count in range((last.date() - first.date()).days + 1))


def _with_positional(fields: Mapping[str, Part], positional: tuple[Part, ...]) -> Mapping[str, Part]:
    """Fields with those given by position; one text of several words is a cron line."""
    words = positional[0].split() if len(positional) == 1 and isinstance(positional[0], str) else []
    if len(words) > 1:
        if len(words) != len(_LINE_ORDER):
            raise ValueError(f"crontab({positional[0]!r}): {len(words)} fields; a cron line has five: minute hour day month day_of_week")
        by_place: dict[str, Part] = dict(zip(_LINE_ORDER, words, strict=True))
    else:
        if len(positional) > len(_OLD_ORDER):
            raise TypeError(f"crontab takes at most five fields by position, here are {len(positional)}; give them by keyword")
        by_place = dict(zip(_OLD_ORDER, positional, strict=False))
        advice = ", ".join(f"{field}={given!r}" for field, given in by_place.items())
        told = f"crontab fields by position are deprecated, as huey versions differ in their order; use crontab({advice})"
        warnings.warn(told, DeprecationWarning, stacklevel=3)
    twice = [field for field in by_place if fields[field] != "*"]
    if twice:
        raise TypeError(f"crontab: {', '.join(twice)} given both by position and by keyword")
    return {**fields, **by_place}


def _read(field: str, given: Part, *, strict: bool) -> tuple[frozenset[int], list[str]]:
    """The values that a field names, and what is doubtful about it, in words."""
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise TypeError(f"crontab({field}={given!r}): give a number or text, such as 5 or '5,10-15'")
    parts = {part.strip(): _PART.fullmatch(part.strip()) for part in str(given).split(",")}
    unread = [part for part, found in parts.items() if not found]
    doubts = [f"cannot read {', '.join(map(repr, unread))}, left out"] if unread else []
    if unread and (strict or len(unread) == len(parts)):
        raise ValueError(f"crontab({field}={given!r}): cannot read {', '.join(map(repr, unread))}; {_FORMS}")
    values: set[int] = set()
    for part, found in parts.items():
        if found:
            named = _values(field, given, found)
            values.update(named)
            doubts.extend(_doubts(field, part, named))
    return frozenset(values), doubts


def _values(field: str, given: Part, found: re.Match[str]) -> range:
    """The values that one part of a list names."""
    number, first, last, step = found.groups()
    start, end = _EVERY[field]
    if number or first:
        start, end = int(number or first), int(number or last)
    low, high = _ALLOWED[field]
    for value in (start, end):
        if not low <= value <= high:
            raise ValueError(f"crontab({field}={given!r}): {value} is out of range; {field} goes from {low} to {high}")
    if step and not int(step):
        raise ValueError(f"crontab({field}={given!r}): {step} is out of range; a step is 1 or more")
    return range(start, end + 1, int(step or 1))


def _doubts(field: str, part: str, named: range) -> list[str]:
    """What is odd about a part that can be read."""
    low, high = _EVERY[field]
    if not named:
        return [f"{part!r} runs backwards and matches nothing"]
    if named.step > high - low + 1:
        return [f"the step of {part!r} is longer than the whole range, only {named.start} matches"]
    return []


def _zone(tz: str | tzinfo) -> tzinfo:
    """The zone by this name. Other kinds of tzinfo may not tell repeated times apart, so they are refused."""
    import zoneinfo

    if isinstance(tz, (zoneinfo.ZoneInfo, timezone)):
        return tz
    if not isinstance(tz, str):
        raise ValueError(f"crontab(tz={tz!r}): give the name of a zone, such as 'Europe/Paris', or a zoneinfo.ZoneInfo")
    try:
        return zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not zoneinfo.available_timezones():
            raise ConfigurationError(f"crontab(tz={tz!r}): this machine has no time zone data; pip install tzdata") from error
        raise ValueError(f"crontab(tz={tz!r}): there is no such time zone; names are like 'Europe/Paris'") from error
