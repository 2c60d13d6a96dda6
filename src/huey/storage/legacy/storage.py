"""The contract on top of the four components of a 0.4.9 queue, as far as they can fulfil it.

The shipped components hold claimed messages, so a kill loses nothing; a queue that can only read loses its running tasks. No component has
priorities, failed tasks, statistics or a history: such calls raise ``StorageRefused``. Enqueueing an id that is held adds the task a second
time. A turn is several steps; if a failed turn is repeated, the steps that were done are stale.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from huey.exceptions import QueueReadException, QueueWriteException, StorageRefused
from huey.runtime.clock import SECOND, Clock, Micros, micros, system_clock
from huey.runtime.failpoints import failpoint
from huey.runtime.host import at_fork
from huey.runtime.masking import checkpoint
from huey.runtime.waker import Waker as OwnWaker
from huey.runtime.waker import wait_for_either
from huey.storage.base import FOREVER, HEARTBEAT_S, LEASE, Storage, Waker
from huey.storage.helpers import check_keys, check_records, parts_of
from huey.storage.legacy.claims import Claims
from huey.storage.legacy.components import Components, translating_errors, unsupported
from huey.storage.legacy.holders import Holders, task_counts, task_rows
from huey.storage.legacy.message import Message
from huey.storage.legacy.polling import PollBackoff, Reader
from huey.storage.legacy.values import NAME, TASK, Values
from huey.storage.rows import Counts, EventFactory, Features, Polling, Revocation, TaskIds, TaskName, TaskRow, Turn, Worker, WorkerRow
from huey.storage.stats import Stat
from huey.task.lifecycle import Finish
from huey.task.record import Lease, Record

log = logging.getLogger("huey.consumer")

MIN_RESULT_POLL_S, MAX_RESULT_POLL_S = 0.005, 0.2
"""Seconds between two checks for a result."""
EVENT_PAUSE = 5 * SECOND
"""How long no events are sent after one could not be sent."""
ALL = 2**31 - 1
BLOCKING_READ_S = 1.0
"""Seconds that one read of a shipped blocking queue waits."""


class LegacyStorage(Storage):
    """A storage that keeps tasks in the components *parts*."""

    def __init__(self, parts: Components, *, clock: Clock = system_clock) -> None:
        self.name = parts.name
        self.parts = parts
        self.features = Features(sees_all=False, keeps_errors=False, may_fork=parts.are_shipped)
        self._clock = clock
        self._polling = Polling(0.1, 10.0, 1.15)
        self._renew()
        at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Set the state of this process, at first and in a forked child, which does not own its parent's claims."""
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self._values = Values(self.parts.store, self._clock)
        self._holders = Holders(self.parts.holding, self._clock)
        self._claims = Claims(self.parts, self._values, self._holders, self._clock)
        self._ticks: dict[str, Micros] = {}
        self._readers: dict[str, Reader] = {}
        self._wanted = 1
        self._waker: OwnWaker | None = None
        self._events_paused_until: Micros = 0
        self._set_polling(self._polling)

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        check_records(records)
        now = self._now(now)
        for record in records:
            if record.priority and not self.parts.take_priorities:
                raise unsupported(f"task {record.name} with priority={record.priority}: priorities", self.parts.queue)
        messages = [Message.of(record, now).to_bytes() for record in records]
        failpoint("enqueue:before-commit")
        if make_events is not None and self.parts.events is not None:
            # Before the write: a worker may be faster than this thread and emit the start of the task first.
            self._emit(make_events())
        self._write_all(messages)
        failpoint("enqueue:after-commit")
        self._wake()
        return {}

    def _write_all(self, messages: Sequence[bytes]) -> None:
        if len(messages) > 1 and hasattr(self.parts.queue, "write_many"):
            with translating_errors(QueueWriteException, self.parts.queue, "write_many"):
                self.parts.queue.write_many(messages)
            return
        for count, data in enumerate(messages):
            try:
                self._claims.write(data)
            except QueueWriteException as error:
                if count:
                    error.args = (f"{error} ({count} of these {len(messages)} tasks were already written)",)
                raise

    def turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str] = (),
        now: Micros | None = None,
        report_promoted: bool = False,
        before_io: Callable[[], None] | None = None,
    ) -> Turn:
        with self._lock:
            now = self._now(now)
            silent = self._holders.silent_for(worker)
            if silent >= micros(HEARTBEAT_S):
                self._holders.heartbeat(worker)
            failpoint("turn:before-commit")
            stale = [it.lease.id for it in finishes if not self._claims.finish(worker, it, now, is_sure=silent < LEASE)]
            self._claims.offset = self.offset
            batch, has_read = self._claims.claim(worker, want, self._readers.get(worker.id), now)
            if has_read:
                self._poll.found()
            if want:
                self._wanted = want
            failpoint("turn:after-commit")
        self._emit(events)
        if finishes:
            with self._changed:
                self._changed.notify_all()
        is_followed = self.parts.events is not None
        return Turn(
            leases=batch.leases,
            stale=stale,
            cancelled=batch.cancelled,
            promoted=batch.promoted if report_promoted or is_followed else [],
            next_due=min((due for due in (self._claims.next_delayed, self._claims.next_due) if due is not None), default=None),
            may_have_more=len(batch.leases) == want > 0,
            is_followed=is_followed,
        )

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        with self._lock:
            now = self._clock.now()
            # The last one first: each goes to the front.
            for lease in reversed(leases):
                self._claims.release(worker, lease, now)
        self._wake()

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        with self._lock:
            row = self._holders.row(dead.worker.id)
            if row is None or row.until != dead.until:
                return []
            self._holders.heartbeat(worker)
            failpoint("reclaim:before-commit")
            taken = self._claims.take_over(dead.worker.id, worker, self._clock.now())
            self._holders.forget(dead.worker)
            failpoint("reclaim:after-commit")
            return taken

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        with self._lock:
            for worker in workers:
                self._holders.heartbeat(worker)

    def deregister(self, worker: Worker) -> None:
        with self._lock:
            reader = self._readers.pop(worker.id, None)
        arrived = reader.close(BLOCKING_READ_S + 0.5) if reader is not None else []
        with self._lock:
            self._claims.return_all(worker, arrived)
            if not self._claims.has_any(worker):
                self._holders.forget(worker)
            if self._waker is not None and not self._readers:
                self._waker.close()
                self._waker = None

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        data = None if record is None else Message.of(record, self._now(now)).to_bytes()
        failpoint("tick:before-commit")
        if not self._note_tick(name, tick, data):
            return False
        failpoint("tick:after-commit")
        self._emit(events)
        self._wake()
        return True

    def _note_tick(self, name: str, tick: Micros, data: bytes | None) -> bool:
        if self.parts.ticking is not None:
            with translating_errors(QueueWriteException, self.parts.ticking, "tick"):
                return bool(self.parts.ticking.tick(name, tick, data))
        with self._lock:
            if self._ticks.get(name, tick - 1) >= tick:
                return False
            if data is not None:
                self._claims.write(data)
            self._ticks[name] = tick
            return True

    def ticks(self) -> dict[str, Micros]:
        if self.parts.ticking is None:
            return dict(self._ticks)
        with translating_errors(QueueReadException, self.parts.ticking, "ticks"):
            return dict(self.parts.ticking.ticks())

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        put_revocation = Revocation(FOREVER if until is None else until, once)
        if isinstance(target, TaskName):
            self._values.put_revocation(NAME, target.name, put_revocation)
            return
        for id in target.ids:
            self._values.put_revocation(TASK, id, put_revocation)

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        if isinstance(target, TaskName):
            return [target.name] if self._values.drop_revocation(NAME, target.name) else []
        return [id for id in target.ids if self._values.drop_revocation(TASK, id)]

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        id, name, _ = parts_of(targets)
        revocation = None if id is None else self._values.revocation_of(TASK, id)
        return self._values.revocation_of(NAME, name) if revocation is None and name is not None else revocation

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        raise unsupported("putting ended tasks back, as none are kept,", self.parts.queue)

    def discard(self, ids: Sequence[str]) -> list[str]:
        raise unsupported("removing ended tasks, as none are kept,", self.parts.queue)

    def pause(self, on: bool) -> None:
        raise unsupported("pausing a queue", self.parts.queue)

    # -- waking -------------------------------------------------------------------------------------------------------------------------

    def _set_polling(self, polling: Polling) -> None:
        self._polling = polling
        self._poll = PollBackoff(self._clock, polling.delay, polling.max_delay, polling.backoff)
        self._claims.schedule_interval = polling.scheduler_interval

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        with self._lock:
            ours = self._waker = self._waker or OwnWaker()
            reader = self._reader(worker) if self.parts.is_blocking else None
            if self._claims.has_undelivered:
                return True
        deadline = self._clock.monotonic() + micros(timeout)
        has_news, is_woken = wait_for_either(ours, waker, 0.0)
        if has_news:
            ours.clear()
        if is_woken:
            return False
        while True:
            if reader is not None and reader.want(self._wanted):
                return True
            wait = self._until_check(is_polled=reader is None)
            left = (deadline - self._clock.monotonic()) / SECOND
            if wait <= 0:
                self._poll.looked()
                return True
            if left <= 0:
                return False
            has_news, is_woken = wait_for_either(ours, waker, min(wait, left, 1.0))
            if has_news:
                ours.clear()
            if has_news or is_woken:
                return not is_woken

    def _until_check(self, *, is_polled: bool) -> float:
        """Return the seconds until the next check; 0 or less: now."""
        now, elapsed = self._clock.now(), self._clock.monotonic()
        waits = [(due - now) / SECOND for due in (self._claims.next_delayed, self._claims.next_due) if due is not None]
        if self._claims.next_check is not None:
            waits.append((self._claims.next_check - elapsed) / SECOND)
        if is_polled:
            waits.append(self._poll.left)
        return min(waits, default=FOREVER / SECOND)

    def _reader(self, worker: Worker) -> Reader:
        if worker.id not in self._readers:
            queue = self.parts.queue
            if queue in self.parts.holding:
                self._readers[worker.id] = Reader(
                    partial(queue.claim_next, worker.id, BLOCKING_READ_S), lambda data: None, self._wake, self._clock
                )
            else:
                self._readers[worker.id] = Reader(self._read, self._claims.write, self._wake, self._clock)
        return self._readers[worker.id]

    def _read(self) -> object:
        with translating_errors(QueueReadException, self.parts.queue, "read"):
            return self.parts.queue.read()

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            waker.wake()

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        deadline = FOREVER if timeout is None else self._clock.monotonic() + micros(timeout)
        pause = MIN_RESULT_POLL_S
        while not any(self.peek("result", id) is not None for id in ids):
            left = (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                return False
            checkpoint()
            with self._changed:
                self._changed.wait(min(left, pause))
            pause = min(pause * 1.15, MAX_RESULT_POLL_S)
        return True

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        if self.parts.events is None:
            raise StorageRefused("events: this Huey has no emitter; give one, Huey(queue, events=...)")
        raise StorageRefused(f"events: they go out through {self.parts.events!r}; listen there, such as on its channel of Redis")

    def _emit(self, events: Sequence[str]) -> None:
        """Send events; failures are logged and ignored."""
        if self.parts.events is None or self._clock.monotonic() < self._events_paused_until:
            return
        try:
            for text in events:
                self.parts.events.emit(text)
        except Exception as error:  # An emitter is the user's code and must not disturb the tasks.
            self._events_paused_until = self._clock.monotonic() + EVENT_PAUSE
            log.warning("cannot send events, tasks continue: %s: %s [in %r]", type(error).__name__, error, self.parts.events)

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        if ids is not None:
            found = {row.id: row for row in task_rows(self.parts, self._holders, None, ALL)}
            return [found[id] for id in ids if id in found]
        if state == "suspect":
            # Suspects have no lane of their own here: each runs alone in the worker that claims it.
            return []
        rows = task_rows(self.parts, self._holders, state, limit if name is None else ALL)
        return [row for row in rows if name is None or row.name == name][:limit]

    def counts(self) -> Counts:
        with self._lock:
            return task_counts(self.parts, self._holders, self._values)

    def queues(self) -> list[str]:
        return [self.name]

    def stats(self, since: Micros) -> list[Stat]:
        raise unsupported("statistics", self.parts.queue)

    def workers(self) -> list[WorkerRow]:
        with self._lock:
            return self._holders.rows()

    def leases(self, worker: Worker) -> list[Lease]:
        with self._lock:
            return self._claims.leases(worker)

    # -- values -------------------------------------------------------------------------------------------------------------------------

    def _drop_queued(self, *, is_scheduled: bool) -> int:
        """Remove all messages from the queue or the schedule, including those that workers hold."""
        part, counts = self.parts.schedule if is_scheduled else self.parts.queue, self.counts()
        with self._lock, translating_errors(QueueWriteException, part, "flush"):
            part.flush()
        return counts.scheduled if is_scheduled else counts.ready

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        if if_absent:
            return self._values.put_if_empty(kind, key, value, ttl)
        self._values.put(kind, key, value, ttl)
        with self._changed:
            self._changed.notify_all()
        return True

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        """Return the values one after the other: no component can do it in one step."""
        if keys is None:
            return self._values.items(kind)
        check_keys(keys)
        take = self._values.pop if remove else self._values.peek
        return {key: value for key in keys if (value := take(kind, key)) is not None}

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def open(self, polling: Polling | None = None) -> int:
        # A component connects when it is made or at its first use.
        if polling is not None:
            self._set_polling(polling)
        return 1

    def close(self) -> None:
        """End the threads that read. Components have no such method: their connections close with them."""
        with self._lock:
            readers, self._readers = self._readers, {}
        for reader in readers.values():
            for data in reader.close(BLOCKING_READ_S + 0.5):
                if self.parts.queue not in self.parts.holding:
                    self._claims.write(data)

    def prune(self, now: Micros | None = None) -> int:
        return 0

    def flush(self, state: str | None = None) -> int:
        if state is not None:
            return self._drop_queued(is_scheduled=state == "scheduled")
        with self._lock:
            for part in (self.parts.queue, self.parts.schedule):
                if part is not None:
                    with translating_errors(QueueWriteException, part, "flush"):
                        part.flush()
            self._claims.forget()
            self._values.flush()
            self._ticks.clear()
        return 0

    @property
    def is_trusted(self) -> bool:
        return self.parts.are_trusted

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        return self.parts.startup_warnings(processes, periodic)

    def __repr__(self) -> str:
        return repr(self.parts)

    def _now(self, now: Micros | None) -> Micros:
        return self._clock.now() if now is None else now
