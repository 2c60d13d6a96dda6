"""Conversion of times that users give: a datetime, a timedelta, a number of seconds. Pure except for the machine's time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from huey.exceptions import LONGEST_DELAY
from huey.runtime.clock import FOREVER, SECOND, Micros, micros

Expires = float | int | timedelta | datetime

EARLIEST_ZONE: Micros = 15 * 3600 * SECOND
"""The furthest that any time zone is ahead of UTC."""
_EPOCH = datetime(1970, 1, 1)


def to_seconds(delay: float | timedelta) -> float:
    """Return a duration as seconds; a negative one is 0. Raise ValueError if it is not a number, or longer than a hundred years."""
    return max(0.0, _length(delay))


def _length(given: Any, what: str = "delay") -> float:
    kinds = "seconds or a timedelta" if what == "delay" else "seconds, a timedelta or a datetime"
    if isinstance(given, bool) or not isinstance(given, int | float | timedelta):
        raise ValueError(f"{what}={given!r}: give {kinds}")
    length = given.total_seconds() if isinstance(given, timedelta) else given
    if not length <= LONGEST_DELAY or length == float("-inf"):
        way_out = "omit it for now" if what == "delay" else "omit it for never"
        raise ValueError(f"{what}={given!r}: give a number of seconds up to a hundred years; {way_out}")
    return float(max(length, -LONGEST_DELAY))


def parse_ttl(ttl: float | timedelta | None, name: str = "ttl") -> float | None:
    """Return how long something is kept, in seconds; None: no limit. Raise ValueError, which calls it *name*, for less than a microsecond,
    more than a hundred years, or anything that is not a duration."""
    if ttl is None:
        return None
    length = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(length, bool) or not isinstance(length, int | float) or not 1 / SECOND <= length <= LONGEST_DELAY:
        raise ValueError(f"{name}={ttl!r}: give a number of seconds above 0, or a timedelta, up to a hundred years; None means no limit")
    return float(length)


def to_micros(when: datetime, naive_is_local: bool) -> Micros:
    """Return a datetime as microseconds UTC. An aware one is exact; a naive one is local time, or UTC. Before 1970: 0."""
    if not isinstance(when, datetime):
        raise ValueError(f"{when!r}: give a datetime")
    if when.year < 1970:
        return 0
    if when.tzinfo is None and not naive_is_local:
        when = when.replace(tzinfo=UTC)
    try:
        # The whole second and its fraction separately: a float cannot hold today's time in microseconds.
        return int(when.replace(microsecond=0).timestamp()) * SECOND + when.microsecond
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{when!r}: this machine's calendar does not reach that far ({error}); give an earlier time") from error


def wall_time(when: datetime) -> Micros:
    """Return what a clock shows at the naive time *when*, as microseconds since it showed 1970-01-01 00:00; before that, 0."""
    return max(0, (when - _EPOCH) // timedelta(microseconds=1))


def wall_datetime(wall: Micros) -> datetime:
    """Return the naive time of *wall*; the inverse of `wall_time`."""
    return _EPOCH + timedelta(microseconds=wall)


def wall_to_micros(wall: Micros, is_local: bool) -> Micros:
    """Return when a clock of this machine's local time, or of UTC, shows *wall*. For a time that the zone skips or repeats, `datetime`
    decides."""
    return to_micros(wall_datetime(wall), True) if is_local else wall


def micros_to_wall(now: Micros, is_local: bool) -> Micros:
    """Return what a clock of this machine's local time, or of UTC, shows at *now*."""
    if not is_local:
        return now
    from time import localtime

    return now + localtime(now // SECOND).tm_gmtoff * SECOND


def shown_time(when: Micros, is_local: bool) -> datetime:
    """Return *when* as a naive datetime: UTC, or local time."""
    return wall_datetime(micros_to_wall(when, is_local))


class Due(NamedTuple):
    """When a task is due, as arguments of `Task`. With a delay, ``due`` is only this host's estimate: the storage's clock decides. With a
    wall time, it is the first time at which any clock can show that: the consumer's clock decides."""

    due: Micros | None = None
    delay: Micros | None = None
    wall: Micros | None = None


def resolve_eta(eta: datetime | None, delay: float | timedelta | None, *, now: Micros, naive_is_local: bool = True) -> Due:
    """Return when a task is due. A naive *eta* is local time or, unless *naive_is_local*, a wall time. Raise ValueError if both are
    given."""
    if eta is not None and delay is not None:
        raise ValueError("both eta and delay are given; use only one of them")
    if eta is not None:
        if naive_is_local or not isinstance(eta, datetime) or eta.tzinfo is not None:
            return Due(to_micros(eta, True))
        wall = wall_time(eta)
        return Due(wall - EARLIEST_ZONE, None, wall)
    length = 0 if delay is None else micros(to_seconds(delay))
    return Due(now + length, length) if length > 0 else Due()


def resolve_expiry(when: Expires) -> tuple[Micros | None, Micros | None]:
    """Return when a task expires: at a time, or a duration after its enqueue, or after its eta if that is later; the other one is None.
    *when*: seconds, a timedelta, or a datetime (naive: local time). Less than 0 is past; 0 means never, as in 3.x."""
    if isinstance(when, datetime):
        return to_micros(when, True), None
    length = _length(when, "expires")
    return (None, micros(length)) if length else (FOREVER, None)
