"""The storage in a SQLite file: the default, without a server to run.

It uses WAL, `synchronous=FULL` and one statement per change of state, so that no process ever waits for the Python code of another
(sql/turn.sql). Closing the log wakes workers in other processes. It may be an application's file: huey's tables begin with `huey_`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from huey.exceptions import ConfigurationError
from huey.runtime.clock import Clock, Micros, Rng, system_clock, system_rng
from huey.runtime.failpoints import failpoint
from huey.runtime.files import absolute
from huey.runtime.host import boot_id
from huey.runtime.owned_blocks import find
from huey.storage.base import LEASE, Storage
from huey.storage.helpers import Retention, check_keys
from huey.storage.rows import EventFactory, Polling, Turn, Worker, WorkerRow
from huey.storage.sql.storage import Values, load_statements
from huey.storage.sqlite.ballast import Ballast
from huey.storage.sqlite.enqueuing import EnqueuingStorage
from huey.storage.sqlite.schema import SCHEMA_VERSION, prepare
from huey.storage.sqlite.shared_files import database_of
from huey.storage.sqlite.staging import STAGED, Staging
from huey.storage.sqlite.syncing import rouse
from huey.storage.sqlite.transactions import CallerTransaction
from huey.storage.sqlite.turns import Turns
from huey.storage.sqlite.watch import Watch
from huey.storage.sqlite.workflows import Workflows
from huey.storage.unreadable import leases_from
from huey.task.lifecycle import Finish
from huey.task.record import Lease, Record
from huey.task.record_options import may_have_constraints
from huey.task.workflow import EdgeRow, ParentEnd, TaskRef, Workflow

ENQUEUE_TIMEOUT = 5.0
"""The default number of seconds that an enqueue waits for a busy file."""

_SQL = load_statements("sqlite")
_REPEATED = ("release", "deregister", "prune")
"""Statements that a consumer repeats when they fail."""


class SqliteStorage(EnqueuingStorage):
    """A storage in one SQLite file, which several queues may share.

    *filename*: path of the file, created if missing with *file_mode* (0600). *fsync*: True or None: every commit survives a power failure
    (synchronous=FULL); False: it survives only a killed process (NORMAL). *cache_mb*: SQLite's page cache per connection in MiB; *pragmas*:
    more pragmas, as pairs. *timeout*: seconds that a call waits for a busy file before it raises StorageUnavailable; nothing is lost then.
    *enqueue_timeout*: the same for an enqueue; None: 5 seconds, or *timeout* if that is shorter. *result_ttl*: seconds for which unread
    results are kept; None: no limit. *allow_network*: accept a file on a network file system; only one machine may ever use it.
    *keep_finished*: number, or age (a timedelta), of succeeded tasks that are kept for inspection.
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
        if str(filename) in ("", ":memory:"):
            raise ConfigurationError(
                f"filename={filename!r}: a queue needs a file that processes can share; for a single process use MemoryHuey"
            )
        self.filename = absolute(filename)
        self._is_preallocated = False
        database = database_of(
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
        ballast = Ballast(self.filename + "-ballast", file_mode, clock)
        super().__init__(name, clock, result_ttl, Retention.of(keep_finished), database, Staging(database, _SQL), ballast)
        self._workflows = Workflows(database, self._staging, _SQL)
        self._turns = Turns(database, self._staging, self._workflows, ballast, clock, self.result_ttl, self._retention.is_on)

    def __repr__(self) -> str:
        return f"<SqliteStorage {self.name!r} in {self.filename}>"

    def for_queue(self, name: str) -> SqliteStorage:
        other = type(self)(name, self.filename, **self._made_with)
        other._router = self._router
        return other

    def is_beside(self, other: Storage) -> bool:
        return isinstance(other, SqliteStorage) and os.path.realpath(self.filename) == os.path.realpath(other.filename)

    def open(self, polling: Polling | None = None) -> int:
        self._database.open(self.name, self)
        return SCHEMA_VERSION

    def close(self) -> None:
        mine: tuple[tuple[int, int], Watch] | None = getattr(self._local, "watch", None)
        if mine is not None and mine[0][0] == os.getpid():
            mine[1].close()
        self._local.watch = None
        self._database.close(self)

    def flush(self, state: str | None = None) -> int:
        if state is not None:
            which = {"queue": self._queue, "scheduled": state == "scheduled", "now": self._clock.now()}
            ((dropped,),) = self._staging.fire("drop_pending", which, ("dropped", ()))
            self._rouse()
            return int(dropped)
        self._flush_tasks()
        for table in ("result", "value", "revocation", "reservation", "periodic", "event", "follower", "stats", "lock", "rate", "window"):
            self._database.execute(f"DELETE FROM huey_{table} WHERE queue = ?", (self._queue,))
        for statement in ("flush_edges", "flush_parents"):
            self._write(statement, {"queue": self._queue})
        while self._workflows.settle(self._clock.now()):
            pass
        self.pause(False)
        return 0

    # -- statements ---------------------------------------------------------------------------------------------------------------------

    @property
    def _queue(self) -> int:
        return self._database.queue_ids.get(self.name) or self._open()

    def _read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        return self._database.read(_SQL[statement], values)

    def _write(self, statement: str, values: Values = (), *, is_durable: bool = True) -> int:
        lock = self._database.turn_lock if statement.startswith(_REPEATED) else None
        return self._database.execute(_SQL[statement], values, is_durable=is_durable, lock=lock)

    def _rouse(self) -> None:
        rouse(self._database.path)

    def _lease_time(self) -> Micros:
        return self._clock.monotonic()

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue_workflow(
        self, workflow: Workflow, make_events: EventFactory | None = None, now: Micros | None = None
    ) -> dict[TaskRef, str]:
        if self._ballast.is_short():
            raise self._ballast.no_room()
        if find(CallerTransaction, self._router) is not None:
            raise ConfigurationError("using(connection): a workflow cannot be part of another transaction; enqueue it before or after")
        assert self._queue
        stand_ins = self._workflows.enqueue(workflow, make_events, self._now(now))
        self._rouse()
        self._database.sync()
        return stand_ins

    def parent_ends(self, id: str, after: int = -1) -> list[ParentEnd]:
        return self._workflows.parent_ends(self._queue, id, after)

    def edges(self, ids: Sequence[str]) -> list[EdgeRow]:
        return self._workflows.edges(self._queue, ids)

    @contextmanager
    def using(self, connection: Any) -> Iterator[None]:
        """Enqueue the calls of this thread and asyncio task inside the block, on any queue of the file, in the transaction of *connection*,
        which must be to the same file.

        A commit inside the block wakes workers at once; after a later one they check within a second. Raise ConfigurationError for another
        file, and in a thread or task that inherited the block.
        """
        self.open()
        try:
            with CallerTransaction(self._router, connection, self.filename, _SQL):
                yield
        finally:
            self._rouse()

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
        row = (self._queue, worker, finishes, want, events, self._now(now), self.offset, report_promoted, before_io)
        turn = self._ballast.sparing(partial(self._turns.turn, *row)) if finishes else self._turns.turn(*row)
        if finishes or events or turn.opened:
            self._rouse()
        return turn

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        self.heartbeat([worker])
        which, mine = (self._queue, dead.worker.id, dead.until, worker.id), {"queue": self._queue, "worker": worker.id}
        failpoint("reclaim:before-commit")
        leases = leases_from(self._staging.fire("reclaim", which, ("reclaim_leases", mine)))
        failpoint("reclaim:after-commit")
        return leases

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        if not any(may_have_constraints(lease.options) for lease in leases):
            super().release(worker, leases)
            return
        pairs = json.dumps([[lease.id, lease.token] for lease in leases])
        self._staging.fire("release_constrained", {"queue": self._queue, "worker": worker.id, "leases": pairs}, is_durable=False)
        self._rouse()

    def _requeue(self, which: dict[str, Any]) -> None:
        self._staging.fire("retry", which)

    def _alive(self) -> dict[str, Any]:
        return {"clock": self._lease_time(), "host_scope": boot_id()}

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        if not self._is_preallocated:
            self._is_preallocated = True
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

    def prune(self, now: Micros | None = None) -> int:
        return super().prune(now) + self._workflows.settle(self._now(now))

    def _prune_minutes(self, when: dict[str, Any]) -> int:
        if not self._read("prune_minutes_find", when):
            return 0
        lock = self._database.write_lock
        ((count,),) = self._staging.fire("prune_minutes", when, ("prune_minutes_count", ()), is_durable=False, lock=lock)
        return int(count)

    def _is_gone(self, boot: str) -> bool:
        return "" != boot.partition("/")[0] != boot_id() != ""

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        if record is not None and self._ballast.is_short():
            raise self._ballast.no_room()
        now, task = self._now(now), (None,) * STAGED if record is None else record.resolved(self._now(now))[:STAGED]
        failpoint("tick:before-commit")
        ((fired,),) = self._staging.fire("tick", (self._queue, name, tick, now, *task, "\n".join(events) or None), ("tick_fired", ()))
        failpoint("tick:after-commit")
        if fired and record is not None:
            self._rouse()
        return bool(fired)

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        table = "result" if kind == "result" else "value"
        which = {"queue": self._queue, "kind": kind, "now": self._clock.now()}
        if keys is None:
            return {key: bytes(value) for key, value in self._read(table + "_items", which)}
        if len(keys) > 1:
            check_keys(keys)
            if remove:
                many = (self._queue, kind, json.dumps(list(keys)), which["now"])
                lock, is_durable = self._database.write_lock, kind != "result"
                rows = self._staging.fire("pop_many", many, ("popped", ()), is_durable=is_durable, lock=lock)
                return {key: bytes(value) for key, value in rows}
        found: dict[str, bytes] = {}
        for key in keys:
            while rows := self._read(table + "_peek", which | {"key": key}):
                value = bytes(rows[0][0])
                # Unless another caller was faster. A fetched result that reappears after a power failure does no harm.
                if not remove or self._write(table + "_take", which | {"key": key, "value": value}, is_durable=kind != "result"):
                    found[key] = value
                    break
        return found
