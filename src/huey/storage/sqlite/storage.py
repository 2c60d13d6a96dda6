"""Tasks in a SQLite file: the default, nothing else to run.

WAL, ``synchronous=FULL``; one statement per transition, so that no process ever waits for another one's Python (sqlite/turn.sql). Workers
in other processes are woken through the file's time stamp. The file may be an application's own: our tables begin with ``huey_``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

from huey.exceptions import ConfigurationError
from huey.runtime.clock import Clock, Micros, Rng, micros, system_clock, system_rng
from huey.runtime.failpoints import failpoint
from huey.runtime.files import absolute, is_private
from huey.runtime.host import boot_id
from huey.runtime.owned_blocks import find
from huey.storage.base import LEASE
from huey.storage.helpers import CHUNK, Place, any_constraints, check_records, newest
from huey.storage.retention import Retention
from huey.storage.rows import EventFactory, Turn, Worker, WorkerRow
from huey.storage.sql import statements
from huey.storage.sql.finishes import ends_of
from huey.storage.sql.storage import Values
from huey.storage.sqlite.ballast import Ballast
from huey.storage.sqlite.bulk_insert import STAGED, enqueueing, many, padded, payload_bytes, resolved
from huey.storage.sqlite.busy import LockScope
from huey.storage.sqlite.notify import WakingStorage
from huey.storage.sqlite.schema import SCHEMA_VERSION, prepare
from huey.storage.sqlite.shared_files import database_of
from huey.storage.sqlite.texts import RENAME, nameable
from huey.storage.sqlite.transactions import Caller
from huey.storage.sqlite.watch import Watch
from huey.storage.unreadable import leases_from
from huey.task.lifecycle import CancelledAtClaim, Finish, Promotion
from huey.task.record import Lease, Record
from huey.task.record_options import may_have_constraints

UNIT = 128
UNIT_BYTES = 32 * 1024
"""Tasks, and bytes, that weigh as much in the log as one small commit."""
ENQUEUE_TIMEOUT = 5.0
"""Seconds that an enqueue waits for a busy file, unless told otherwise (C15)."""

_SQL = statements.load("sqlite")
_REPEATED = ("release", "deregister", "prune")
"""What a consumer does again by itself when it fails."""
_STAGE = {table: f"INSERT OR IGNORE INTO {table} VALUES {{}}" for table in ("successes", "other_finishes", "incoming")}


class SqliteStorage(WakingStorage):
    """Tasks in one SQLite file; several names may share it.

    *filename*: path of the file, made when missing with *file_mode* (0600). *fsync*: True or None keeps every commit through a power cut
    (synchronous=FULL), False only through a kill (NORMAL). *cache_mb*: SQLite's page cache per connection, MiB; *pragmas*: others, as
    pairs. *timeout*: seconds that a call waits for a busy file before it raises StorageUnavailable; nothing is lost then.
    *enqueue_timeout*: the same for enqueueing; None: 5 seconds, or *timeout* if that is shorter. *result_ttl*: seconds that unread results
    are kept; None: for ever. *allow_network*: use a file on a network file system; only one machine may ever do so. *keep_finished*: so
    many succeeded tasks are kept to be looked at, or those of that time (a timedelta).
    """

    def __init__(
        self,
        name: str = "huey",
        filename: str | os.PathLike[str] = "huey.db",
        *,
        fsync: bool | None = None,
        cache_mb: int = 8,
        pragmas: Sequence[tuple[str, str]] = (),
        timeout: float = 30.0,
        enqueue_timeout: float | None = None,
        file_mode: int = 0o600,
        result_ttl: float | None = 7 * 86400.0,
        allow_network: bool = False,
        keep_finished: int | timedelta = 0,
        clock: Clock = system_clock,
        rng: Rng = system_rng,
    ) -> None:
        self._made_with = {key: value for key, value in locals().items() if key not in ("self", "name", "filename", "__class__")}
        super().__init__(name, clock, result_ttl, Retention.of(keep_finished))
        if str(filename) in ("", ":memory:"):
            raise ConfigurationError(
                f"filename={filename!r}: a queue needs a file that processes can share; for one process use MemoryHuey"
            )
        self.filename = absolute(filename)
        self._mode = file_mode
        self._is_unnoticed = True
        """The last look found nobody who follows, and no marks of ids that nobody held."""
        self._has_room = False
        self._local = threading.local()
        self._router = object()
        """The same for the storages of all queues that one router knows: a transaction is of all."""
        self._database = database_of(
            self.filename,
            clock,
            rng,
            partial(prepare, path=self.filename, sql=_SQL),
            synchronous="NORMAL" if fsync is False else "FULL",
            pragmas="; ".join(f"PRAGMA {key} = {value}" for key, value in (("cache_size", -1024 * cache_mb), *pragmas)),
            timeout=timeout,
            enqueue_timeout=min(timeout, ENQUEUE_TIMEOUT) if enqueue_timeout is None else enqueue_timeout,
            mode=file_mode,
            allow_network=allow_network,
        )
        self._ballast = Ballast(self.filename + "-ballast", file_mode, clock)

    def __repr__(self) -> str:
        return f"<SqliteStorage {self.name!r} in {self.filename}>"

    def for_queue(self, name: str) -> SqliteStorage:
        other = type(self)(name, self.filename, **self._made_with)
        other._router = self._router
        return other

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def open(self, lock: LockScope | None = None) -> None:
        self._database.open(self.name, self, lock)

    def close(self) -> None:
        mine: tuple[tuple[int, int], Watch] | None = getattr(self._local, "watch", None)
        if mine is not None and mine[0][0] == os.getpid():
            mine[1].close()
        self._local.watch = None
        self._database.close(self)

    def migrate(self) -> int:
        self.open()
        return SCHEMA_VERSION

    def flush(self) -> None:
        self._flush_tasks()
        for table in ("result", "value", "revocation", "reservation", "periodic", "event", "follower", "stats", "lock", "rate"):
            self._database.execute(f"DELETE FROM huey_{table} WHERE queue = ?", (self._queue,))
        self.pause(False)

    @property
    def is_trusted(self) -> bool:
        if find(Caller, self._router) is None:
            # Inside a transaction the file is open, and to make a queue known would wait for that. An enqueue begins here.
            self.open(self._database.enqueue_lock)
        return is_private(self.filename, self._mode)

    # -- statements ---------------------------------------------------------------------------------------------------------------------

    @property
    def _queue(self) -> int:
        return self._number()

    def _number(self, lock: LockScope | None = None) -> int:
        """That of this queue in its file, which is opened with the patience of *lock* if need be."""
        number = self._database.queue_ids.get(self.name)
        while number is None:
            self.open(lock)
            number = self._database.queue_ids.get(self.name)
        return number

    def _read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        return self._database.read(_SQL[statement], values)

    def _write(self, statement: str, values: Values = (), *, is_durable: bool = True) -> int:
        lock = self._database.turn_lock if statement.startswith(_REPEATED) else None
        return self._database.execute(_SQL[statement], values, is_durable=is_durable, lock=lock)

    def _rouse(self) -> None:
        self._database.notify_watchers()

    def _lease_time(self) -> Micros:
        return self._clock.monotonic()

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, records: Sequence[Record], tell: EventFactory | None = None, now: Micros | None = None) -> None:
        self._put_in(records, tell, now)

    def admit(self, records: Sequence[Record], tell: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        return self._put_in(records, tell, now, have_terms=True)

    def _put_in(
        self,
        records: Sequence[Record],
        tell: EventFactory | None = None,
        now: Micros | None = None,
        *,
        have_terms: bool = False,
        syncs: bool = True,
    ) -> dict[str, str]:
        met: dict[str, str] = {}
        if not records:
            return met
        check_records(records)
        if self._ballast.glance():
            raise self._ballast.no_room()
        now = self._now(now)
        caller = find(Caller, self._router)
        if caller is not None:
            caller.enqueue(self.name, self._database.queue_ids.get(self.name), records, tell, now)
            return met
        units = 1 + len(records) // UNIT + payload_bytes(records) // UNIT_BYTES
        failpoint("enqueue:before-commit")
        have_terms = have_terms or any_constraints(records)
        if have_terms or not self._enqueue_plainly(records, now, units):
            met = self._enqueue_with_care(records, tell, now, units, have_terms)
        failpoint("enqueue:after-commit")
        # In this order: a worker may start on it while the disk is still at it. Who called hears of it when it is durable (C1).
        self._rouse()
        if syncs:
            self._database.sync()
        return met

    @contextmanager
    def using(self, connection: Any) -> Iterator[None]:
        """What this thread and asyncio task enqueue inside the block, on any queue of the file, becomes part of the transaction of
        *connection*, which is to the same file. A commit inside the block wakes workers at once; after one that comes later they look
        within a second. ConfigurationError: another file; a thread or task that inherited the block."""
        self.open()
        try:
            with Caller(self._router, connection, self.filename, _SQL):
                yield
        finally:
            self._rouse()

    @contextmanager
    def bulk_enqueue(self) -> Iterator[Place]:
        place = Place(partial(self._put_in, syncs=False), partial(self._put_in, have_terms=True, syncs=False))
        try:
            yield place
        finally:
            place.enqueue, place.admit = self.enqueue, self.admit
            self._database.sync()

    def _enqueue_plainly(self, records: Sequence[Record], now: Micros, units: int) -> bool:
        """Enqueue if that is one INSERT and no more, as nearly always. False: nothing was put in."""
        if not self._is_unnoticed:
            return False
        sql, values = enqueueing(self._number(self._database.enqueue_lock), records, now, if_unnoticed=True)
        return self._database.execute(sql, values, units, is_durable=False, lock=self._database.enqueue_lock) > 0

    def _enqueue_with_care(
        self, records: Sequence[Record], tell: EventFactory | None, now: Micros, units: int, have_terms: bool
    ) -> dict[str, str]:
        """Enqueue when it may be more than an INSERT: there are terms, somebody follows, ids that nobody held were revoked, or all records
        are held. What ``admit`` answers."""
        queue = self._number(self._database.enqueue_lock)
        with self._database.enqueue_lock:
            ((is_followed, has_marks),) = self._database.fetch(_SQL["enqueue_context"], {"queue": queue, "now": now})
            self._is_unnoticed = not is_followed and not has_marks
            told = list(tell()) if is_followed and tell is not None else []
            events, pairs = "\n".join(told) or None, None
            if have_terms and told:
                events, pairs = None, json.dumps([[record.id, text] for record, text in zip(records, told, strict=True)])
            self._ready_for_turns()
            self._stage_rows("incoming", [record[:STAGED] for record in resolved(records, now)])
            self._database.execute(_SQL["enqueue"], (queue, now, events, pairs), units, is_durable=False, lock=self._database.held)
            self._database.state.has_staged_rows = False
            return dict(self._database.fetch(_SQL["duplicates"]))

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
        crank = partial(self._crank, worker, finishes, want, events, now, report_promoted, before_io)
        return self._ballast.sparing(crank) if finishes else crank()

    def _crank(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str],
        now: Micros | None,
        report_promoted: bool,
        before_io: Callable[[], None] | None,
    ) -> Turn:
        queue, is_full, now = self._queue, self._ballast.is_short(), self._now(now)
        want = 0 if is_full else want
        # Of one task there may be two: one that an outage kept back, and one of a run that came after.
        finishes, outdated = newest(finishes)
        expires = None if self.result_ttl is None else now + micros(self.result_ttl)
        ends = ends_of(finishes, now, self.offset)
        row = (queue, *worker, now, self._lease_time() + LEASE, want, expires, "\n".join(events) or None, self._retention.is_on, *ends[3:])
        with self._database.turn_lock:
            self._ready_for_turns()
            self._stage_rows("successes", ends.done)
            self._stage_rows("other_finishes", ends.fate)
            failpoint("turn:before-commit")
            # A claim need not survive a power cut: its worker would not either, and the task would simply still be queued.
            units = 1 + (want + len(finishes)) // UNIT + ends.size // UNIT_BYTES
            if before_io is not None:
                before_io()
            self._database.execute(_SQL["turn"], row, units, is_durable=bool(finishes), lock=self._database.held)
            failpoint("turn:after-commit")
            brought = self._bring_back(queue, worker, want, now, is_full, report_promoted)
        if any(lease.options is not None and lease.is_at_most_once for lease in brought.leases):
            # Here the claim is the acknowledgement: it has to outlive a power cut.
            self._database.sync()
        if finishes or events:
            self._rouse()
        return brought._replace(stale=brought.stale + outdated) if outdated else brought

    def _ready_for_turns(self) -> None:
        """Make the temp tables and triggers of this connection, and leave nothing staged by a turn that failed."""
        database = self._database
        if not (database.writer and database.state.has_temp_schema):
            database.writer.executescript(_SQL["temporary"] + _SQL["temporary_constraints"])
            database.state.has_temp_schema = True
        elif database.state.has_staged_rows:
            for table in _STAGE:
                database.stage(f"DELETE FROM {table}")
        database.state.has_staged_rows = True

    def _stage_rows(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), CHUNK):
            full = padded(rows[start : start + CHUNK])
            self._database.stage(many(_STAGE[table], len(full[0]), len(full)), list(chain.from_iterable(full)))

    def _bring_back(self, queue: int, worker: Worker, want: int, now: Micros, is_full: bool, report_promoted: bool) -> Turn:
        """Read what the turn did. The rows are this worker's, so nobody changes them meanwhile; if it lost them, they are left out."""
        read = self._database.fetch
        self._database.state.has_staged_rows = False
        mine = {"queue": queue, "worker": worker.id, "now": now, "wall": now + self.offset}
        ((refused, promoted, claimed, next_due, is_paused, is_followed, is_asked, is_heavy),) = read(_SQL["turn_control"], mine)
        leases = nameable(leases_from(read(_SQL["turn_leases"], mine)), partial(self._rename, queue)) if claimed else []
        promoted = promoted and (is_followed or report_promoted)
        cancelled = [CancelledAtClaim._make(row) for row in read(_SQL["turn_cancelled"], mine)] if len(leases) < claimed else []
        return Turn(
            leases,
            [id for (id,) in read(_SQL["turn_stale"])] if refused else [],
            cancelled,
            [Promotion._make(row) for row in read(_SQL["turn_promoted"], (queue,))] if promoted else [],
            [id for (id,) in read(_SQL["turn_revoked"], mine)] if is_asked else [],
            next_due,
            claimed == want > 0 or bool(is_heavy),
            bool(is_paused),
            bool(is_followed),
            is_full,
            bool(is_heavy),
        )

    def _rename(self, queue: int, id: str, raw: bytes) -> None:
        self._database.execute(RENAME, (id, queue, raw), is_durable=False, lock=self._database.held)

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        self.heartbeat([worker])
        which, mine = (self._queue, dead.worker.id, dead.until, worker.id), {"queue": self._queue, "worker": worker.id}
        failpoint("reclaim:before-commit")
        leases = leases_from(self._fire("reclaim", which, ("reclaim_leases", mine)))
        failpoint("reclaim:after-commit")
        return leases

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        if not any(may_have_constraints(lease.options) for lease in leases):
            super().release(worker, leases)
            return
        pairs = json.dumps([[lease.id, lease.token] for lease in leases])
        self._fire("release_constrained", {"queue": self._queue, "worker": worker.id, "leases": pairs}, is_durable=False)
        self._rouse()

    def _put_back(self, which: dict[str, Any]) -> None:
        self._fire("retry", which)

    def _fire(
        self,
        statement: str,
        values: Values,
        answer: tuple[str, Values] | None = None,
        *,
        is_durable: bool = True,
        lock: LockScope | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement that fires one of our triggers, and read what that left, before another one does. *lock*: who waits for the file,
        by default a consumer."""
        with lock or self._database.turn_lock:
            self._ready_for_turns()
            self._database.execute(_SQL[statement], values, is_durable=is_durable, lock=self._database.held)
            self._database.state.has_staged_rows = False
            return self._database.fetch(_SQL[answer[0]], answer[1]) if answer is not None else []

    def _alive(self) -> dict[str, Any]:
        return {"clock": self._lease_time(), "host_scope": boot_id()}

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        if not self._has_room:
            self._has_room = True
            self._database.log.preallocate(self._database.execute, self._database.turn_lock)
        self._ballast.sparing(lambda: self._renew(workers))
        if workers:
            self._ballast.keep()

    def _renew(self, workers: Sequence[Worker]) -> None:
        self._database.verify_log()
        queue = self._queue
        with self._database.turn_lock:
            now, until = self._clock.now(), self._lease_time() + LEASE
            for worker in workers:
                row = (worker.id, queue, *worker[1:], now, until)
                self._database.execute(_SQL["heartbeat"], row, is_durable=False, lock=self._database.held)

    def deregister(self, worker: Worker) -> None:
        super().deregister(worker)
        if not self._read("any_worker"):
            self._ballast.drop()

    def _prune_minutes(self, when: dict[str, Any]) -> int:
        if not self._read("prune_minutes_find", when):
            return 0
        ((count,),) = self._fire("prune_minutes", when, ("prune_minutes_count", ()), is_durable=False, lock=self._database.write_lock)
        return int(count)

    def _is_gone(self, boot: str) -> bool:
        return "" != boot.partition("/")[0] != boot_id() != ""

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        if record is not None and self._ballast.is_short():
            raise self._ballast.no_room()
        now, task = self._now(now), (None,) * STAGED if record is None else record.resolved(self._now(now))[:STAGED]
        failpoint("tick:before-commit")
        ((fired,),) = self._fire("tick", (self._queue, name, tick, now, *task, "\n".join(events) or None), ("tick_fired", ()))
        failpoint("tick:after-commit")
        if fired and record is not None:
            self._rouse()
        return bool(fired)

    # -- marks --------------------------------------------------------------------------------------------------------------------------

    def _take_many(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        which = (self._queue, kind, json.dumps(list(keys)), self._clock.now())
        rows = self._fire("pop_many", which, ("popped", ()), is_durable=kind != "result", lock=self._database.write_lock)
        return {key: bytes(value) for key, value in rows}
