"""What is claimed from the parts, and what becomes of it: the halves of a turn.

A part that holds (``Acknowledging``) keeps a claimed message until it is acknowledged. From any other part it is taken out, and what runs
is known to this process alone. A message for later goes to the schedule; without one it waits here, still held by the queue if that can
hold.
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
from huey.storage.legacy.holders import Holders
from huey.storage.legacy.message import Message
from huey.storage.legacy.parts import Parts, failing_as
from huey.storage.legacy.values import NAME, TASK, Values
from huey.storage.legacy.waking import Reader
from huey.storage.rows import Worker
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion, State
from huey.task.record import Lease

log = logging.getLogger("huey.consumer")

PORTION = 32
"""Messages that are claimed of a part in one step: how much they weigh is only known then."""
Key = tuple[str, str, int]
"""Worker, task, token."""


class Entry(NamedTuple):
    """A message that a worker has in hand."""

    part: Any
    """What holds it; None: it was taken out."""
    data: Any
    message: Message


class Claimed(NamedTuple):
    """What one claim brought."""

    leases: list[Lease]
    cancelled: list[CancelledAtClaim]
    promoted: list[Promotion]


class Claims:
    """The messages in hand of the workers of this process. Used under the lock of its storage."""

    def __init__(self, parts: Parts, values: Values, holders: Holders, clock: Clock) -> None:
        self._parts = parts
        self._values = values
        self._holders = holders
        self._clock = clock
        self._queue = parts.queue
        self._holds = parts.queue if parts.queue in parts.holding else None
        self._schedule_holds = parts.schedule if parts.schedule in parts.holding else None
        self._entries: dict[Key, Entry] = {}
        self._again: list[Any] = []
        """Taken out of a part, and then something went wrong."""
        self._parked: list[tuple[Micros, int, str, Entry]] = []
        self._order = count()
        self._look_at: Micros = 0
        self.next_due: Micros | None = None
        """The next time for which this process put a message into the schedule."""
        self.offset: Micros = 0
        """How far the consumer's clock is ahead of UTC."""
        self.schedule_interval = 1.0
        """Seconds between two looks at the schedule."""

    # -- claim --------------------------------------------------------------------------------------------------------------------------

    def claim(self, worker: Worker, want: int, reader: Reader | None, now: Micros) -> tuple[Claimed, bool]:
        """Up to *want* leases, and whether the queue had anything."""
        bag, read = Claimed([], [], []), 0
        for part, data in self._take(worker, want, bag, reader, now):
            read += part is not self._parts.schedule
            try:
                self._sort_in(worker, part, data, now, bag)
            except BaseException:
                if part is None:
                    self._again.append(data)
                raise
        return bag, read > 0

    def _take(self, worker: Worker, want: int, bag: Claimed, reader: Reader | None, now: Micros) -> Iterator[tuple[Any, Any]]:
        """Messages that were taken for *worker*, and what holds them. Never more than there is room for."""
        while self._again and len(bag.leases) < want:
            yield None, self._again.pop()
        while self._parked and self._parked[0][0] <= now and len(bag.leases) < want:
            entry = heapq.heappop(self._parked)[3]
            yield entry.part, entry.data
        if self.is_time(now) and len(bag.leases) < want:
            yield from self._due(worker, want - len(bag.leases), now)
        while reader is not None and len(bag.leases) < want and (data := reader.take()) is not None:
            yield self._holds, data
        if self._holds is not None:
            size = 0
            while (room := min(want - len(bag.leases), PORTION)) and size <= TURN_BYTES:
                with failing_as(QueueReadException, self._holds, "claim"):
                    claimed = self._holds.claim(worker.id, room)
                yield from ((self._holds, data) for data in claimed)
                if len(claimed) < room:
                    return
                size += sum(map(len, claimed))
            return
        while not self._parts.is_blocking and len(bag.leases) < want:
            with failing_as(QueueReadException, self._queue, "read"):
                data = self._queue.read()
            if data is None:
                return
            yield None, data

    def _due(self, worker: Worker, room: int, now: Micros) -> Iterator[tuple[Any, Any]]:
        """What the schedule has for now. A schedule that cannot hold gives out all; that goes to the queue."""
        schedule = self._parts.schedule
        found: list[Any] = []
        if self._schedule_holds is not None:
            with failing_as(ScheduleReadException, schedule, "claim"):
                found = schedule.claim(worker.id, room, naive_utc(now))
            yield from ((schedule, data) for data in found)
        else:
            with failing_as(ScheduleReadException, schedule, "read"):
                found = list(schedule.read(naive_utc(now)) or ())
            self._move(found)
            room = len(found) + 1
        if len(found) < room:
            self.next_due = None
            self._look_at = self._clock.monotonic() + micros(self.schedule_interval)

    def _move(self, found: list[Any]) -> None:
        """Put messages of the schedule into the queue; those that it does not take are claimed from here."""
        for place, data in enumerate(found):
            try:
                self.write(data)
            except QueueWriteException:
                self._again += found[place:]
                raise

    def is_time(self, now: Micros) -> bool:
        """The schedule is to be looked at."""
        if self._parts.schedule is None:
            return False
        return self._clock.monotonic() >= self._look_at or (self.next_due is not None and self.next_due <= now)

    @property
    def look_at(self) -> Micros | None:
        """When the schedule is looked at next, on the clock that never steps; None: there is none."""
        return None if self._parts.schedule is None else self._look_at

    @property
    def next_parked(self) -> Micros | None:
        return self._parked[0][0] if self._parked else None

    @property
    def has_again(self) -> bool:
        return bool(self._again)

    # -- what becomes of a message ------------------------------------------------------------------------------------------------------

    def _sort_in(self, worker: Worker, part: Any, data: Any, now: Micros, bag: Claimed) -> None:
        try:
            message = Message.read(data)
        except DecodeError as error:
            self._bury(worker, part, data, error)
            return
        if message.due is not None and message.due > now:
            self._defer(worker, Entry(part, data, message))
            return
        label = (message.id, message.name)
        left = (max(0, message.retries - message.attempt), message.retry_delay)
        if reason := self._why_not(message, now):
            self._let_go(worker, part, data)
            bag.cancelled.append(CancelledAtClaim(*label, reason, *left))
            return
        lease = message.lease()
        self._entries[worker.id, lease.id, lease.token] = Entry(part, data, message)
        bag.leases.append(lease)
        if message.due is not None:
            bag.promoted.append(Promotion(*label, *left))

    def _why_not(self, message: Message, now: Micros) -> str | None:
        """Why a due task must not run. A revocation for once is used up by that."""
        for kind, key in ((TASK, message.id), (NAME, message.name)):
            mark = self._values.mark_of(kind, key)
            if mark is not None and mark.holds(now, self.offset):
                if mark.once:
                    self._values.unmark(kind, key)
                return "revoked"
        return "expired" if message.expires is not None and message.expires <= now else None

    def _bury(self, worker: Worker, part: Any, data: Any, error: DecodeError) -> None:
        key = self._values.keep_dead(data)
        where = f"it is kept in the result store as {key!r}" if key else f"here it is, as it is kept nowhere else: {data!r}"
        log.error("in the queue %r there was %s; %s", self._parts.name, error, where)
        self._let_go(worker, part, data)

    def _defer(self, worker: Worker, entry: Entry) -> None:
        """Let a message wait for its time."""
        due = entry.message.due
        assert due is not None
        if self._parts.schedule is None:
            self._park(worker, entry)
        elif entry.part is self._parts.schedule:
            # The clock was set back.
            self._acked(worker.id, entry.part, entry.data, entry.data, timestamp=naive_utc(due))
        else:
            self._add(entry.data, due)
            self._let_go(worker, entry.part, entry.data)

    def _add(self, data: Any, due: Micros) -> None:
        with failing_as(ScheduleAddException, self._parts.schedule, "add"):
            self._parts.schedule.add(_raw(data), naive_utc(due))
        self.next_due = due if self.next_due is None else min(due, self.next_due)

    def _park(self, worker: Worker, entry: Entry) -> None:
        heapq.heappush(self._parked, (entry.message.due or 0, next(self._order), worker.id, entry))

    def _let_go(self, worker: Worker, part: Any, data: Any) -> bool:
        return part is None or self._acked(worker.id, part, data)

    def _acked(self, holder: str, part: Any, data: Any, instead: Any = None, **place: Any) -> bool:
        with failing_as(QueueWriteException, part, "ack"):
            return bool(part.ack(holder, data, instead, **place))

    def write(self, data: Any) -> None:
        """Put a message into the queue."""
        with failing_as(QueueWriteException, self._queue, "write"):
            self._queue.write(_raw(data))

    # -- the end of a run ---------------------------------------------------------------------------------------------------------------

    def finish(self, worker: Worker, finish: Finish, now: Micros, is_sure: bool) -> bool:
        """Write the end of a run: the result first, so that a kill in between runs the task again rather than losing it. Not *is_sure*:
        others may have taken the task over, so the parts are asked before."""
        entry = self._entry(worker, finish.lease, is_sure)
        if entry is None:
            return False
        if finish.value is not None and self._parts.store is not None:
            self._values.put("result", finish.lease.id, finish.value)
        if finish.state == State.QUEUED:
            due = finish.due_at(now)
            is_first = due is not None and due <= now
            is_done = self._put_back(worker, entry, entry.message.after(finish, now), now, is_first)
        else:
            is_done = self._let_go(worker, entry.part, entry.data)
        self._entries.pop((worker.id, finish.lease.id, finish.lease.token), None)
        return is_done

    def release(self, worker: Worker, lease: Lease, now: Micros) -> None:
        """Give a task back that has not started."""
        entry = self._entry(worker, lease, is_sure=True)
        if entry is not None:
            self._put_back(worker, entry, entry.message.claimed()._replace(due=None), now, is_first=True)
            self._entries.pop((worker.id, lease.id, lease.token), None)

    def _put_back(self, worker: Worker, entry: Entry, message: Message, now: Micros, is_first: bool) -> bool:
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
            return self._let_go(worker, entry.part, entry.data)
        if entry.part is not None and not self._acked(worker.id, entry.part, entry.data, data, successor=worker.id):
            return False
        self._park(worker, Entry(entry.part, data, message))
        return True

    # -- who has what -------------------------------------------------------------------------------------------------------------------

    def leases(self, worker: Worker) -> list[Lease]:
        """All that a worker holds and that may run: what the parts say, and what was taken out of them."""
        parked = {(id, _raw(entry.data)) for _, _, id, entry in self._parked}
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] != worker.id or entry.part is None}
        for part in self._parts.holding:
            for data in self._holders.held(part, worker.id):
                message = Message.read_or_none(data)
                if message is not None and (worker.id, _raw(data)) not in parked:
                    self._entries[worker.id, message.id, message.token + 1] = Entry(part, data, message)
        return [entry.message.lease() for key, entry in sorted(self._entries.items()) if key[0] == worker.id]

    def _entry(self, worker: Worker, lease: Lease, is_sure: bool) -> Entry | None:
        key = (worker.id, lease.id, lease.token)
        if not is_sure or key not in self._entries:
            self.leases(worker)
        return self._entries.get(key)

    def take_over(self, dead: str, successor: Worker, now: Micros) -> list[Lease]:
        """Hand what *dead* holds to *heir*, one message after the other, each with a new token; those that this call handed over. What
        waited for its time goes back."""
        taken: list[Lease] = []
        for part in self._parts.holding:
            for data in self._holders.held(part, dead):
                message, instead = Message.read_or_none(data), data
                place: dict[str, Any] = {"timestamp": naive_utc(now)} if part is self._parts.schedule else {}
                if message is not None:
                    instead = message.claimed().to_bytes()
                    if message.due is None or message.due <= now:
                        place = {"successor": successor.id}
                    elif place:
                        place = {"timestamp": naive_utc(message.due)}
                if self._acked(dead, part, data, instead, **place) and message is not None and "successor" in place:
                    taken.append(message.claimed().lease())
        return taken

    def forget(self) -> None:
        """Nothing is in hand any more: all was removed."""
        self._entries.clear()
        self._parked.clear()
        self._again.clear()

    def give_back(self, worker: Worker, arrived: list[Any]) -> None:
        """What *worker* has in hand but does not run goes back to the queue: it takes its leave. What was taken out of a part and cannot be
        put back stands in the log."""
        mine = [entry for _, _, id, entry in self._parked if id == worker.id]
        self._parked = [it for it in self._parked if it[2] != worker.id]
        heapq.heapify(self._parked)
        loose = self._again + [entry.data for entry in mine if entry.part is None]
        self._again = []
        if self._holds is None:
            loose += arrived
        for data in loose:
            try:
                self.write(data)
            except QueueWriteException as error:
                log.error("a message could not be put back, here it is: %r: %s", data, error)
        for data in arrived if self._holds is not None else ():
            self._acked(worker.id, self._holds, data, data, first=True)
        for entry in mine:
            if entry.part is not None:
                # It waits again.
                self._acked(worker.id, entry.part, entry.data, entry.data)

    def has_any(self, worker: Worker) -> bool:
        """It still holds something."""
        return any(key[0] == worker.id for key in self._entries)


def _raw(data: Any) -> Any:
    """Data as they are handed to a part: some give texts back."""
    return data.encode("ascii", "replace") if isinstance(data, str) else data
