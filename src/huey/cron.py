"""Crontab: the minutes at which a periodic task is due.

``crontab(minute="0", hour="3")`` makes a schedule: a callable that takes a datetime and returns whether that minute matches. The scheduler
asks ``latest_due`` for the newest due minute of a short span; a schedule may be any callable of a datetime.

When the clocks change, for a crontab in local time or with ``tz=``:

- wall times that are skipped run, together and once, at the first instant after the gap;
- wall times that are repeated run the first time only;
- but a schedule of every hour whose minutes look the same after the change follows elapsed time: ``minute="*/5"`` runs each five minutes
  and ``minute="15"`` each hour, straight through. Where a clock moves by half an hour (Lord Howe) ``minute="15"`` does not look the same,
  and the first two rules give it one run for each hour on the wall.

Any other callable is called with the wall time of each instant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import partial
from types import CellType, CodeType, FunctionType
from typing import Any, cast, final

from huey.exceptions import ConfigurationError
from huey.runtime.clock import SECOND, Micros
from huey.runtime.cron_fields import LINE_ORDER, OLD_ORDER, Part, is_line, of_line, spoken, values_of

MINUTE: Micros = 60 * SECOND

_ONE_MINUTE = timedelta(minutes=1)
_DAY = 1440 * MINUTE


@final
class Crontab:
    """A schedule like that of cron: ``schedule(datetime)`` is True when all five fields match its minute.

    A field is a number or text: ``*`` (every), ``*/n`` (every n-th, from the start of the range), ``m-n``, ``m-n/k``, a plain number, or a
    comma list of these; months and days of the week also by name (``jan``, ``mon-fri``). A range may wrap around: hours ``22-2/2`` are 22,
    0 and 2. day_of_week: 0 = Sunday to 6 = Saturday, 7 = Sunday too. Unlike cron, a day must match both day and day_of_week.

    Give the fields by keyword, or as one cron line, ``crontab("0 3 * * mon-fri")``: minute, hour, day, month, day_of_week; or one of
    ``@hourly @daily @weekly @monthly @yearly``. Fields by position (month, day, day_of_week, hour, minute, as in 0.4.9) still work, with a
    DeprecationWarning, and a consumer logs at startup how it reads them, since other versions of huey use another order.

    A number out of range is a ValueError. Text that cannot be read warns and is left out; it is a ValueError if ``strict``, or if nothing
    else is left in that field. A date that does not exist never matches.

    ``tz`` is a name ("Europe/Paris") or a ZoneInfo. It overrides the consumer's clock. An aware datetime is converted to it first; a naive
    one is used as it is.
    """

    __slots__ = ("_given", "days", "hours", "minutes", "months", "positional", "tz", "weekdays")

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
        read = {field: values_of(field, given, strict=strict) for field, given in fields.items()}
        for field, (_, doubts) in read.items():
            for doubt in doubts:
                warnings.warn(f"crontab({field}={fields[field]!r}): {doubt}", stacklevel=2)
        self._given = {field: given for field, given in fields.items() if given != "*"}
        self.months, self.days, self.weekdays = read["month"][0], read["day"][0], read["day_of_week"][0]
        self.hours, self.minutes = read["hour"][0], read["minute"][0]
        self.positional = () if len(positional) == 1 and is_line(positional[0]) else positional
        """The fields that were given by position, in the order of 0.4.9."""
        if self.positional:
            by_keyword = ", ".join(f"{field}={given!r}" for field, given in zip(OLD_ORDER, positional, strict=False))
            message = f"crontab fields by position are deprecated, as huey versions differ in their order; use crontab({by_keyword})"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        self.tz = None if tz is None else _zone(tz)

    @classmethod
    def hourly(cls, *, tz: str | tzinfo | None = None) -> Crontab:
        """Return a schedule for each hour, at minute 0."""
        return cls(minute="0", tz=tz)

    @classmethod
    def daily(cls, *, tz: str | tzinfo | None = None) -> Crontab:
        """Return a schedule for each day, at midnight."""
        return cls(minute="0", hour="0", tz=tz)

    @classmethod
    def of_line(cls, line: str, *, tz: str | tzinfo | None = None) -> Crontab:
        """Parse a cron line of five fields, or a word such as ``@daily``. Raises ValueError for anything else."""
        fields: Mapping[str, Any] = of_line(line)
        return cls(**fields, tz=tz)

    def __call__(self, at: datetime) -> bool:
        """Return whether the wall time of *at* matches; seconds and changes of the clock are ignored."""
        if self.tz is not None and at.tzinfo is not None:
            at = at.astimezone(self.tz)
        return self.fits(at)

    def fits(self, wall: datetime) -> bool:
        """Return whether all five fields match this wall time; its zone is ignored."""
        return wall.minute in self.minutes and wall.hour in self.hours and self.fits_date(wall)

    def fits_date(self, day: date) -> bool:
        """Return whether month, day and day_of_week match."""
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def follows_elapsed(self, change: timedelta) -> bool:
        """Return whether the schedule is the same after the clock was moved by *change*: then its runs stay evenly spaced through the
        change."""
        moved = int(change.total_seconds()) // 60
        return len(self.hours) == 24 and {(minute + moved) % 60 for minute in self.minutes} == self.minutes

    @property
    def __code__(self) -> CodeType:
        """A code object as in huey 3.x, whose crontab is a function: instrumentation recognizes schedules by it. Since it takes times as
        UTC, a schedule with a zone of its own has another."""
        return (_as_function if self.tz is None else _in_zone)(()).__code__

    @property
    def __closure__(self) -> tuple[CellType, ...] | None:
        fields = tuple(sorted(values) for values in (self.months, self.days, self.weekdays, self.hours, self.minutes))
        return _as_function(fields).__closure__

    @property
    def in_words(self) -> str:
        """The schedule in words: ``at 03:00 every day``."""
        return spoken(self.months, self.days, self.weekdays, self.hours, self.minutes)

    @property
    def doubt(self) -> str | None:
        """A warning for a schedule with fields by position: how they are read here, how by huey 3.x, and what to write. Else None."""
        if not self.positional:
            return None
        given = ", ".join(map(repr, self.positional))
        reading = f"crontab({given}) has positional fields: here they mean {self.in_words}"
        other_order: Mapping[str, Any] = dict(zip(LINE_ORDER, self.positional, strict=False))
        try:
            other = Crontab(**other_order)
        except (ValueError, UserWarning):
            return f"{reading}; write {self!r}"
        return f"{reading}, in huey 3.x they mean {other.in_words}; write {self!r} or {other!r}"

    def __repr__(self) -> str:
        shown = [f"{field}={given!r}" for field, given in self._given.items()]
        if self.tz is not None:
            shown.append(f"tz={str(self.tz)!r}")
        return f"crontab({', '.join(shown)})"


crontab = Crontab


def _as_function(cron_settings: tuple[list[int], ...]) -> FunctionType:
    return cast("FunctionType", lambda: cron_settings)


def _in_zone(cron_settings: tuple[list[int], ...]) -> FunctionType:
    return cast("FunctionType", lambda: cron_settings)


def latest_due(validate: Callable[[datetime], bool], after: Micros, until: Micros, zone: tzinfo | None = UTC) -> Micros | None:
    """Return the newest due minute m (a multiple of MINUTE) with after < m <= until; None if there is none.

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
    """Return the first due minute after *after*; None if there is none within *days* days. For display, not for the scheduler."""
    clock = zone if schedule.tz is None else schedule.tz
    first = after - after % MINUTE + MINUTE
    for begin in range(first, first + days * _DAY, _DAY):
        end = begin + _DAY
        # From the day before: a clock change may skip into this span or step back out of it.
        if any(map(schedule.fits_date, _dates(_wall(begin - _DAY, clock), _wall(end, clock)))):
            found = next((minute for minute in range(begin, end, MINUTE) if _is_due(schedule, clock, minute)), None)
            if found is not None:
                return found
    return None


def due_times(validate: Callable[[datetime], bool], after: Micros, until: Micros, zone: tzinfo | None = UTC) -> Iterator[Micros]:
    """Yield the due minutes m with after < m <= until, the earliest first. *validate*, *zone*: as for ``latest_due``. Every minute of a
    schedule that is not a crontab is asked about."""
    if isinstance(validate, Crontab):
        while (found := next_due(validate, after, zone, (until - after) // _DAY + 1)) is not None and found <= until:
            yield found
            after = found
        return
    is_due = _test(validate, zone)
    yield from filter(is_due, range(after - after % MINUTE + MINUTE, until + 1, MINUTE))


def _test(validate: Callable[[datetime], bool], zone: tzinfo | None) -> Callable[[Micros], bool]:
    if isinstance(validate, Crontab):
        return partial(_is_due, validate, zone if validate.tz is None else validate.tz)
    return lambda at: bool(validate(_wall(at, zone).replace(tzinfo=None)))


def _is_due(schedule: Crontab, zone: tzinfo | None, at: Micros) -> bool:
    """Return True if a crontab is due at this instant, by the rules for clock changes."""
    wall = _wall(at, zone)
    if schedule.fits(wall):
        return wall.fold == 0 or schedule.follows_elapsed(_since_first_showing(wall))
    if zone is UTC:
        return False
    before = _wall(at - MINUTE, zone)
    # Both are of one zone, or naive: the difference is how far the wall clock moved, not how much time passed.
    gap = wall - before - _ONE_MINUTE
    return gap > timedelta() and not schedule.follows_elapsed(gap) and any(map(schedule.fits, _skipped(before, gap)))


def _wall(at: Micros, zone: tzinfo | None) -> datetime:
    """Return what the clock of *zone* shows; ``fold`` is 1 if it has shown the same before."""
    return datetime.fromtimestamp(at // SECOND, zone)


def _since_first_showing(wall: datetime) -> timedelta:
    return timedelta(seconds=wall.timestamp() - wall.replace(fold=0).timestamp())


def _skipped(before: datetime, gap: timedelta) -> Iterable[datetime]:
    """Yield the wall minutes that a gap skipped; *before* is the last minute shown."""
    return (before + count * _ONE_MINUTE for count in range(1, gap // _ONE_MINUTE + 1))


def _dates(first: datetime, last: datetime) -> Iterable[date]:
    return (first.date() + timedelta(days=count) for count in range((last.date() - first.date()).days + 1))


def _with_positional(fields: Mapping[str, Part], positional: tuple[Part, ...]) -> Mapping[str, Part]:
    """Return *fields* with those given by position; one text of several words is a cron line."""
    by_position: dict[str, Part]
    if len(positional) == 1 and isinstance(positional[0], str) and is_line(positional[0]):
        by_position = of_line(positional[0])
    else:
        if len(positional) > len(OLD_ORDER):
            raise TypeError(f"crontab takes at most five positional fields; got {len(positional)}; give them by keyword")
        by_position = dict(zip(OLD_ORDER, positional, strict=False))
    twice = [field for field in by_position if fields[field] != "*"]
    if twice:
        raise TypeError(f"crontab: {', '.join(twice)} given both by position and by keyword")
    return {**fields, **by_position}


def _zone(tz: str | tzinfo) -> tzinfo:
    """Return the zone of this name. Other kinds of tzinfo may not distinguish repeated times, so they are rejected."""
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
