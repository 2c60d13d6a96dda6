"""The object that ``@huey.periodic_task()`` returns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

from huey.cron import Crontab, due_times
from huey.exceptions import LONGEST_DELAY
from huey.runtime.clock import SECOND, micros
from huey.runtime.logs import SafeLogger
from huey.runtime.masking import opened
from huey.runtime.times import to_micros
from huey.task.bounds import parse_number
from huey.task.options import TaskOptions
from huey.task.task_class import TaskHost
from huey.task.wrapper import TaskWrapper

P = ParamSpec("P")
R = TypeVar("R")

log = SafeLogger("huey")


class PeriodicWrapper(TaskWrapper[P, R]):
    """A function that the scheduler enqueues. A direct call runs it in the calling process; its results are not stored."""

    kind = "periodic task"
    stores_result = False

    def __init__(
        self, huey: TaskHost, func: Callable[P, R], name: str | None, options: TaskOptions, validate_datetime: Callable[[datetime], bool]
    ) -> None:
        self.validate_datetime = validate_datetime
        super().__init__(huey, func, name, options)
        self._was_called = False
        if missing := self._parameters.missing:
            raise ValueError(
                f"{self.name}() has parameters without a default ({', '.join(missing)}), and a periodic task is called without arguments: "
                "give them defaults"
            )

    @opened
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._was_called:
            self._was_called = True
            log.info("%s is periodic: a direct call runs it here; to enqueue one run use .schedule()", self.name)
        return self.func(*args, **kwargs)

    def next_runs(self, days: float | timedelta = 7, start: datetime | None = None) -> list[datetime]:
        """Return when it is due in the next *days* (a number, or a timedelta): aware datetimes, the earliest first, without the minute of
        *start*.

        *start*: default now; a naive datetime is a time on the consumer's clock. The times are in the zone of the crontab if it has one,
        else in UTC, or in local time if its Huey has ``utc=False``. Raise ValueError if *days* is negative or no number, and whatever a
        schedule of the application raises.
        """
        zone = UTC if self.huey.utc else None
        after = self.huey.clock.now() if start is None else to_micros(start, not self.huey.utc)
        seconds = days.total_seconds() if isinstance(days, timedelta) else parse_number("days", days) * 86400
        shown = self.validate_datetime.tz if isinstance(self.validate_datetime, Crontab) else None
        found = due_times(self.validate_datetime, after, after + micros(min(seconds, LONGEST_DELAY)), zone)
        return [datetime.fromtimestamp(minute // SECOND, UTC).astimezone(shown or zone) for minute in found]
