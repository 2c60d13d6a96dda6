"""Log the start and stop of a consumer, and prepare it to run tasks: wait for its storage, free locks."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from huey.constants import __version__
from huey.cron import Crontab, next_due
from huey.exceptions import StorageFull, StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros
from huey.runtime.display import counted
from huey.runtime.logs import SafeLogger
from huey.runtime.suggestions import did_you_mean
from huey.storage.base import Storage
from huey.task.periodic import PeriodicWrapper

if TYPE_CHECKING:
    from huey.api import Huey

log = SafeLogger("huey.consumer")

MIN_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 0.5, 5.0
"""Time between two attempts to open the storage; doubles each time."""


def log_banner(huey: Huey, *, workers: int, worker_type: str, periodic: bool, localtime: bool) -> None:
    """Log versions, queue, workers and each task at INFO, and at WARNING the limitations of this storage. Raise ConfigurationError if the
    storage cannot work with these settings."""
    for warning in _startup_warnings(huey.storage, workers if worker_type == "process" else 1, periodic):
        log.warning("%s", warning)
    for declared in huey.registry.periodic if periodic else ():
        if isinstance(declared.validate_datetime, Crontab) and declared.validate_datetime.doubt is not None:
            log.warning("periodic task %s: %s", declared.name, declared.validate_datetime.doubt)
    if not log.isEnabledFor(logging.INFO):
        return
    log.info("huey %s on Python %s, pid %d", __version__, ".".join(map(str, sys.version_info[:3])), os.getpid())
    log.info("queue %r in %r, %s", huey.name, huey.storage, _workers_text(workers, worker_type))
    log.info("clock for crontabs and naive times: %s", _clock(huey.clock.now()) if localtime else "UTC (--localtime: local time)")
    zone = None if localtime else UTC
    for wrapper in huey.registry:
        if not isinstance(wrapper, PeriodicWrapper):
            log.info("task %s", wrapper.name)
        elif periodic:
            log.info("periodic task %s: %s", wrapper.name, _schedule(wrapper, huey.clock.now(), zone))
        else:
            log.info("periodic task %s: not scheduled by this consumer (--no-periodic)", wrapper.name)


def log_queues(huey: Huey, allocation: Mapping[str, int]) -> None:
    """Log which queues the consumer claims from and with how many workers, unless that is its own queue alone; at WARNING if no task here
    belongs to a queue, which may be a typo."""
    if list(allocation) == [huey.name]:
        return
    log.info("claiming from %s", ", ".join(f"queue {name!r} with {counted(workers, 'worker')}" for name, workers in allocation.items()))
    known = {huey.name} | {wrapper.options.queue for wrapper in huey.registry if wrapper.options.queue is not None}
    for name in allocation.keys() - known:
        hint = did_you_mean(name, known) or f"; known queues: {', '.join(sorted(known))}"
        log.warning("no task of this application belongs to queue %r%s", name, hint)


def log_stop(running: int, limit: float | None, number: int) -> None:
    """Log at INFO what a stop waits for, and how to stop at once. *number*: the signal that asked for the stop; 0 if none did."""
    if not running or limit == 0:
        log.info("stopping: %s", f"requeueing {counted(running, 'running task')}" if running else "no task is running")
        return
    wait = "waiting" if limit is None else f"waiting up to {limit:g} s"
    again = "Ctrl+C" if number == signal.SIGINT else signal.Signals(number).name if number else ""
    log.info("stopping: %s for %s%s", wait, counted(running, "running task"), f" ({again} again to stop now)" if again else "")


def log_requeued(count: int, worker_id: str = "") -> None:
    """Log at WARNING that running tasks did not end within the shutdown timeout."""
    whose = f" of worker {worker_id}" if worker_id else ""
    log.warning("%s%s did not end in time; requeueing %s", counted(count, "task"), whose, "it" if count == 1 else "them")


def wait_for_storage(open_storage: Callable[[], object], pause: Callable[[float], bool], clock: Clock) -> bool:
    """Call *open_storage* until it succeeds, and return True. Return False if *pause*, which waits the given number of seconds, returns
    that the consumer must stop.

    Log one line when the wait begins and one when it ends. Raise StorageRefused if waiting does not help.
    """
    since, delay = clock.monotonic(), MIN_RETRY_DELAY_S
    is_waiting = False
    while True:
        try:
            open_storage()
        except (StorageUnavailable, StorageFull) as error:
            if not is_waiting:
                is_waiting = True
                log.error("cannot use the storage yet; retrying until it is available: %s", error)
        else:
            if is_waiting:
                log.info("storage available after %.1f s", (clock.monotonic() - since) / SECOND)
            return True
        if pause(delay):
            return False
        delay = min(2 * delay, MAX_RETRY_DELAY_S)


def free_locks(storage: Storage, settings: Mapping[str, Any]) -> None:
    """Free all locks of the queue, and ``extra_locks``, if ``flush_locks`` is set. Rarely needed: a lock ends with its holder."""
    if settings["flush_locks"]:
        freed = storage.flush_locks()
        log.info("locks freed: %s", ", ".join(sorted(freed)) or "none was held")


def _startup_warnings(storage: Storage, processes: int, periodic: bool) -> list[str]:
    """Return the warnings of *storage*. It was reachable a moment ago, so a lost answer now must not end the consumer."""
    try:
        return storage.startup_warnings(processes, periodic)
    except StorageUnavailable as error:
        return [f"cannot read the settings of the storage now: {error}"]


# -- texts ------------------------------------------------------------------------------------------------------------------------------


def _clock(now: Micros) -> str:
    """Return the local time zone and its offset from UTC."""
    return f"{datetime.fromtimestamp(now / SECOND).astimezone():local time (%Z, UTC%z)}"


def _workers_text(workers: int, worker_type: str) -> str:
    if worker_type == "async":
        return f"a worker with an event loop for {counted(workers, 'task')} at a time"
    one, many = ("process", "processes") if worker_type == "process" else ("thread", "threads")
    return f"1 worker {one}" if workers == 1 else f"{workers} worker {many}"


def _schedule(wrapper: PeriodicWrapper[..., object], now: Micros, zone: tzinfo | None) -> str:
    schedule = wrapper.validate_datetime
    if not isinstance(schedule, Crontab):
        return "its schedule function is called every minute"
    line = repr(schedule)
    if line == "crontab()":
        return "every minute"
    due = next_due(schedule, now, zone)
    if due is None:
        return f"{line}, which is never due"
    wall = datetime.fromtimestamp(due / SECOND, zone if schedule.tz is None else schedule.tz)
    # A naive time is local; only an aware one knows the name of its zone.
    return f"{line}, next {(wall if wall.tzinfo else wall.astimezone()):%Y-%m-%d %H:%M %Z}"
