"""What a consumer says when it stops, and when it starts: version, storage, workers, tasks found, and when the periodic ones run next."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from huey.constants import __version__
from huey.cron import Crontab, next_due
from huey.runtime.clock import SECOND, Micros
from huey.runtime.logs import SafeLogger
from huey.runtime.suggestions import did_you_mean
from huey.task.wrapper import PeriodicWrapper

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")


def tell_start(huey: Huey, *, workers: int, worker_type: str, periodic: bool, localtime: bool) -> None:
    """Say it at INFO, a line for each task; at WARNING what this storage cannot promise. ConfigurationError: it cannot work so."""
    for caveat in huey.storage.startup_warnings(workers if worker_type == "process" else 1, periodic):
        log.warning("%s", caveat)
    for declared in huey.registry.periodic if periodic else ():
        if isinstance(declared.validate_datetime, Crontab) and declared.validate_datetime.doubt is not None:
            log.warning("periodic task %s: %s", declared.name, declared.validate_datetime.doubt)
    if not log.isEnabledFor(logging.INFO):
        return
    log.info("huey %s on Python %s, pid %d", __version__, ".".join(map(str, sys.version_info[:3])), os.getpid())
    log.info("queue %r in %r, %s", huey.name, huey.storage, _crew(workers, worker_type))
    log.info("clock for crontabs and naive times: %s", _clock(huey.clock.now()) if localtime else "UTC (--localtime: local time)")
    zone = None if localtime else UTC
    for wrapper in huey.registry:
        if not isinstance(wrapper, PeriodicWrapper):
            log.info("task %s", wrapper.name)
        elif periodic:
            log.info("periodic task %s: %s", wrapper.name, _schedule(wrapper, huey.clock.now(), zone))
        else:
            log.info("periodic task %s: not run from here (--no-periodic)", wrapper.name)


def tell_stop(running: int, limit: float | None, number: int) -> None:
    """Say at INFO what a stop waits for, and what ends the wait. *number*: the signal that asked for it; 0: none did."""
    if not running or limit == 0:
        log.info("stopping: %s", f"{_tasks(running)} put back" if running else "no task is running")
        return
    wait = "waiting" if limit is None else f"waiting up to {limit:g} s"
    again = "Ctrl+C" if number == signal.SIGINT else signal.Signals(number).name if number else ""
    log.info("stopping: %s for %s%s", wait, _tasks(running), f" ({again} again to stop now)" if again else "")


def _tasks(count: int) -> str:
    return f"{count} running task{'' if count == 1 else 's'}"


def _clock(now: Micros) -> str:
    """Local time, and how far it is from UTC."""
    return f"{datetime.fromtimestamp(now / SECOND).astimezone():local time (%Z, UTC%z)}"


def tell_queues(huey: Huey, shares: Mapping[str, int]) -> None:
    """Say which queues are taken from, with how many workers, unless that is the own one alone; at WARNING, if no task here has such a
    queue: it may be a slip of the pen."""
    if list(shares) == [huey.name]:
        return
    log.info("takes from %s", ", ".join(f"queue {name!r} with {workers}" for name, workers in shares.items()))
    known = {huey.name} | {wrapper.options.queue for wrapper in huey.registry if wrapper.options.queue is not None}
    for name in shares.keys() - known:
        hint = did_you_mean(name, known) or f"; their queues are {', '.join(sorted(known))}"
        log.warning("no task that is known here has the queue %r%s", name, hint)


def _crew(workers: int, worker_type: str) -> str:
    one, many = ("process", "processes") if worker_type == "process" else ("thread", "threads")
    return f"1 worker {one}" if workers == 1 else f"{workers} worker {many}"


def _schedule(wrapper: PeriodicWrapper[..., object], now: Micros, zone: tzinfo | None) -> str:
    schedule = wrapper.validate_datetime
    if not isinstance(schedule, Crontab):
        return "its function is asked each minute"
    line = repr(schedule)
    if line == "crontab()":
        return "every minute"
    due = next_due(schedule, now, zone)
    if due is None:
        return f"{line}, which never comes"
    wall = datetime.fromtimestamp(due / SECOND, zone if schedule.tz is None else schedule.tz)
    # A naive time is local; only an aware one knows the name of its zone.
    return f"{line}, next {(wall if wall.tzinfo else wall.astimezone()):%Y-%m-%d %H:%M %Z}"
