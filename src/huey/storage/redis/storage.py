"""Tasks in Redis: one script for each verb, one call for each turn, any number of hosts.

keys.py says what is kept where, lua/ what each verb does. All verbs are atomic: a script runs whole, or writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from huey.backends import older
from huey.exceptions import ConfigurationError, StorageError, StorageRefused, StorageUnavailable
from huey.runtime.clock import Clock, Micros, Rng, micros, system_clock, system_rng
from huey.runtime.failpoints import failpoint
from huey.storage.base import Storage, Waker
from huey.storage.helpers import CHUNK, BulkEnqueue, any_constraints, check_records, in_chunks
from huey.storage.locks import Held, Holder
from huey.storage.redis import keys
from huey.storage.redis.connection import CommandConnection, checked
from huey.storage.redis.errors import LEAST, NEEDED
from huey.storage.redis.leases import Leases
from huey.storage.redis.locks import Locks
from huey.storage.redis.lookups import Lookups
from huey.storage.redis.messages import Arg, groups, groups_of_one, single
from huey.storage.redis.notifications import Notifications
from huey.storage.redis.pipeline import EnqueueCall, EnqueuePipeline
from huey.storage.redis.pool import ConnectionSet
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.revocations import Revocations
from huey.storage.redis.sequences import EnqueueSequences
from huey.storage.redis.server import SCHEMA_VERSION, check, risks
from huey.storage.redis.source import connector
from huey.storage.redis.turns import Turns
from huey.storage.redis.upkeep import Upkeep
from huey.storage.redis.values import Values
from huey.storage.retention import Retention, parse_result_ttl
from huey.storage.rows import Counts, EventFactory, Missing, Revocation, TaskIds, TaskName, TaskRow, Turn, Worker, WorkerRow
from huey.storage.stats import Stat
from huey.task.bounds import parse_number
from huey.task.lifecycle import Finish
from huey.task.record import Lease, Record

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
log = logging.getLogger("huey")

ENQUEUE_TIMEOUT = 5.0
"""Seconds that an enqueue tries while the server is away, unless told otherwise (C15)."""
FIRST_GAP, LONGEST_GAP = 0.05, 0.5
"""Seconds between two tries."""
OPENING = 1.0
"""Seconds that the first call tries."""
NOT_SIMPLE = 2
"""What lua/enqueue_one.lua answers when it has put nothing in."""
DISK_TIMEOUT = 5000
"""Milliseconds that ``durable=True`` waits for the server's disk."""


class RedisStorage(Storage):
    """Tasks in one Redis or Valkey server (6.2 or newer); several names may share it, and other data.

    *host*, *port*, *db*, *username*, *password*, *ssl*, *unix_socket_path* and whatever else ``redis.Redis`` takes; or *url*; or
    *connection_pool*; or *client*: a ``redis.Redis``, one of a Sentinel, or a ``RedisCluster``. *durable*: what is enqueued or finished is
    on the server's disk when a call returns (WAITAOF: Redis 7.2 or Valkey, with AOF on). *enqueue_timeout*: seconds that an enqueue tries
    while the server is away before it raises StorageUnavailable. *result_ttl*: seconds that unread results are kept; None: for ever.
    *keep_finished*: so many succeeded tasks are kept to be looked at, or those of that time (a timedelta).

    The server's clock counts; *clock* replaces it in tests.
    """

    supports_constraints = True

    def __init__(
        self,
        name: str = "huey",
        *,
        durable: bool = False,
        enqueue_timeout: float = ENQUEUE_TIMEOUT,
        result_ttl: float | None = 7 * 86400.0,
        keep_finished: int | timedelta = 0,
        clock: Clock = system_clock,
        rng: Rng = system_rng,
        **connection: Any,
    ) -> None:
        made_with = {key: value for key, value in locals().items() if key not in ("self", "name", "connection", "__class__")}
        self._made_with = made_with | connection
        source = connector(name, connection)
        self._is_local = source.is_local
        self._durable: tuple[Arg, ...] | None = (b"WAITAOF", 1, 0, DISK_TIMEOUT) if durable else None
        self._queue = queue = RedisQueue(name, clock, ConnectionSet(source), self._durable)
        self.name = name
        self.result_ttl = parse_result_ttl(result_ttl)
        self._connections, self._prefix, self._now = queue.connections, queue.prefix, queue.now
        self._clock = clock
        self._rng = rng
        self._enqueue_timeout = enqueue_timeout
        self._is_trust_logged = False
        self._sequences = EnqueueSequences(clock, rng)
        retention = Retention.of(keep_finished)
        self._leases = Leases(queue)
        self._turns = Turns(queue, self._leases, self.result_ttl, retention.is_on)
        self._notifications = Notifications(queue)
        self._revocations = Revocations(queue)
        self._lookups = Lookups(queue)
        self._values = Values(queue, self.result_ttl)
        self._locks = Locks(queue, rng)
        self._upkeep = Upkeep(queue, retention)
        # No method: both would wait for the collector of garbage with their connections open.
        self._connections.prepare = partial(_prepare, self._prefix, name, durable)

    @classmethod
    def from_options(
        cls,
        name: str,
        *,
        blocking: bool = True,
        read_timeout: float | None = None,
        notify_result: bool = True,
        notify_result_ttl: float | None = None,
        clean_name: bool = True,
        client_name: str | None = None,
        expire_time: float | None = None,
        **options: Any,
    ) -> Self:
        """Those of 3.x are taken. A consumer is woken, and so is who waits for a result; names are kept as they are."""
        if expire_time is not None:
            options = {"result_ttl": float(parse_number("expire_time", expire_time))} | options
        if client_name is not None and not {"client", "connection_pool"} & options.keys():
            options["client_name"] = client_name
        return cls(name, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} in {self._connections.where}>"

    def for_queue(self, name: str) -> RedisStorage:
        return type(self)(name, **self._made_with)

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def open(self) -> int:
        # A program that starts beside its server, or over a bad line, should not end for an answer that got lost.
        self._persist(lambda: self._connections.command(b"PING"), OPENING)
        return SCHEMA_VERSION

    def close(self) -> None:
        self._connections.close()
        self._turns.forget_listeners()

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        most = self._connections.most
        if most is not None and most < LEAST:
            raise ConfigurationError(
                f"{self!r}: its connection pool has max_connections={most}, and a consumer needs {NEEDED}: one to wait for tasks, one to "
                "wait for results, one for events, one for everything else; give the pool more, or leave it out"
            )
        connection = self._connections.take()
        try:
            told = risks(connection)
        except BaseException:
            self._connections.drop(connection)
            raise
        self._connections.release(connection)
        try:
            return told + older.on_server(self._connections.command, self.name, self._connections.where)
        except StorageRefused:
            # A user with rights on our keys alone, who cannot have put anything under those.
            return told
        except StorageUnavailable as error:
            if "MOVED" not in str(error):
                raise
            # The keys of earlier releases had no hash tags, so those never used a cluster.
            return told

    def prune(self, now: Micros | None = None) -> int:
        return self._upkeep.prune(now)

    def flush(self) -> None:
        self._queue.call("flush")

    @property
    def is_trusted(self) -> bool:
        """The server is on this machine: a unix socket or a loopback address. Others may write into any other one (S1)."""
        if self._is_local and not self._is_trust_logged:
            self._is_trust_logged = True
            log.info("%s is on this machine: pickles of any class are read from it; secret= signs them", self._connections.where)
        return self._is_local

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, records: Sequence[Record], make_events: EventFactory | None = None, now: Micros | None = None) -> dict[str, str]:
        return self._enqueue_by(self._submit, records, make_events, now)

    def _enqueue_by(
        self,
        put: Callable[[EnqueueCall], None],
        records: Sequence[Record],
        make_events: EventFactory | None = None,
        now: Micros | None = None,
    ) -> dict[str, str]:
        if not records:
            return {}
        check_records(records)
        if any_constraints(records):
            return self._enqueue_constrained(records, make_events, now)
        arguments = groups(records)
        one = single(arguments) if len(records) == 1 else None
        call = EnqueueCall(
            len(records), (self._prefix, self._now(now), int(make_events is not None), self.name), arguments, make_events, one
        )
        failpoint("enqueue:before-commit")
        if self._queue.is_followed or self._durable is not None:
            put = self._submit
        put(call)
        failpoint("enqueue:after-commit")
        return {}

    @contextmanager
    def bulk_enqueue(self) -> Iterator[BulkEnqueue]:
        pipeline = EnqueuePipeline(self._connections, self._sequences, self._submit, self._send)
        bulk = BulkEnqueue(partial(self._enqueue_by, pipeline.submit))
        try:
            yield bulk
        except BaseException:
            # What was raised is told, not what becomes of the rest.
            with suppress(StorageError):
                pipeline.drain()
            raise
        finally:
            bulk.enqueue = self.enqueue
        pipeline.drain()

    def _submit(self, call: EnqueueCall) -> None:
        """Enqueue what the server has not seen yet."""
        sequence = self._sequences.take()
        self._send(call, sequence.id, sequence.number())
        self._sequences.release(sequence)

    def _send(self, call: EnqueueCall, *sent: Arg) -> None:
        """Enqueue under a number (*sent*: producer and number), again and again while no answer comes: it is done once."""
        self._persist(lambda: self._enqueue(call, sent), self._enqueue_timeout)

    def _enqueue(self, call: EnqueueCall, sent: tuple[Arg, ...]) -> None:
        if call.single is not None and not self._queue.is_followed:
            to = self.name if call.make_events is not None else ""
            if self._connections.call("enqueue_one", *call.head[:2], to, *sent, *call.single, after=self._durable, soon=True) != NOT_SIMPLE:
                return
        if not (self._queue.is_followed and call.make_events is not None):
            self._queue.is_followed = bool(self._connections.call("enqueue", *call.head, *sent, 0, *call.arguments, after=self._durable))
        if self._queue.is_followed and call.make_events is not None:
            prefix, now, _, channel = call.head
            events = list(call.make_events())
            told: list[Arg] = [*sent, len(events), *events]
            self._queue.is_followed = bool(
                self._connections.call("enqueue", prefix, now, 2, channel, *told, *call.arguments, after=self._durable)
            )

    def _enqueue_constrained(self, records: Sequence[Record], make_events: EventFactory | None, now: Micros | None) -> dict[str, str]:
        arguments = groups_of_one(records)
        failpoint("enqueue:before-commit")
        sequence = self._sequences.take()
        sent = (sequence.id, sequence.number())
        found = self._persist(lambda: self._send_constrained(arguments, make_events, self._now(now), sent), self._enqueue_timeout)
        self._sequences.release(sequence)
        failpoint("enqueue:after-commit")
        return {id.decode(): other.decode() for id, other in zip(found[::2], found[1::2], strict=True)}

    def _send_constrained(self, arguments: list[Arg], make_events: EventFactory | None, now: Arg, sent: tuple[Arg, ...]) -> list[bytes]:
        """Ids that were not put in, each with the one because of which."""
        knows = make_events is not None and self._queue.is_followed
        events = make_events() if knows and make_events is not None else []
        head = (self._prefix, now, 2 if knows else int(make_events is not None), self.name, *sent, len(events))
        is_followed, duplicates = self._connections.call("enqueue_constrained", *head, *events, *arguments, after=self._durable)
        self._queue.is_followed = bool(is_followed)
        if is_followed and make_events is not None and not knows:
            return self._send_constrained(arguments, make_events, now, sent)
        found: list[bytes] = duplicates
        return found

    def _persist(self, act: Callable[[], T], seconds: float) -> T:
        """Do what is done once however often it is sent, again and again while no answer comes, for so long."""
        until, gap, is_unknown = None, FIRST_GAP, False
        while True:
            try:
                return act()
            except StorageUnavailable as error:
                is_unknown = error.is_unknown = error.is_unknown or is_unknown
                now = self._clock.monotonic()
                until = until or now + micros(seconds)
                if now + micros(gap) >= until:
                    raise
            self._clock.sleep(gap * (0.5 + self._rng.random() / 2))
            gap = min(2 * gap, LONGEST_GAP)

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
        return self._turns.turn(worker, finishes, want, events, now, report_promoted, before_io)

    def listen(self, worker: Worker, timeout: float, waker: Waker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        return self._turns.listen(worker, timeout, waker, prefetch, report_promoted)

    def deregister(self, worker: Worker) -> None:
        self._turns.deregister(worker)

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        self._leases.release(worker, leases)

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        return self._leases.claim_missing(worker, missing, want, now)

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        return self._leases.reclaim(dead, worker)

    def heartbeat(self, workers: Sequence[Worker]) -> None:
        self._leases.heartbeat(workers)

    def leases(self, worker: Worker) -> list[Lease]:
        return self._leases.held_by(worker)

    # -- waiting for results and events -------------------------------------------------------------------------------------------------

    def wait(self, ids: Sequence[str], timeout: float | None) -> bool:
        return self._notifications.wait(ids, timeout)

    def follow(self, after: int | None, timeout: float = 0.0) -> tuple[int, list[str]]:
        return self._notifications.follow(after, timeout)

    # -- revocation, and acts of a person -----------------------------------------------------------------------------------------------

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        self._revocations.revoke(target, until, once)

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        return self._revocations.restore(target)

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        return self._revocations.get_revocation(*targets)

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        return [id.decode() for some in in_chunks(ids) for id in self._queue.call("retry", *some, now=now)]

    def discard(self, ids: Sequence[str]) -> list[str]:
        return [id.decode() for some in in_chunks(ids) for id in self._queue.call("discard", *some)]

    def drop_waiting(self, *, scheduled: bool) -> int:
        kind, total, dropped = "scheduled" if scheduled else "ready", 0, 1
        while dropped:
            dropped = self._queue.call("drop_queued", kind, CHUNK)
            total += dropped
        return total

    def pause(self, on: bool) -> None:
        self._queue.call("pause", int(on))

    # -- reading ------------------------------------------------------------------------------------------------------------------------

    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        return self._lookups.find(state, name, limit) if ids is None else self._lookups.get(ids)

    def missing(self) -> list[Missing]:
        return self._lookups.missing()

    def counts(self) -> Counts:
        return self._lookups.counts()

    def queues(self) -> list[str]:
        self.open()
        return sorted(name.decode() for name in self._connections.command("SMEMBERS", keys.QUEUES))

    def stats(self, since: Micros) -> list[Stat]:
        return self._lookups.stats(since)

    def workers(self) -> list[WorkerRow]:
        return self._lookups.workers()

    # -- values, locks, rates -----------------------------------------------------------------------------------------------------------

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        return self._values.put(kind, key, value, ttl, if_absent)

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        return self._values.take(kind, keys, remove)

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        return self._locks.acquire_lock(name, holder, ttl)

    def renew_locks(self, holder: Holder) -> int:
        return self._locks.renew_locks(holder)

    def release_lock(self, name: str, token: int) -> bool:
        return self._locks.release_lock(name, token)

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        return self._locks.locks(names)

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        return self._locks.hit_rate_limit(name, limit, per, now)

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        return self._locks.rate(name, per, now, reset)

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    def ticks(self) -> dict[str, Micros]:
        return self._lookups.ticks()

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        failpoint("tick:before-commit")
        task = [] if record is None else groups([record])
        head = (self._prefix, self._now(now), name, tick, self.name)
        fired = self._connections.call("tick", *head, len(events), *events, *task, after=self._durable)
        failpoint("tick:after-commit")
        return bool(fired)


def _prepare(prefix: str, name: str, durable: bool, connection: CommandConnection) -> None:
    check(connection, name, prefix, durable)
    connection.send((b"SADD", keys.QUEUES, name))
    checked(connection, connection.read())
