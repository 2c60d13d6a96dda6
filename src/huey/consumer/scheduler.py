"""The scheduler, which fires each tick of a periodic task once, however many consumers are running, and the wall clock that it uses.

Every consumer checks each minute; the storage keeps the last tick of each task, so only one of them enqueues it. After a pause the newest
missed tick within the grace period fires once and older ones are skipped. If the clock is set back, no tick fires twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, tzinfo

from huey.cron import MINUTE, latest_due
from huey.engine.task_decoder import declaration
from huey.registry import Registry
from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.runtime.logs import SafeLogger
from huey.runtime.times import micros_to_wall
from huey.serializer import Codec
from huey.storage.base import Storage
from huey.task import events
from huey.task.periodic import PeriodicWrapper
from huey.task.record import Record
from huey.task.record_options import NONE
from huey.task.task import Task

log = SafeLogger("huey.consumer")

MISFIRE_GRACE = 300.0
"""Maximum age in seconds at which a missed tick still fires."""
CLOCK_CHECK_INTERVAL_S = 5.0
"""Longest time between two reads of the clock, which may be set, or jump while the machine sleeps."""


class Scheduler:
    """Evaluates the schedules of periodic tasks and enqueues those that are due."""

    def __init__(
        self,
        storage: Storage,
        registry: Registry,
        codec: Codec,
        clock: Clock,
        *,
        zone: tzinfo | None = UTC,
        interval: float = 60.0,
        grace: float = MISFIRE_GRACE,
        owns: Callable[[PeriodicWrapper[..., object]], bool] = lambda wrapper: True,
        announcing: Callable[[Sequence[Record]], AbstractContextManager[None]] = lambda records: nullcontext(),
        ticket: Callable[[Task], Record | None] | None = None,
    ) -> None:
        """Create the scheduler. *owns*: returns whether a task's ticks go to this queue. *announcing*: a block that sends the signals of
        the tasks enqueued in it unless it raises. *ticket*: makes the record of a tick through an overridden ``Huey.enqueue``, or returns
        None if that enqueued nothing."""
        self._storage = storage
        self._registry = registry
        self._codec = codec
        self._clock = clock
        self._zone = zone
        self._interval = interval
        self._grace = micros(grace)
        self._announcing = announcing
        self._owns = owns
        self._ticket = ticket
        self._unreadable: set[str] = set()
        self._last_minute: Micros | None = None
        """The last minute for which ticks were fired."""

    def run_once(self) -> float:
        """Fire due ticks, once a minute, and return the seconds until the next check: the next minute, at most the interval."""
        now = self._clock.now()
        if now - now % MINUTE != self._last_minute:
            self._fire_due(now)
            self._last_minute = now - now % MINUTE
        left = (MINUTE - self._clock.now() % MINUTE) / SECOND
        return min(left + 0.01, self._interval, CLOCK_CHECK_INTERVAL_S)

    def _fire_due(self, now: Micros) -> None:
        last_ticks = self._storage.ticks()
        for wrapper in filter(self._owns, self._registry.periodic):
            last, minute = last_ticks.get(wrapper.name), now - now % MINUTE
            # A task that has never had a tick starts with the current minute.
            after = minute - MINUTE if last is None else max(last, minute - self._grace)
            try:
                due = latest_due(wrapper.validate_datetime, after, minute, self._zone)
                record = None if due is None else self._record_of(wrapper)
            except BaseException:  # User code: a schedule that raises must not keep the others from running.
                if wrapper.name not in self._unreadable:
                    self._unreadable.add(wrapper.name)
                    log.exception("periodic task %s: cannot evaluate its schedule; it does not run", wrapper.name)
                continue
            self._unreadable.discard(wrapper.name)
            if due is not None and record is not None:
                self._fire(due, record, now)
            elif due is not None or last is None:
                self._storage.tick(wrapper.name, after if due is None else due, None)

    def _record_of(self, wrapper: PeriodicWrapper[..., object]) -> Record | None:
        task = wrapper.task_class()
        if self._ticket is not None:
            return self._ticket(task)
        record = task.record(b"")
        if wrapper.options.constraints is not None:
            record = record._replace(options=wrapper.options_of(task, record.options, NONE))
        declared = declaration(record) if self._codec.signs else None
        return record._replace(payload=self._codec.encode("task", task.id, ((), {}), declared))

    def _fire(self, due: Micros, record: Record, now: Micros) -> None:
        with suppress(_AlreadyFired), self._announcing([record]):
            if not self._storage.tick(record.name, due, record, [events.of_enqueue(record, now)]):
                raise _AlreadyFired
            log.info("periodic task enqueued: %s %s", record.name, record.id)


class _AlreadyFired(Exception):
    """Another consumer has fired this tick."""


class WallClock:
    """The clock by which revocations until a wall time are judged: local time if *is_local*, else UTC. The storage knows its offset."""

    def __init__(self, storage: Storage, clock: Clock, is_local: bool) -> None:
        self._storage = storage
        self._clock = clock
        self._is_local = is_local
        self._stored: Micros | None = None

    def store_offset(self) -> None:
        """Store how far this clock is ahead of UTC, if that has changed."""
        now = self._clock.now()
        offset = micros_to_wall(now, self._is_local) - now
        if offset == self._stored:
            return
        self._storage.offset = offset
        text = str(offset).encode()
        if (self._storage.peek("setting", "offset") or b"0") != text:
            self._storage.put("setting", "offset", text)
        self._stored = offset

    def run_once(self) -> float:
        """Store the offset if it has changed, and return the seconds until the next check."""
        self.store_offset()
        return CLOCK_CHECK_INTERVAL_S
