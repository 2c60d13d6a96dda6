"""Crontab ticks: one enqueue per tick, however many consumers look (C7).

Every consumer looks each minute; the storage's row of last ticks makes it one run. After a pause the newest missed tick within the grace
fires once, older ones do not. A clock set back fires nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, tzinfo

from huey.cron import MINUTE, latest_due
from huey.engine.declared import declaration
from huey.registry import Registry
from huey.runtime.clock import SECOND, Clock, Ids, Micros, micros
from huey.runtime.logs import SafeLogger
from huey.serializer import Codec
from huey.storage.base import Storage
from huey.task import events
from huey.task.record import Record
from huey.task.record_options import NONE
from huey.task.task import Task
from huey.task.wrapper import PeriodicWrapper

log = SafeLogger("huey.consumer")

MISFIRE_GRACE = 300.0
"""Seconds after which a missed tick is not made up for."""
GLANCE = 5.0
"""Seconds, at most, until it looks at the clock again: it may have been set, or the machine may have slept."""


class Scheduler:
    """Asks the callables of periodic tasks and fires what is due."""

    def __init__(
        self,
        storage: Storage,
        registry: Registry,
        codec: Codec,
        clock: Clock,
        new_id: Ids,
        *,
        zone: tzinfo | None = UTC,
        interval: float = 60.0,
        grace: float = MISFIRE_GRACE,
        serves: Callable[[PeriodicWrapper[..., object]], bool] = lambda wrapper: True,
        announcing: Callable[[Sequence[Record]], AbstractContextManager[None]] = lambda records: nullcontext(),
        ticket: Callable[[Task], Record | None] | None = None,
    ) -> None:
        """*serves*: whether a function's ticks go to this queue. *announcing*: a block in which tasks are put in that handlers of signals
        hear of when it ends well. *ticket*: makes the record of a tick, by the way of a wrapped ``Huey.enqueue``; None of it: no run."""
        self._storage = storage
        self._registry = registry
        self._codec = codec
        self._clock = clock
        self._new_id = new_id
        self._zone = zone
        self._interval = interval
        self._grace = micros(grace)
        self._announcing = announcing
        self._serves = serves
        self._ticket = ticket
        self._broken: set[str] = set()
        self._seen: Micros | None = None
        """The minute that was dealt with last."""

    def look(self) -> float:
        """Fire what is due, once a minute; seconds until the next look: the next minute, at most the interval."""
        now = self._clock.now()
        if now - now % MINUTE != self._seen:
            self._fire_all(now)
            self._seen = now - now % MINUTE
        left = (MINUTE - self._clock.now() % MINUTE) / SECOND
        return min(left + 0.01, self._interval, GLANCE)

    def _fire_all(self, now: Micros) -> None:
        last_ticks = self._storage.ticks()
        for wrapper in filter(self._serves, self._registry.periodic):
            last, minute = last_ticks.get(wrapper.name), now - now % MINUTE
            # A task that was never seen starts with the minute that runs.
            after = minute - MINUTE if last is None else max(last, minute - self._grace)
            try:
                due = latest_due(wrapper.validate_datetime, after, minute, self._zone)
                record = None if due is None else self._record_of(wrapper)
            except BaseException:  # The callable is the user's: one that raises must not keep the others from running.
                if wrapper.name not in self._broken:
                    self._broken.add(wrapper.name)
                    log.exception("periodic task %s: its schedule cannot be read; it does not run", wrapper.name)
                continue
            self._broken.discard(wrapper.name)
            if due is not None and record is not None:
                self._fire(due, record, now)
            elif due is not None or last is None:
                self._storage.tick(wrapper.name, after if due is None else due, None)

    def _record_of(self, wrapper: PeriodicWrapper[..., object]) -> Record | None:
        task = wrapper.task_class()
        if self._ticket is not None:
            return self._ticket(task)
        record = task.record(b"")
        if wrapper.options.wishes is not None:
            record = record._replace(options=wrapper.options_of(task, record.options, NONE))
        declared = declaration(record) if self._codec.signs else None
        return record._replace(payload=self._codec.encode("task", task.id, ((), {}), declared))

    def _fire(self, due: Micros, record: Record, now: Micros) -> None:
        with suppress(_FiredBefore), self._announcing([record]):
            if not self._storage.tick(record.name, due, record, [events.of_enqueue(record, now)]):
                raise _FiredBefore
            log.info("periodic task enqueued: %s %s", record.name, record.id)


class _FiredBefore(Exception):
    """Another consumer has fired this tick."""
