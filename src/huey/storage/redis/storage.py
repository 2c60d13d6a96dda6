"""Tasks in Redis: one script for each verb, one call for each turn, any number of hosts.

keys.py says what is kept where, lua/ what each verb does. All verbs are atomic: a script runs whole, or writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from huey.backends import older
from huey.exceptions import ConfigurationError, StorageError, StorageRefused, StorageUnavailable
from huey.runtime.clock import Clock, Micros, Rng, micros, system_clock, system_rng
from huey.runtime.failpoints import failpoint
from huey.storage.base import Waker
from huey.storage.helpers import Place, any_constraints, check_records
from huey.storage.redis import keys
from huey.storage.redis.connection import CommandConnection, checked
from huey.storage.redis.errors import LEAST, NEEDED
from huey.storage.redis.leases import Leases
from huey.storage.redis.messages import Arg, groups, groups_of_one, single
from huey.storage.redis.notifications import Notifications
from huey.storage.redis.pipeline import EnqueueCall, EnqueuePipeline
from huey.storage.redis.pool import ConnectionSet
from huey.storage.redis.queue import RedisQueue
from huey.storage.redis.sequences import EnqueueSequences
from huey.storage.redis.server import SCHEMA_VERSION, check, risks
from huey.storage.redis.sharing import SharingVerbs
from huey.storage.redis.source import connector
from huey.storage.redis.turns import Turns
from huey.storage.retention import Retention
from huey.storage.rows import EventFactory, Missing, Turn, Worker, WorkerRow
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


class RedisStorage(SharingVerbs):
    """Tasks in one Redis or Valkey server (6.2 or newer); several names may share it, and other data.

    *host*, *port*, *db*, *username*, *password*, *ssl*, *unix_socket_path* and whatever else ``redis.Redis`` takes; or *url*; or
    *connection_pool*; or *client*: a ``redis.Redis``, one of a Sentinel, or a ``RedisCluster``. *durable*: what is enqueued or finished is
    on the server's disk when a call returns (WAITAOF: Redis 7.2 or Valkey, with AOF on). *enqueue_timeout*: seconds that an enqueue tries
    while the server is away before it raises StorageUnavailable. *result_ttl*: seconds that unread results are kept; None: for ever.
    *keep_finished*: so many succeeded tasks are kept to be looked at, or those of that time (a timedelta).

    The server's clock counts; *clock* replaces it in tests.
    """

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
        queue = RedisQueue(name, clock, ConnectionSet(source), self._durable)
        super().__init__(queue, result_ttl, Retention.of(keep_finished))
        self._clock = clock
        self._rng = rng
        self._enqueue_timeout = enqueue_timeout
        self._is_trust_logged = False
        self._unanswered = set()
        self._sequences = EnqueueSequences(clock, rng)
        self._leases = Leases(queue)
        self._turns = Turns(queue, self._leases, self.result_ttl, self._retention.is_on)
        self._notifications = Notifications(queue)
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

    def open(self) -> None:
        # A program that starts beside its server, or over a bad line, should not end for an answer that got lost.
        self._persist(lambda: self._connections.command(b"PING"), OPENING)

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
        self._connections.give_back(connection)
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

    def migrate(self) -> int:
        self.open()
        return SCHEMA_VERSION

    @property
    def is_trusted(self) -> bool:
        """The server is on this machine: a unix socket or a loopback address. Others may write into any other one (S1)."""
        if self._is_local and not self._is_trust_logged:
            self._is_trust_logged = True
            log.info("%s is on this machine: pickles of any class are read from it; secret= signs them", self._connections.where)
        return self._is_local

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, records: Sequence[Record], tell: EventFactory | None = None, now: Micros | None = None) -> None:
        self._enqueue_by(self._submit, records, tell, now)

    def _enqueue_by(
        self, put: Callable[[EnqueueCall], None], records: Sequence[Record], tell: EventFactory | None = None, now: Micros | None = None
    ) -> None:
        if not records:
            return
        check_records(records)
        if any_constraints(records):
            self.admit(records, tell, now)
            return
        arguments = groups(records)
        one = single(arguments) if len(records) == 1 else None
        call = EnqueueCall(len(records), (self._prefix, self._now(now), int(tell is not None), self.name), arguments, tell, one)
        failpoint("enqueue:before-commit")
        if self._queue.is_followed or self._durable is not None:
            put = self._submit
        put(call)
        failpoint("enqueue:after-commit")

    @contextmanager
    def bulk_enqueue(self) -> Iterator[Place]:
        pipeline = EnqueuePipeline(self._connections, self._sequences, self._submit, self._send)
        place = Place(partial(self._enqueue_by, pipeline.submit), self.admit)
        try:
            yield place
        except BaseException:
            # What was raised is told, not what becomes of the rest.
            with suppress(StorageError):
                pipeline.drain()
            raise
        finally:
            place.enqueue = self.enqueue
        pipeline.drain()

    def _submit(self, call: EnqueueCall) -> None:
        """Enqueue what the server has not seen yet."""
        sequence = self._sequences.take()
        self._send(call, sequence.id, sequence.number())
        self._sequences.give_back(sequence)

    def _send(self, call: EnqueueCall, *sent: Arg) -> None:
        """Enqueue under a number (*sent*: producer and number), again and again while no answer comes: it is done once."""
        self._persist(lambda: self._enqueue(call, sent), self._enqueue_timeout)

    def _enqueue(self, call: EnqueueCall, sent: tuple[Arg, ...]) -> None:
        if call.single is not None and not self._queue.is_followed:
            to = self.name if call.tell is not None else ""
            if self._connections.call("enqueue_one", *call.head[:2], to, *sent, *call.single, after=self._durable, soon=True) != NOT_SIMPLE:
                return
        if not (self._queue.is_followed and call.tell is not None):
            self._queue.is_followed = bool(self._connections.call("enqueue", *call.head, *sent, 0, *call.arguments, after=self._durable))
        if self._queue.is_followed and call.tell is not None:
            prefix, now, _, channel = call.head
            events = list(call.tell())
            told: list[Arg] = [*sent, len(events), *events]
            self._queue.is_followed = bool(
                self._connections.call("enqueue", prefix, now, 2, channel, *told, *call.arguments, after=self._durable)
            )

    def admit(self, records: Sequence[Record], tell: EventFactory | None = None, now: Micros | None = None) -> Mapping[str, str]:
        if not records:
            return {}
        check_records(records)
        arguments = groups_of_one(records)
        failpoint("enqueue:before-commit")
        sequence = self._sequences.take()
        sent = (sequence.id, sequence.number())
        found = self._persist(lambda: self._admit(arguments, tell, self._now(now), sent), self._enqueue_timeout)
        self._sequences.give_back(sequence)
        failpoint("enqueue:after-commit")
        met = zip(found[::2], found[1::2], strict=True)
        return {id.decode(): other.decode() for id, other in met}

    def _admit(self, arguments: list[Arg], tell: EventFactory | None, now: Arg, sent: tuple[Arg, ...]) -> list[bytes]:
        """Ids that were not put in, each with the one because of which."""
        knows = tell is not None and self._queue.is_followed
        events = tell() if knows and tell is not None else []
        head = (self._prefix, now, 2 if knows else int(tell is not None), self.name, *sent, len(events))
        is_followed, met = self._connections.call("enqueue_constrained", *head, *events, *arguments, after=self._durable)
        self._queue.is_followed = bool(is_followed)
        if is_followed and tell is not None and not knows:
            return self._admit(arguments, tell, now, sent)
        found: list[bytes] = met
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

    def is_followed(self) -> bool:
        return self._notifications.is_followed()

    def publish(self, events: Sequence[str]) -> None:
        self._notifications.publish(events)

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

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
