"""Claims messages from the components, and finishes them: the two halves of a turn.

An ``Acknowledging`` component keeps a claimed message until it is acknowledged. Any other component removes it, and only this process knows
what is running. A message for later goes to the schedule; without a schedule it waits here, still held by the queue if that is
``Acknowledging``.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from huey.backends.base import naive_utc
from huey.exceptions import DecodeError, QueueReadException, QueueWriteException, ScheduleAddException, ScheduleReadException
from huey.runtime.clock import Clock, Micros, micros
from huey.storage.base import TURN_BYTES
from huey.storage.legacy.components import Components, translating_errors
from huey.storage.legacy.holders import Holders
from huey.storage.legacy.message import Message
from huey.storage.legacy.polling import Reader
from huey.storage.legacy.values import NAME, TASK, Values
from huey.storage.rows import Worker
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion, State
from huey.task.record import Lease

log = logging.getLogger("huey.consumer")

CLAIM_BATCH = 32
"""Most messages to claim from a component in one step, since their sizes are known only afterwards."""
Key = tuple[str, str, int]
"""Worker, task, token."""


class Entry(NamedTuple):
    """A message that a worker has claimed."""

    part: Any
    """The component that holds it; None: it was removed."""
    data: Any
    message: Message


class Claimed(NamedTuple):
    """The result of one claim."""

    leases: list[Lease]
    cancelled: list[CancelledAtClaim]
    promoted: list[Promotion]


class Claims:
    """The claimed messages of this process's workers. Only used under the lock of the storage."""

    def __init__(self, parts: Components, values: Values, holders: Holders, clock: Clock) -> None:
        self._parts = parts
        self._values = values
        self._holders = holders
        self._clock = clock
        self._queue = parts.queue
        self._holds = parts.queue if parts.queue in parts.holding else None
        self._schedule_holds = parts.schedule if parts.schedule in parts.holding else None
        self._entries: dict[Key, Entry] = {}
        self._undelivered: list[Any] = []
        """Messages that were removed from a component before an error."""
        self._delayed: list[tuple[Micros, int, str, Entry]] = []
        self._order = count()
        self._next_check: Micros = 0
        self.next_due: Micros | None = None
        """The earliest time for which this process added a message to the schedule."""
        self.offset: Micros = 0
        """How far the consumer's clock is ahead of UTC."""
        self.schedule_interval = 1.0
        """Seconds between two checks of the schedule."""

    # -- claim --------------------------------------------------------------------------------------------------------------------------

    def claim(self, worker: Worker, want: int, reader: Reader | None, now: Micros) -> tuple[Claimed, bool]:
        """Return up to *want* leases, and whether the queue had any message."""
        batch, read = Claimed([], [], []), 0
        for part, data in self._take(worker, want, batch, reader, now):
            read += part is not self._parts.schedule
            try:
                self._classify(worker, part, data, now, batch)
            except BaseException:
                if part is None:
                    self._undelivered.append(data)
                raise
        return batch, read > 0

    def _take(self, worker: Worker, want: int, batch: Claimed, reader: Reader | None, now: Micros) -> Iterator[tuple[Any, Any]]:
        """Yield messages for *worker* with the component that holds them, never more than there is room for."""
        while self._undelivered and len(batch.leases) < want:
            yield None, self._undelivered.pop()
        while self._delayed and self._delayed[0][0] <= now and len(batch.leases) < want:
            entry = heapq.heappop(self._delayed)[3]
            yield entry.part, entry.data
        if self.is_time(now) and len(batch.leases) < want:
            yield from self._due(worker, want - len(batch.leases), now)
        while reader is not None and len(batch.leases) < want and (data := reader.take()) is not None:
            yield self._holds, data
        if self._holds is not None:
            size = 0
            while (room := min(want - len(batch.leases), CLAIM_BATCH)) and size <= TURN_BYTES:
                with translating_errors(QueueReadException, self._holds, "claim"):
                    claimed = self._holds.claim(worker.id, room)
                yield from ((self._holds, data) for data in claimed)
                if len(claimed) < room:
                    return
                size += sum(map(len, claimed))
            return
        while not self._parts.is_blocking and len(batch.leases) < want:
            with translating_errors(QueueReadException, self._queue, "read"):
                data = self._queue.read()
            if data is None:
                return
            yield None, data

    def _due(self, worker: Worker, room: int, now: Micros) -> Iterator[tuple[Any, Any]]:
        """Yield the due messages of the schedule. One that is not ``Acknowledging`` returns all of them; they go to the queue."""
        schedule = self._parts.schedule
        found: list[Any] = []
        if self._schedule_holds is not None:
            with translating_errors(ScheduleReadException, schedule, "claim"):
                found = schedule.claim(worker.id, room, naive_utc(now))
            yield from ((schedule, data) for data in found)
        else:
            with translating_errors(ScheduleReadException, schedule, "read"):
                found = list(schedule.read(naive_utc(now)) or ())
            self._move(found)
            room = len(found) + 1
        if len(found) < room:
            self.next_due = None
            self._next_check = self._clock.monotonic() + micros(self.schedule_interval)

    def _move(self, found: list[Any]) -> None:
        """Move messages of the schedule to the queue; those that it rejects are claimed from here."""
        for index, data in enumerate(found):
            try:
                self.write(data)
            except QueueWriteException:
                self._undelivered += found[index:]
                raise

    def is_time(self, now: Micros) -> bool:
        """Return True if the schedule is to be checked now."""
        if self._parts.schedule is None:
            return False
        return self._clock.monotonic() >= self._next_check or (self.next_due is not None and self.next_due <= now)

    @property
    def next_check(self) -> Micros | None:
        """Monotonic time of the next check of the schedule; None: there is no schedule."""
        return None if self._parts.schedule is None else self._next_check

    @property
    def next_delayed(self) -> Micros | None:
        return self._delayed[0][0] if self._delayed else None

    @property
    def has_undelivered(self) -> bool:
        return bool(self._undelivered)

    # -- what becomes of a message ------------------------------------------------------------------------------------------------------

    def _classify(self, worker: Worker, part: Any, data: Any, now: Micros, batch: Claimed) -> None:
        try:
            message = Message.read(data)
        except DecodeError as error:
            self._dead_letter(worker, part, data, error)
            return
        if message.due is not None and message.due > now:
            self._defer(worker, Entry(part, data, message))
            return
        label = (message.id, message.name)
        left = (max(0, message.retries - message.attempt), message.retry_delay)
        if reason := self._cancel_reason(message, now):
            self._drop_from(worker, part, data)
            batch.cancelled.append(CancelledAtClaim(*label, reason, *left))
            return
        lease = message.lease()
        self._entries[worker.id, lease.id, lease.token] = Entry(part, data, message)
        batch.leases.append(lease)
        if message.due is not None:
            batch.promoted.append(Promotion(*label, *left))

    def _cancel_reason(self, message: Message, now: Micros) -> str | None:
        """Return why a due task must not run, or None. A revocation for one run is used up by this."""
        for kind, key in ((TASK, message.id), (NAME, message.name)):
            revocation = self._values.revocation_of(kind, key)
            if revocation is not None and revocation.holds(now, self.offset):
                if revocation.once:
                    self._values.drop_revocation(kind, key)
                return "revoked"
        return "expired" if message.expires is not None and message.expires <= now else None

    def _dead_letter(self, worker: Worker, part: Any, data: Any, error: DecodeError) -> None:
        key = self._values.store_dead_letter(data)
        where = f"kept in the result store as {key!r}" if key else f"not kept anywhere, its content is {data!r}"
        log.error("unreadable message in queue %r: %s; %s", self._parts.name, error, where)
        self._drop_from(worker, part, data)

    def _defer(self, worker: Worker, entry: Entry) -> None:
        """Keep a message until its time."""
        due = entry.message.due
        assert due is not None
        if self._parts.schedule is None:
            self._delay(worker, entry)
        elif entry.part is self._parts.schedule:
            # The clock was set back.
            self._acked(worker.id, entry.part, entry.data, entry.data, timestamp=naive_utc(due))
        else:
            self._add(entry.data, due)
            self._drop_from(worker, entry.part, entry.data)

    def _add(self, data: Any, due: Micros) -> None:
        with translating_errors(ScheduleAddException, self._parts.schedule, "add"):
            self._parts.schedule.add(_raw(data), naive_utc(due))
        self.next_due = due if self.next_due is None else min(due, self.next_due)

    def _delay(self, worker: Worker, entry: Entry) -> None:
        heapq.heappush(self._delayed, (entry.message.due or 0, next(self._order), worker.id, entry))

    def _drop_from(self, worker: Worker, part: Any, data: Any) -> bool:
        return part is None or self._acked(worker.id, part, data)

    def _acked(self, holder: str, part: Any, data: Any, instead: Any = None, **options: Any) -> bool:
        with translating_errors(QueueWriteException, part, "ack"):
            return bool(part.ack(holder, data, instead, **options))

    def write(self, data: Any) -> None:
        """Write a message to the queue."""
        with translating_errors(QueueWriteException, self._queue, "write"):
            self._queue.write(_raw(data))

    # -- the end of a run ---------------------------------------------------------------------------------------------------------------

    def finish(self, worker: Worker, finish: Finish, now: Micros, is_sure: bool) -> bool:
        """Write the finish of a run: the result and what follows first, so that a kill in between runs the task again.

        Not *is_sure*: another worker may have taken the task over, so ask the components first. Returns False if the finish is stale.
        """
        entry = self._entry(worker, finish.lease, is_sure)
        if entry is None:
            return False
        if finish.value is not None and self._parts.store is not None:
            self._values.put("result", finish.lease.id, finish.value)
        for each in finish.follow_ups.tasks if finish.follow_ups is not None else ():
            self.write(Message.of(each.record, now).to_bytes())
        if finish.state == State.QUEUED:
            due = finish.due_at(now)
            is_first = due is not None and due <= now
            is_done = self._requeue(worker, entry, entry.message.after(finish, now), now, is_first)
        else:
            is_done = self._drop_from(worker, entry.part, entry.data)
        self._entries.pop((worker.id, finish.lease.id, finish.lease.token), None)
        return is_done

    def release(self, worker: Worker, lease: Lease, now: Micros) -> None:
        """Return a task to the queue that has not started."""
        entry = self._entry(worker, lease, is_sure=True)
        if entry is not None:
            self._requeue(worker, entry, entry.message.claimed()._replace(due=None), now, is_first=True)
            self._entries.pop((worker.id, lease.id, lease.token), None)

    def _requeue(self, worker: Worker, entry: Entry, message: Message, now: Micros, is_first: bool) -> bool:
        data, schedule = message.to_bytes(), self._parts.schedule
        if entry.part is not None and entry.part is schedule:
            time = message.ready_at if message.due is None else message.due
            return self._acked(worker.id, entry.part, entry.data, data, timestamp=naive_utc(time))
        if message.due is None or message.due <= now:
            if entry.part is not None:
                return self._acked(worker.id, entry.part, entry.data, data, first=is_first)
            self.write(data)
            return True
        if schedule is not None:
            self._add(data, message.due)
            return self._drop_from(worker, entry.part, entry.data)
        if entry.part is not None and not self._acked(worker.id, entry.part, entry.data, data, successor=worker.id):
            return False
        self._delay(worker, Entry(entry.part, data, message))
        return True

    # -- who has what -------------------------------------------------------------------------------------------------------------------

    def leases(self, worker: Worker) -> list[Lease]:
        """Return all leases of *worker*: on messages that components hold for it, and on those that were removed from them."""
        delayed = {(id, _raw(entry.data)) for _, _, id, entry in self._delayed}
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] != worker.id or entry.part is None}
        for part in self._parts.holding:
            for data in self._holders.held(part, worker.id):
                message = Message.read_or_none(data)
                if message is not None and (worker.id, _raw(data)) not in delayed:
                    self._entries[worker.id, message.id, message.token + 1] = Entry(part, data, message)
        return [entry.message.lease() for key, entry in sorted(self._entries.items()) if key[0] == worker.id]

    def _entry(self, worker: Worker, lease: Lease, is_sure: bool) -> Entry | None:
        key = (worker.id, lease.id, lease.token)
        if not is_sure or key not in self._entries:
            self.leases(worker)
        return self._entries.get(key)

    def take_over(self, dead: str, successor: Worker, now: Micros) -> list[Lease]:
        """Transfer the messages that *dead* holds to *successor*, one by one and each with a new token, and return the leases on them.
        Messages that are not due go back to their component."""
        taken: list[Lease] = []
        for part in self._parts.holding:
            for data in self._holders.held(part, dead):
                message, instead = Message.read_or_none(data), data
                options: dict[str, Any] = {"timestamp": naive_utc(now)} if part is self._parts.schedule else {}
                if message is not None:
                    instead = message.claimed().to_bytes()
                    if message.due is None or message.due <= now:
                        options = {"successor": successor.id}
                    elif options:
                        options = {"timestamp": naive_utc(message.due)}
                if self._acked(dead, part, data, instead, **options) and message is not None and "successor" in options:
                    taken.append(message.claimed().lease())
        return taken

    def forget(self) -> None:
        """Clear all claimed messages, which were removed."""
        self._entries.clear()
        self._delayed.clear()
        self._undelivered.clear()

    def return_all(self, worker: Worker, arrived: list[Any]) -> None:
        """Return the messages of *worker*, which is deregistering, to the queue. Those that cannot be written back are logged."""
        mine = [entry for _, _, id, entry in self._delayed if id == worker.id]
        self._delayed = [it for it in self._delayed if it[2] != worker.id]
        heapq.heapify(self._delayed)
        loose = self._undelivered + [entry.data for entry in mine if entry.part is None]
        self._undelivered = []
        if self._holds is None:
            loose += arrived
        for data in loose:
            try:
                self.write(data)
            except QueueWriteException as error:
                log.error("cannot return a message to the queue; its content is %r: %s", data, error)
        for data in arrived if self._holds is not None else ():
            self._acked(worker.id, self._holds, data, data, first=True)
        for entry in mine:
            if entry.part is not None:
                # It waits again.
                self._acked(worker.id, entry.part, entry.data, entry.data)

    def has_any(self, worker: Worker) -> bool:
        """Return True if *worker* still holds a message."""
        return any(key[0] == worker.id for key in self._entries)


def _raw(data: Any) -> Any:
    """Return data as bytes: some components return text."""
    return data.encode("ascii", "replace") if isinstance(data, str) else data
