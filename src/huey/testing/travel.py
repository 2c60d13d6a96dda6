"""The clock of `huey.testing.memory`: it stands still until a test moves it, and then all times of a queue move together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import get_ident
from typing import SupportsIndex

from huey.cron import MINUTE
from huey.engine.time_limits import TimeLimits
from huey.runtime.clock import FOREVER, SECOND, Micros, micros
from huey.runtime.masking import checkpoint
from huey.runtime.times import to_micros, to_seconds
from huey.testing.clock import FakeClock


class TravelClock(FakeClock):
    """A clock that a test moves. It stands still otherwise: what is due in a minute stays due in a minute.

    Delays, etas, retries, periodic tasks, expiry, kept results, locks, rates and time limits all go by it. ``datetime.now()`` and
    ``time.time()`` do not: freeze them with a package for that, if your code reads them.
    """

    def __init__(self, now: Micros, is_local: bool) -> None:
        """Create the clock. *is_local*: a naive datetime is local time, else UTC."""
        super().__init__(now)
        self._is_local = is_local
        self.limits: TimeLimits | None = None
        """The time limits of the task that runs now."""
        self.has_moved = False
        """Whether it has reached another minute since the beginning, or was set to a time."""

    @property
    def time(self) -> datetime:
        """What it shows: an aware datetime in UTC."""
        return datetime.fromtimestamp(self.now() // SECOND, UTC) + timedelta(microseconds=self.now() % SECOND)

    def advance(self, duration: float | timedelta) -> None:
        """Let *duration* pass, in seconds or as a timedelta. Raise ValueError if it is negative, or no duration. Nothing runs: what is due
        by then, the next ``drain()`` runs."""
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        if isinstance(seconds, int | float) and seconds < 0:
            raise ValueError(f"advance({duration!r}): time does not run back; to set the clock back, use move_to(datetime)")
        self.forward(to_seconds(duration))

    def move_to(self, when: datetime) -> None:
        """Go to *when*; a naive datetime is a time on the consumer's clock, like the times of a crontab: UTC, or local time if the Huey has
        ``utc=False``. An earlier time sets the wall clock back, as an operator does; durations go on."""
        target = self.micros_of(when)
        self.forward(max(0, target - self.now()) / SECOND)
        self.set(target)
        self.has_moved = True

    def micros_of(self, until: float | timedelta | datetime) -> Micros:
        """Return a time, or the end of a duration that begins now, in microseconds UTC."""
        if isinstance(until, datetime):
            return to_micros(until, self._is_local)
        return self.now() + micros(to_seconds(until))

    def forward(self, seconds: float) -> None:
        """Let *seconds* pass, and stop at each time limit on the way to enforce it."""
        end, minute = self.monotonic() + micros(seconds), self.now() // MINUTE
        while (limits := self.limits) is not None and (stop := self._next_limit()) <= end:
            super().forward(max(0, stop - self.monotonic()) / SECOND)
            limits.wake()
            limits.run_once()
            # In the thread of the body itself, it is raised here.
            checkpoint()
        super().forward((end - self.monotonic()) / SECOND)
        self.has_moved = self.has_moved or self.now() // MINUTE != minute

    def forward_to_limit(self, seconds: float) -> None:
        """Let *seconds* pass, but not more than up to the next time limit, for code that is asked to stop rather than interrupted."""
        self.forward(min(seconds, max(0, self._next_limit() - self.monotonic()) / SECOND))

    def _next_limit(self) -> Micros:
        """Return the next time limit of a task that runs, on the monotonic clock."""
        limited = {} if self.limits is None else self.limits.limited
        return min((task.until for task in list(limited.values())), default=FOREVER)

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass, without waiting."""
        self.forward(seconds)

    @contextmanager
    def replacing_sleep(self) -> Iterator[None]:
        """Inside the block, let ``time.sleep`` in this thread move this clock instead of waiting."""
        thread, real = get_ident(), time.sleep

        def sleep(seconds: float | SupportsIndex, /) -> None:
            if get_ident() != thread:
                real(seconds)
            elif (length := float(seconds)) < 0:
                raise ValueError("sleep length must be non-negative")
            else:
                self.forward(length)

        time.sleep = sleep
        try:
            yield
        finally:
            time.sleep = real
