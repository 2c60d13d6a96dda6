"""Reads the times that people write: a datetime, a timedelta, a number of seconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from huey.clock import SECOND, Micros, micros
from huey.exceptions import LONGEST_DELAY

Moment = datetime
Expires = float | int | timedelta | datetime


def seconds(delay: float | timedelta) -> float:
    """A duration as seconds. ValueError when it is negative, not a number, or longer than a hundred years."""
    if isinstance(delay, bool) or not isinstance(delay, int | float | timedelta):
        raise ValueError(f"delay={delay!r}: give seconds or a timedelta")
    length = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not 0 <= length <= LONGEST_DELAY:
        raise ValueError(f"delay={delay!r}: give a number of seconds from 0 up to a hundred years; for now leave it out")
    return float(length)


def checked_ttl(ttl: float | timedelta | None) -> float | None:
    """How long something is kept, as seconds; None: no limit. ValueError: 0 or less than a microsecond, not a time, or longer than a
    hundred years."""
    if ttl is None:
        return None
    length = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(length, bool) or not isinstance(length, int | float) or not 1 / SECOND <= length <= LONGEST_DELAY:
        raise ValueError(f"ttl={ttl!r}: give a number of seconds above 0, or a timedelta, up to a hundred years; None is without limit")
    return float(length)


def instant(when: datetime, naive_is_local: bool) -> Micros:
    """A datetime as microseconds UTC. An aware one is exact; a naive one is local time, or UTC (C25)."""
    if not isinstance(when, datetime):
        raise ValueError(f"{when!r}: give a datetime")
    if when.tzinfo is None and not naive_is_local:
        when = when.replace(tzinfo=UTC)
    try:
        # The whole second apart from its fraction: floats do not hold microseconds of today.
        return int(when.replace(microsecond=0).timestamp()) * SECOND + when.microsecond
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{when!r}: this machine's calendar does not reach so far ({error}); give a nearer time") from error


class Due(NamedTuple):
    """When a task is due, as ``Task`` takes it. With a delay the eta is only what this host expects: the storage's clock decides."""

    eta: Micros | None = None
    delay: Micros | None = None


def due_time(eta: datetime | None, delay: float | timedelta | None, *, now: Micros, naive_is_local: bool) -> Due:
    """When a task is due. ValueError when both are given."""
    if eta is not None and delay is not None:
        raise ValueError("both eta and delay are given: say one of them")
    if eta is not None:
        return Due(instant(eta, naive_is_local))
    length = 0 if delay is None else micros(seconds(delay))
    return Due(now + length, length) if length > 0 else Due()


class Expiry(NamedTuple):
    """When a task expires, as ``Task`` takes it: a time, or one that this host expects and what was given."""

    expires: Micros
    expires_in: Micros | None = None


def expiry(when: Expires, now: Micros) -> Expiry:
    """An expiry given as seconds or timedelta from the enqueue, or as a datetime (naive: local)."""
    if isinstance(when, datetime):
        return Expiry(instant(when, True))
    length = micros(seconds(when))
    return Expiry(now + length, length)
