"""The methods of the contract, in its order, each under one lock on plain tables.

Where another storage answers differently, this one is right. Nothing survives the process; a forked child continues with its own copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Self

from huey.runtime.clock import Clock, Micros, Rng, micros, system_clock
from huey.runtime.failpoints import failpoint
from huey.storage import rows
from huey.storage.base import DEAD_LETTERS_KEPT, LEASE, Storage, Waker
from huey.storage.helpers import Retention, any_constraints, check_keys, check_records, parse_result_ttl, parts_of
from huey.storage.locks import Held, Holder
from huey.storage.memory import edges, enqueuing, keys, locks, revocations, runs, workflows
from huey.storage.memory.condition import ChangeCondition
from huey.storage.memory.tables import Edges, Tables, end_of, expire, items, peek, pop
from huey.storage.stats import Stat
from huey.task.lifecycle import Finish
from huey.task.record import Lease, Record
from huey.task.workflow import EdgeRow, ParentEnd, TaskRef, Workflow


class MemoryStorage(Storage):
    """A storage in this process. *result_ttl*: seconds that unread results are kept; None: no limit. *keep_finished*: how many succeeded
    tasks are kept, or for how long (a timedelta)."""

    features = rows.Features(is_shared=False, supports_constraints=True, supports_workflows=True)
    is_trusted = True

    @classmethod
    def from_options(cls, name: str, *, rng: Rng | None = None, **options: Any) -> Self:
        # It needs no random numbers.
        return super().from_options(name, **options)

    def __init__(
        self,
        name: str = "huey",
        *,
        clock: Clock = system_clock,
        result_ttl: float | None = 7 * 86400.0,
        keep_finished: int | timedelta = 0,
    ) -> None:
        self.name = name
        self.result_ttl = parse_result_ttl(result_ttl)
        self.tables = Tables(name, Retention.of(keep_finished), Edges())
        self.tables.edges.queues[name] = self.tables
        self._clock = clock
        self._changed = ChangeCondition(clock)
        self._family: dict[str, MemoryStorage] = {name: self}

    def for_queue(self, name: str) -> MemoryStorage:
        with self._changed:
            if name not in self._family:
                other = self._family[name] = type(self)(name, clock=self._clock, result_ttl=self.result_ttl)
                other._join(self)
            return self._family[name]

    def is_beside(self, other: Storage) -> bool:
        return isinstance(other, MemoryStorage) and self._family is other._family

    def _join(self, other: MemoryStorage) -> None:
        """Share the edges and the lock with *other*, another queue of the store whose lock is held, since a workflow may span both."""
        self._family, self._changed = other._family, other._changed
        self.tables = Tables(self.name, other.tables.retention, other.tables.edges)
        self.tables.edges.queues[self.name] = self.tables

    def _now(self, now: Micros | None) -> Micros:
        return self._clock.now() if now is None else now

    def enqueue(self, records: Sequence[Record], make_events: rows.EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        check_records(records)
        if not any_constraints(records) and self._changed.postpone(lambda: self._enqueue(records, make_events, now)):
            return {}
        with self._changed:
            return self._enqueue(records, make_events, now)

    def _enqueue(self, records: Sequence[Record], make_events: rows.EventFactory | None, now: Micros | None) -> dict[str, str]:
        failpoint("enqueue:before-commit")
        duplicates = enqueuing.enqueue(self.tables, records, make_events, self._now(now))
        failpoint("enqueue:after-commit")
        self._changed.notify_all()
        return duplicates

    def enqueue_workflow(
        self, workflow: Workflow, make_events: rows.EventFactory | None = None, now: Micros | None = None
    ) -> dict[TaskRef, str]:
        for ref in workflow.refs:
            self.for_queue(ref.queue)
        with self._changed:
            failpoint("enqueue_workflow:before-commit")
            stand_ins, _ = workflows.enqueue(self.tables.edges, workflow, make_events, self._now(now))
            failpoint("enqueue_workflow:after-commit")
            self._changed.notify_all()
            return stand_ins

    def parent_ends(self, id: str, after: int = -1) -> list[ParentEnd]:
        with self._changed:
            return edges.parent_ends(self.tables, id, after)

    def edges(self, ids: Sequence[str]) -> list[EdgeRow]:
        with self._changed:
            return edges.edge_rows(self.tables, ids)

    def turn(
        self,
        worker: rows.Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str] = (),
        now: Micros | None = None,
        report_promoted: bool = False,
        before_io: Callable[[], None] | None = None,
    ) -> rows.Turn:
        ends = [(finish, None if finish.error is None else json.dumps(finish.error)) for finish in finishes]
        if before_io is not None:
            before_io()
        with self._changed:
            now = self._now(now)
            failpoint("turn:before-commit")
            self._renew(worker)
            turn = runs.turn(self.tables, worker, ends, want, end_of(self.result_ttl, now), now, self.offset)
            self.tables.events.publish(events, now)
            failpoint("turn:after-commit")
            if finishes or events or turn.opened:
                self._changed.notify_all()
            return turn if report_promoted or turn.is_followed else turn._replace(promoted=[])

    def release(self, worker: rows.Worker, leases: Sequence[Lease]) -> None:
        with self._changed:
            keys.hold(self.tables, [lease.id for lease in leases if runs.release(self.tables, worker, lease)])
            self._changed.notify_all()

    def missing(self) -> list[rows.Missing]:
        with self._changed:
            return sorted({self.tables.tasks.rows[id].missing for id in self.tables.tasks.missing})

    def claim_missing(self, worker: rows.Worker, missing: Sequence[rows.Missing], want: int, now: Micros | None = None) -> list[Lease]:
        with self._changed:
            self._renew(worker)
            claimed = runs.claim_missing(self.tables, worker, missing, want, self._now(now))
            self._changed.notify_all()
            return [row.lease() for row in claimed]

    def reclaim(self, dead: rows.WorkerRow, worker: rows.Worker) -> list[Lease]:
        with self._changed:
            failpoint("reclaim:before-commit")
            self._renew(worker)
            if self.tables.workers.get(dead.worker.id) != (dead.worker, dead.until):
                return []
            taken = runs.take_over(self.tables, dead.worker, worker)
            failpoint("reclaim:after-commit")
            return [row.lease() for row in taken]

    def heartbeat(self, workers: Sequence[rows.Worker]) -> None:
        with self._changed:
            for worker in workers:
                self._renew(worker)

    def _renew(self, worker: rows.Worker) -> None:
        self.tables.workers[worker.id] = worker, self._clock.monotonic() + LEASE

    def deregister(self, worker: rows.Worker) -> None:
        with self._changed:
            if not self.tables.tasks.held_by(worker.id):
                self.tables.workers.pop(worker.id, None)

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        with self._changed:
            now = self._now(now)
            failpoint("tick:before-commit")
            if not enqueuing.tick(self.tables, name, tick, record, now):
                return False
            self.tables.events.publish(events, now)
            failpoint("tick:after-commit")
            self._changed.notify_all()
            return True

    def ticks(self) -> dict[str, Micros]:
        with self._changed:
            return {name: tick for name, (tick, _) in self.tables.ticks.items()}

    def revoke(self, target: rows.TaskIds | rows.TaskName, until: Micros | None = None, once: bool = False) -> None:
        with self._changed:
            revocations.revoke(self.tables, target, until, once, self._clock.now())

    def restore(self, target: rows.TaskIds | rows.TaskName) -> list[str]:
        with self._changed:
            return revocations.restore(self.tables, target, self._clock.now())

    def get_revocation(self, *targets: rows.TaskIds | rows.TaskName) -> rows.Revocation | None:
        with self._changed:
            return revocations.find(self.tables, *parts_of(targets), self._clock.now())

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        with self._changed:
            requeued = runs.start_over(self.tables, ids, self._now(now))
            self._changed.notify_all()
            return requeued

    def discard(self, ids: Sequence[str]) -> list[str]:
        with self._changed:
            return runs.discard(self.tables, ids)

    def keep(self, ids: Sequence[str], until: Micros) -> None:
        with self._changed:
            runs.keep(self.tables, ids, until)

    def pause(self, on: bool) -> None:
        with self._changed:
            self.tables.is_paused = on
            self._changed.notify_all()

    def listen(self, worker: rows.Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        return self._changed.listen(lambda: self._until_due(worker), timeout, waker)

    def _until_due(self, worker: rows.Worker) -> float:
        return self.tables.seconds_until_due(worker, self._clock.now())

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        with self._changed:
            return self._changed.until(lambda: self.tables.has_result(ids, self._clock.now()), timeout)

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        with self._changed:
            self.tables.events.follow(self._clock.now())
            if after is None:
                return self.tables.events.last_position, []
            self._changed.until(lambda: self.tables.events.last_position > after, timeout)
            return self.tables.events.last_position, self.tables.events.since(after)

    def find(
        self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None
    ) -> list[rows.TaskRow]:
        with self._changed:
            return self.tables.tasks.find(state, name, limit, ids)

    def counts(self) -> rows.Counts:
        with self._changed:
            return self.tables.counts(self._clock.now())

    def queues(self) -> list[str]:
        return sorted(self._family)

    def stats(self, since: Micros) -> list[Stat]:
        with self._changed:
            return self.tables.stats(since)

    def workers(self) -> list[rows.WorkerRow]:
        with self._changed:
            return self.tables.worker_rows(self._clock.monotonic())

    def leases(self, worker: rows.Worker) -> list[Lease]:
        with self._changed:
            return [row.lease() for row in self.tables.tasks.held_by(worker.id)]

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        with self._changed:
            values, now = self.tables.values[kind], self._clock.now()
            if if_absent and peek(values, key, now) is not None:
                return False
            values[key] = value, end_of(self.result_ttl if ttl is None and kind == "result" else ttl, now)
            self._changed.notify_all()
            return True

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        with self._changed:
            values, now = self.tables.values[kind], self._clock.now()
            if keys is None:
                return items(values, now)
            check_keys(keys)
            return {key: value for key in keys if (value := (pop if remove else peek)(values, key, now)) is not None}

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        with self._changed:
            return locks.acquire(self.tables, name, holder, ttl, self._clock.monotonic())

    def renew_locks(self, holder: Holder) -> int:
        with self._changed:
            return locks.renew(self.tables, holder, self._clock.monotonic())

    def release_lock(self, name: str, token: int) -> bool:
        with self._changed:
            return locks.release(self.tables, name, token, self._clock.monotonic())

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        with self._changed:
            return locks.held(self.tables, names, self._clock.monotonic())

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        with self._changed:
            return locks.hit(self.tables, name, limit, micros(per), self._now(now))

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        with self._changed:
            return locks.uses(self.tables, name, micros(per), self._now(now), reset)

    def open(self, polling: rows.Polling | None = None) -> int:
        return 1

    def close(self) -> None:
        """Do nothing: the tasks live as long as this object."""

    def prune(self, now: Micros | None = None) -> int:
        with self._changed:
            now, tables = self._now(now), self.tables
            ended = now - DEAD_LETTERS_KEPT
            gone = sum(expire(values, now) for values in tables.values.values()) + expire(tables.ticks, ended)
            gone += tables.tasks.prune_failed(ended) + tables.tasks.prune_succeeded(tables.retention, now)
            gone += tables.events.prune(now) + tables.statistics.prune(now) + keys.prune(tables, now) + tables.tasks.ready.prune(now)
            edges.forget_gone(tables)
            edges.settle(tables.edges, now)
            return gone + revocations.prune(tables, now) + locks.prune(tables, now, self._clock.monotonic())

    def flush(self, state: str | None = None) -> int:
        with self._changed:
            now = self._clock.now()
            if state is not None:
                count = runs.remove_waiting(self.tables, now, scheduled=state == "scheduled")
                self._changed.notify_all()
                return count
            self.tables = self.tables.edges.queues[self.name] = self.tables.flushed()
            edges.forget_gone(self.tables)
            edges.skip(self.tables, [ref.id for ref in self.tables.edges.open if ref.queue == self.name])
            while self.tables.edges.ended:
                edges.settle(self.tables.edges, now)
            self._changed.notify_all()
            return 0


class BlackHoleStorage(MemoryStorage):
    """A storage that accepts all tasks and returns none. Options as for ``MemoryStorage``."""

    def enqueue(self, records: Sequence[Record], make_events: rows.EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        return super().enqueue(records[:0], make_events, now)

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        return super().tick(name, tick, None, (), now) and record is None

    def revoke(self, target: rows.TaskIds | rows.TaskName, until: Micros | None = None, once: bool = False) -> None:
        """Do nothing: no task will ever have these ids."""

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        """Discard the value and return True."""
        return True
