"""The verbs of the contract, in its own words, each under one lock on plain tables.

Where another storage answers differently, this one is right. Nothing survives the process; a forked child goes on with a copy of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from huey.runtime.clock import SECOND, Clock, Micros, micros, system_clock
from huey.runtime.failpoints import failpoint
from huey.storage.base import DEAD_LETTERS_KEPT, FOREVER, LEASE, Waker
from huey.storage.helpers import any_constraints, check_records, parts_of
from huey.storage.memory.condition import NEVER, ChangeCondition
from huey.storage.memory.constraints import Locks
from huey.storage.memory.locks import SharingInMemory
from huey.storage.memory.missing import MissingInMemory
from huey.storage.memory.row import Row
from huey.storage.memory.statistics import Statistics
from huey.storage.memory.tables import Events, Revocations, Tasks, Values, remove
from huey.storage.memory.values import ValuesInMemory, end_of
from huey.storage.retention import Retention, parse_result_ttl
from huey.storage.rows import EventFactory, Features, Polling, Revocation, TaskIds, TaskName, Turn, Worker, WorkerRow
from huey.storage.stats import CANCELLED, ENQUEUED
from huey.task.lifecycle import CancelledAtClaim, Finish, State
from huey.task.record import Lease, Record
from huey.task.record_options import FIRST, read_constraints


class MemoryStorage(SharingInMemory, ValuesInMemory, MissingInMemory):
    """Tasks in this process. *result_ttl*: seconds that unread results are kept; None: for ever. *keep_finished*: so many succeeded tasks
    are kept to be looked at, or those of that time (a timedelta)."""

    features = Features(is_shared=False, supports_constraints=True)

    def __init__(
        self,
        name: str = "huey",
        *,
        clock: Clock = system_clock,
        result_ttl: float | None = 7 * 86400.0,
        keep_finished: int | timedelta = 0,
    ) -> None:
        self.name = name
        self._clock = clock
        self.result_ttl = parse_result_ttl(result_ttl)
        self._retention = Retention.of(keep_finished)
        self._changed = ChangeCondition(clock)
        self._workers: dict[str, tuple[Worker, Micros]] = {}
        self._events = Events()
        self._keep_finished = keep_finished
        self._family: dict[str, MemoryStorage] = {name: self}
        self._locks = Locks(self._is_live)
        self._tasks = Tasks()
        self._clear()

    def for_queue(self, name: str) -> MemoryStorage:
        with self._changed:
            found = self._family.get(name) or type(self)(
                name, clock=self._clock, result_ttl=self.result_ttl, keep_finished=self._keep_finished
            )
            found._family = self._family
            return self._family.setdefault(name, found)

    def _clear(self) -> None:
        # A worker may still come back with a lease of what goes here.
        self._tasks.remove(list(self._tasks.rows))
        self._tasks = Tasks(self._tasks.top_token)
        self._values = Values()
        self._ticks: dict[str, tuple[Micros, Micros]] = {}
        self._revocations = Revocations()
        self._statistics = Statistics()
        self._events.clear()
        self._clear_shared()
        self._is_paused = False

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        check_records(records)
        constrained = any_constraints(records)
        if not constrained and self._changed.postpone(lambda: self._enqueue(records, make_events, now, constrained)):
            return {}
        with self._changed:
            return self._enqueue(records, make_events, now, constrained)

    def _enqueue(
        self, records: Sequence[Record], make_events: EventFactory | None, now: Micros | None, constrained: bool
    ) -> dict[str, str]:
        now = self._now(now)
        failpoint("enqueue:before-commit")
        duplicates, inserted = self._insert_all(records, now)
        if make_events is not None and self._events.are_followed(now):
            texts = make_events()
            if constrained:
                texts = [text for record, text in zip(records, texts, strict=True) if record.id in inserted]
            self._events.publish(texts, now)
        failpoint("enqueue:after-commit")
        self._changed.notify_all()
        return duplicates

    def _insert_all(self, records: Sequence[Record], now: Micros) -> tuple[dict[str, str], set[str]]:
        """Put tasks in, of two with one id the first; for those that are not put in, the task because of which; the ids of the others."""
        duplicates: dict[str, str] = {}
        inserted: set[str] = set()
        seen: set[str] = set()
        for record in records:
            if record.id not in seen:
                seen.add(record.id)
                other = self._insert(record, now)
                if other is None:
                    inserted.add(record.id)
                elif other != record.id or record.id not in self._tasks.rows or read_constraints(record.options).own is not None:
                    duplicates[record.id] = other
        return duplicates, inserted

    def _insert(self, record: Record, now: Micros) -> str | None:
        """Put one in: None. Or because of which task it was not: itself, if its id is held or known, or who holds its key."""
        former, row = self._tasks.rows.get(record.id), Row(record, now)
        if former is not None and (not former.is_ended or row.constraints.own is None):
            return record.id
        if (other := self._keys.duplicate_of(record.id, row.constraints, now, lambda id: self._gives_way(id, now))) is not None:
            return other
        if row.constraints.own is not None:
            self._begin_again(row, former)
        row.revoked = self._revocations.hand_over(record.id, row.constraints.own, now)
        self._tasks.queue(row)
        self._keys.note(row, now)
        return None

    def _begin_again(self, row: Row, former: Row | None) -> None:
        """A new run of an id that may have had others: it begins above all their tokens, and nothing is left of them."""
        if former is not None:
            self._tasks.remove([row.record.id])
        row.token = self._tasks.top_token
        self._values.kinds.get("result", {}).pop(row.record.id, None)

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
        errors = [None if finish.error is None else json.dumps(finish.error) for finish in finishes]
        if before_io is not None:
            before_io()
        with self._changed:
            now = self._now(now)
            failpoint("turn:before-commit")
            self._renew(worker)
            written = [self._finish(worker, finish, error, now) for finish, error in zip(finishes, errors, strict=True)]
            self._keys.take(self._waiting(finish.lease for finish, is_written in zip(finishes, written, strict=True) if is_written))
            promoted = [row.label for row in self._tasks.promote(now)]
            claimed = [] if self._is_paused else self._tasks.claim(worker, want)
            is_heavy = len(claimed) < want and not self._is_paused and any(self._tasks.lanes(worker))
            cancelled = [dropped for row in claimed if (dropped := self._turn_away(row, now))]
            for row in claimed:
                self._keys.release_keys(row)
            self._events.publish(events, now)
            failpoint("turn:after-commit")
            if finishes or events:
                self._changed.notify_all()
            return Turn(
                leases=[row.lease() for row in claimed if row.state == State.RUNNING],
                stale=[finish.lease.id for finish, is_written in zip(finishes, written, strict=True) if not is_written],
                cancelled=cancelled,
                promoted=promoted if report_promoted or self._events.are_followed(now) else [],
                revoked_running=[row.record.id for row in self._tasks.held_by(worker.id) if row.is_revoked(now, self.offset)],
                next_due=self._tasks.next_due,
                may_have_more=is_heavy or len(claimed) == want > 0,
                is_paused=self._is_paused,
                is_followed=self._events.are_followed(now),
                hit_byte_limit=is_heavy,
            )

    def _finish(self, worker: Worker, finish: Finish, error: str | None, now: Micros) -> bool:
        row = self._tasks.rows.get(finish.lease.id)
        if row is None or not row.is_held_by(worker, finish.lease):
            return False
        self._tasks.end_lease(row)
        if finish.value is not None:
            self._values.put("result", row.record.id, finish.value, end_of(self.result_ttl, now))
        self._count(row, row.settle(finish, worker, error, now, self.offset), now, micros(finish.duration))
        if row.state == State.QUEUED:
            self._tasks.queue(row)
            return True
        self._has_ended(row)
        if row.state == State.SUCCEEDED and not self._retention.is_on:
            self._tasks.remove([row.record.id])
        return True

    def _waiting(self, leases: Iterable[Lease]) -> list[Row]:
        """Those that were put back."""
        rows = (self._tasks.rows.get(lease.id) for lease in leases)
        return [row for row in rows if row is not None and row.state in (State.QUEUED, State.BLOCKED)]

    def _count(self, row: Row, what: int | None, now: Micros, took: Micros = 0) -> None:
        if what is not None:
            self._statistics.count(row.record.name, what, now, took)
        if row.is_ended:
            # Until then it is counted by who looks.
            self._statistics.count(row.record.name, ENQUEUED, row.created)

    def _turn_away(self, row: Row, now: Micros) -> CancelledAtClaim | None:
        """End a task that was claimed but must not run."""
        if row.is_revoked(now, self.offset) or self._revocations.obey_name(row.record.name, now, self.offset):
            reason = "revoked"
        elif row.is_expired(now):
            reason = "expired"
        else:
            return None
        self._tasks.end_lease(row)
        row.end(State.CANCELLED, reason, now)
        self._has_ended(row)
        self._count(row, CANCELLED, now)
        id, name, retries, retry_delay = row.label
        return CancelledAtClaim(id, name, reason, retries, retry_delay)

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        with self._changed:
            freed = []
            for lease in leases:
                row = self._tasks.rows.get(lease.id)
                if row is not None and row.is_held_by(worker, lease):
                    self._tasks.end_lease(row)
                    self._tasks.queue(row)
                    freed.append(row)
            self._keys.take(freed)
            self._changed.notify_all()

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        with self._changed:
            failpoint("reclaim:before-commit")
            self._renew(worker)
            if self._workers.get(dead.worker.id) != (dead.worker, dead.until):
                return []
            taken = self._tasks.held_by(dead.worker.id)
            for row in taken:
                row.lost_by = row.lost_by or dead.worker
                self._tasks.end_lease(row)
                self._tasks.hand_to(worker.id, row)
            del self._workers[dead.worker.id]
            failpoint("reclaim:after-commit")
            return [row.lease() for row in taken]

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        with self._changed:
            for worker in workers:
                self._renew(worker)

    def _renew(self, worker: Worker) -> None:
        self._workers[worker.id] = worker, self._clock.monotonic() + LEASE

    def deregister(self, worker: Worker) -> None:
        with self._changed:
            if not self._tasks.held_by(worker.id):
                self._workers.pop(worker.id, None)

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        with self._changed:
            now = self._now(now)
            failpoint("tick:before-commit")
            if name in self._ticks and self._ticks[name][0] >= tick:
                return False
            self._ticks[name] = tick, now
            if record is not None:
                self._insert(record, now)
            self._events.publish(events, now)
            failpoint("tick:after-commit")
            self._changed.notify_all()
            return True

    def ticks(self) -> dict[str, Micros]:
        with self._changed:
            return {name: tick for name, (tick, _) in self._ticks.items()}

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        revocation = Revocation(FOREVER if until is None else until, once)
        with self._changed:
            if isinstance(target, TaskName):
                self._revocations.names[target.name] = revocation
                return
            ids, enqueue = target
            for id in ids:
                row = self._row_of(id, enqueue)
                if row is None or (enqueue is None and row.may_come_again):
                    self._revocations.put(id, enqueue, revocation, self._clock.now())
                elif not row.is_ended:
                    row.revoked = revocation

    def _row_of(self, id: str, enqueue: Micros | None) -> Row | None:
        """The row of an id, if it is that of this enqueue (None: whichever it is)."""
        row = self._tasks.rows.get(id)
        return row if row is None or enqueue is None or (row.constraints.own or FIRST) == enqueue else None

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        with self._changed:
            if isinstance(target, TaskName):
                return [target.name] if self._revocations.names.pop(target.name, None) is not None else []
            return [id for id in target.ids if self._restore(id, target.enqueue)]

    def _restore(self, id: str, enqueue: Micros | None) -> bool:
        row = self._row_of(id, enqueue)
        if row is None or (enqueue is None and row.may_come_again):
            return self._revocations.take(id, enqueue, self._clock.now()) is not None
        if row.is_ended or row.revoked is None:
            return False
        row.revoked = None
        return True

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        id, name, enqueue = parts_of(targets)
        with self._changed:
            row = None if id is None else self._row_of(id, enqueue)
            if row is not None and row.revoked is not None:
                return row.revoked
            return self._revocations.find(id, enqueue, name, self._clock.now())

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        with self._changed:
            now = self._now(now)
            requeue = [id for id in ids if self._start_over(id, now)]
            self._changed.notify_all()
            return requeue

    def _start_over(self, id: str, now: Micros) -> bool:
        row = self._tasks.rows.get(id)
        if row is None or not row.has_failed:
            return False
        self._values.kinds.get("result", {}).pop(id, None)
        again = row.reset(now)
        self._tasks.queue(again)
        self._keys.take([again])
        return True

    def discard(self, ids: Sequence[str]) -> list[str]:
        with self._changed:
            gone = [id for id in ids if (row := self._tasks.rows.get(id)) is not None and row.is_ended]
            self._tasks.remove(gone)
            for id in gone:
                self._values.kinds.get("result", {}).pop(id, None)
                self._keys.kept.pop(("id", id), None)
            return gone

    def pause(self, on: bool) -> None:
        with self._changed:
            self._is_paused = on
            self._changed.notify_all()

    # -- waking -------------------------------------------------------------------------------------------------------------------------

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        return self._changed.listen(lambda: self._until_due(worker), timeout, waker)

    def _until_due(self, worker: Worker) -> float:
        """Seconds until a turn of *worker* will find a task; not more than 0: now."""
        if self._is_paused:
            return NEVER
        if any(self._tasks.lanes(worker)):
            return 0.0
        due = self._tasks.next_due
        return NEVER if due is None else (due - self._clock.now()) / SECOND

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        with self._changed:
            return self._changed.until(lambda: any(self._values.peek("result", id, self._clock.now()) is not None for id in ids), timeout)

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        with self._changed:
            self._events.follow(self._clock.now())
            if after is None:
                return self._events.last_position, []
            self._changed.until(lambda: self._events.last_position > after, timeout)
            return self._events.last_position, self._events.since(after)

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def open(self, polling: Polling | None = None) -> int:
        return 1

    def close(self) -> None:
        """Nothing to let go: what is held lives as long as this object."""

    def prune(self, now: Micros | None = None) -> int:
        with self._changed:
            now = self._now(now)
            ended = now - DEAD_LETTERS_KEPT
            gone = self._values.prune(now) + self._revocations.prune(now) + self._events.prune(now) + self._statistics.prune(now)
            gone += self._tasks.prune_failed(ended) + self._tasks.prune_succeeded(self._retention, now) + self._prune_shared(now)
            return gone + remove(self._ticks, lambda tick: tick[1] <= ended)

    def flush(self, state: str | None = None) -> int:
        if state is not None:
            return self._drop_queued(is_scheduled=state == "scheduled")
        with self._changed:
            self._clear()
        return 0

    @property
    def is_trusted(self) -> bool:
        return True

    def _now(self, now: Micros | None) -> Micros:
        return self._clock.now() if now is None else now
