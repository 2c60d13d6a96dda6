"""Enqueue tasks in SQLite: by one plain INSERT or, if more has to be done, by staged rows and a trigger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from huey.runtime.clock import Clock, Micros
from huey.runtime.failpoints import failpoint
from huey.runtime.files import is_private
from huey.runtime.owned_blocks import Block, find
from huey.storage.helpers import BulkEnqueue, Retention, any_constraints, check_records
from huey.storage.rows import EventFactory
from huey.storage.sqlite.ballast import DISK_CHECK_TTL_US, Ballast
from huey.storage.sqlite.database import Database
from huey.storage.sqlite.guard import LockScope
from huey.storage.sqlite.notify import WakingStorage
from huey.storage.sqlite.staging import STAGED, UNIT, UNIT_BYTES, Staging, build_enqueue, payload_bytes, resolved, uniform_insert
from huey.storage.sqlite.syncing import rouse
from huey.storage.sqlite.transactions import CallerTransaction
from huey.task.record import Record
from huey.task.record_options import may_have_constraints


class EnqueuingStorage(WakingStorage):
    """The methods of `SqliteStorage` that enqueue."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        result_ttl: float | None,
        retention: Retention,
        database: Database,
        staging: Staging,
        ballast: Ballast,
    ) -> None:
        super().__init__(name, clock, result_ttl, retention, database)
        self._router = object()
        """The open `using` blocks, shared by the storages of all queues of one Huey: a caller's transaction covers all of them."""
        self._staging = staging
        self._ballast = ballast
        self._is_unobserved = True
        """True if the last slow enqueue found no followers, and no revocations of ids that were not held."""

    def _open(self, lock: LockScope | None = None) -> int:
        """Open the file if it is not open, within the time of *lock*, and return the number of the queue in it."""
        while (number := self._database.queue_ids.get(self.name)) is None:
            self._database.open(self.name, self, lock)
        return number

    @property
    def is_trusted(self) -> bool:
        if find(CallerTransaction, self._router) is None:
            # An enqueue begins here. Inside a transaction the file is open, and registering a queue would wait for that transaction.
            self._database.open(self.name, self, self._database.enqueue_lock)
        return is_private(self._database.path, self._database.mode)

    def enqueue(
        self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None, *, is_durable: bool = True
    ) -> dict[str, str]:
        """See `Storage.enqueue`. *is_durable* False: the caller waits for the disk itself (`Database.sync`)."""
        if type(records) is list and len(records) == 1:
            size, options = len(records[0].payload), records[0].options
            are_constrained = options is not None and may_have_constraints(options)
        else:
            check_records(records)
            if not records:
                return {}
            size, are_constrained = payload_bytes(records), any_constraints(records)
        now = self._clock.now() if now is None else now
        ballast, database, duplicates = self._ballast, self._database, dict[str, str]()
        if not 0 <= now - ballast.checked_at < DISK_CHECK_TTL_US:
            ballast.check(now)
        if ballast.was_short:
            raise ballast.no_room()
        if Block.opened and (transaction := find(CallerTransaction, self._router)) is not None:
            transaction.enqueue(self.name, database.queue_ids.get(self.name), records, make_events, now)
            return duplicates
        units = 1 + len(records) // UNIT + size // UNIT_BYTES
        failpoint("enqueue:before-commit")
        if are_constrained or not (self._is_unobserved and self._enqueue_fast(records, now, units)):
            duplicates = self._enqueue_slow(records, make_events, now, units, are_constrained)
        failpoint("enqueue:after-commit")
        # In this order: a worker may start the task while the disk is still writing. The call returns when it is durable.
        rouse(database.path)
        if is_durable:
            database.sync()
        return duplicates

    def _enqueue_fast(self, records: Sequence[Record], now: Micros, units: int) -> bool:
        """Enqueue by one INSERT, the usual case. Return False if nothing was inserted: all ids are held, or there are observers."""
        database = self._database
        queue = database.queue_ids.get(self.name) or self._open(database.enqueue_lock)
        if len(records) == 1:
            sql, values = _insert_one(queue, records[0], now)
        else:
            sql, values = build_enqueue(queue, records, now, only_if_unobserved=True)
        return database.execute(sql, values, units, is_durable=False, lock=database.enqueue_lock) > 0

    def _enqueue_slow(
        self, records: Sequence[Record], make_events: EventFactory | None, now: Micros, units: int, are_constrained: bool
    ) -> dict[str, str]:
        """Enqueue with everything that an enqueue may involve: constraints, events for followers, revocations of ids that were not held."""
        queue = self._database.queue_ids.get(self.name) or self._open(self._database.enqueue_lock)
        with self._database.enqueue_lock:
            ((is_followed, has_revocations),) = self._staging.fetch("enqueue_context", {"queue": queue, "now": now})
            self._is_unobserved = not is_followed and not has_revocations
            texts = list(make_events()) if is_followed and make_events is not None else []
            events, pairs = "\n".join(texts) or None, None
            if are_constrained and texts:
                events, pairs = None, json.dumps([[record.id, text] for record, text in zip(records, texts, strict=True)])
            self._staging.begin()
            self._staging.add("incoming", [record[:STAGED] for record in resolved(records, now)])
            self._staging.execute("enqueue", (queue, now, events, pairs), units, is_durable=False)
            return dict(self._staging.fetch("duplicates"))

    @contextmanager
    def bulk_enqueue(self) -> Iterator[BulkEnqueue]:
        bulk = BulkEnqueue(partial(self.enqueue, is_durable=False))
        try:
            yield bulk
        finally:
            bulk.enqueue = self.enqueue
            self._database.sync()


def _insert_one(queue: int, record: Record, now: Micros) -> tuple[str, list[Any]]:
    """Return the statement, and its values, that inserts one record only if it is unobserved."""
    if record.delay is not None or record.expires_in is not None:
        record = record.resolved(now)
    eta, expires, options = record.eta, record.expires, record.options
    due = eta if eta is not None and eta > now else None
    values: list[Any] = [queue, now, now, record.name, record.priority, record.retries, record.retry_delay]
    for value in (due, expires, options):
        if value is not None:
            values.append(value)
    values += (record.id, bytearray(record.payload), queue, now, queue)
    return uniform_insert(1, True, due is not None, expires is not None, options is not None), values
