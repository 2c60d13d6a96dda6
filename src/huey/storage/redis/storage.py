"""Tasks in Redis: one script for each verb, one call for each turn, any number of hosts.

keys.py says what is kept where, lua/ what each verb does. All verbs are atomic: a script runs whole, or writes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from huey.clock import Clock, Micros, Rng, micros, system_clock, system_rng
from huey.exceptions import StorageError, StorageFull, StorageUnavailable
from huey.lifecycle import Finish
from huey.seams import crash_here
from huey.storage.base import CHUNK, Tell, Turn, Worker, WorkerRow
from huey.storage.fencing import newest
from huey.storage.redis import keys
from huey.storage.redis.ahead import Ahead, Chunk
from huey.storage.redis.connection import Wire, Wires, checked
from huey.storage.redis.ends import details, ends_of, too_heavy, who
from huey.storage.redis.messages import Arg, groups, groups_of_one, lease_of, new_leases, promotion_of, refusal_of
from huey.storage.redis.server import SCHEMA_VERSION, check, connector
from huey.storage.redis.sharing import SharingVerbs
from huey.storage.redis.waking import WakingVerbs, lanes_of
from huey.storage.retention import Retention
from huey.storage.sharing import any_terms
from huey.task import Lease, Record

T = TypeVar("T")
log = logging.getLogger("huey")

ENQUEUE_TIMEOUT = 5.0
"""Seconds that an enqueue tries while the server is away, unless told otherwise (C15)."""
FIRST_GAP, LONGEST_GAP = 0.05, 0.5
"""Seconds between two tries."""
DISK_TIMEOUT = 5000
"""Milliseconds that ``durable=True`` waits for the server's disk."""


class RedisStorage(WakingVerbs, SharingVerbs):
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
        connect, where, self._is_local = connector(name, connection)
        super().__init__(name, clock, result_ttl, Retention.of(keep_finished), Wires(connect, where))
        self._rng = rng
        self._enqueue_timeout = enqueue_timeout
        self._durable: tuple[Arg, ...] | None = (b"WAITAOF", 1, 0, DISK_TIMEOUT) if durable else None
        self._is_followed = False
        """What the last call said about followers of events."""
        self._is_told = False
        self._unanswered = set()
        self._local = threading.local()
        self._wires.prepare = self._prepare

    def __repr__(self) -> str:
        return f"<RedisStorage {self.name!r} in {self._wires.where}>"

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def _prepare(self, wire: Wire) -> None:
        check(wire, self._prefix, self._durable is not None)
        wire.send((b"SADD", keys.QUEUES, self.name))
        checked(wire, wire.read())

    def open(self) -> None:
        self._wires.command(b"PING")

    def close(self) -> None:
        self._wires.close()
        self._local = threading.local()

    def migrate(self) -> int:
        self.open()
        return SCHEMA_VERSION

    @property
    def is_trusted(self) -> bool:
        """The server is on this machine: a unix socket or a loopback address. Others may write into any other one (S1)."""
        if self._is_local and not self._is_told:
            self._is_told = True
            log.info("%s is on this machine: pickles of any class are read from it; secret= signs them", self._wires.where)
        return self._is_local

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def enqueue(self, records: Sequence[Record], tell: Tell | None = None, now: Micros | None = None) -> None:
        if not records:
            return
        if any_terms(records):
            self.admit(records, tell, now)
            return
        if len(records) > CHUNK:
            raise ValueError(f"{len(records)} records: one enqueue takes at most {CHUNK}; use in_chunks")
        chunk = Chunk(len(records), (self._prefix, self._now(now), int(tell is not None), self.name, 0), groups(records), tell)
        crash_here("enqueue:before-commit")
        ahead: Ahead | None = getattr(self._local, "ahead", None)
        if ahead is None or self._is_followed or self._durable is not None:
            self._put_in(chunk)
        else:
            ahead.put(chunk)
        crash_here("enqueue:after-commit")

    @contextmanager
    def durable_at_end(self) -> Iterator[None]:
        ahead = self._local.ahead = Ahead(self._wires, self._put_in)
        try:
            yield
        except BaseException:
            self._local.ahead = None
            # What was raised is told, not what becomes of the rest.
            with suppress(StorageError):
                ahead.end()
            raise
        self._local.ahead = None
        ahead.end()

    def _put_in(self, chunk: Chunk) -> None:
        self._persist(lambda: self._enqueue(chunk))

    def _enqueue(self, chunk: Chunk) -> None:
        if not (self._is_followed and chunk.tell is not None):
            self._is_followed = bool(self._wires.call("enqueue", *chunk.head, *chunk.arguments, after=self._durable))
        if self._is_followed and chunk.tell is not None:
            prefix, now, _, channel, _ = chunk.head
            events = list(chunk.tell())
            head = (prefix, now, 2, channel, len(events))
            self._is_followed = bool(self._wires.call("enqueue", *head, *events, *chunk.arguments, after=self._durable))

    def admit(self, records: Sequence[Record], tell: Tell | None = None, now: Micros | None = None) -> Mapping[str, str]:
        if not records:
            return {}
        if len(records) > CHUNK:
            raise ValueError(f"{len(records)} records: one enqueue takes at most {CHUNK}; use in_chunks")
        arguments = groups_of_one(records)
        crash_here("enqueue:before-commit")
        found = self._persist(lambda: self._admit(arguments, tell, self._now(now)))
        crash_here("enqueue:after-commit")
        met = zip(found[::2], found[1::2], strict=True)
        return {id.decode(): other.decode() for id, other in met if id != other}

    def _admit(self, arguments: list[Arg], tell: Tell | None, now: Arg) -> list[bytes]:
        """Ids that were not put in, each with the one because of which."""
        knows = tell is not None and self._is_followed
        events = tell() if knows and tell is not None else []
        head = (self._prefix, now, 2 if knows else int(tell is not None), self.name, len(events))
        is_followed, met = self._wires.call("admit", *head, *events, *arguments, after=self._durable)
        self._is_followed = bool(is_followed)
        if is_followed and tell is not None and not knows:
            return self._admit(arguments, tell, now)
        found: list[bytes] = met
        return found

    def _persist(self, act: Callable[[], T]) -> T:
        """Do what is harmless when done twice, again and again while the server is away, up to ``enqueue_timeout``."""
        until, gap = None, FIRST_GAP
        while True:
            try:
                return act()
            except StorageUnavailable:
                now = self._clock.monotonic()
                until = until or now + micros(self._enqueue_timeout)
                if now + micros(gap) >= until:
                    raise
            self._clock.sleep(gap * (0.5 + self._rng.random() / 2))
            gap = min(2 * gap, LONGEST_GAP)

    def turn(self, worker: Worker, finishes: Sequence[Finish], want: int, events: Sequence[str] = (), now: Micros | None = None) -> Turn:
        # Of one task there may be two: one that an outage kept back, and one of a run that came after.
        finishes, refused = newest(finishes) if len(finishes) > 1 else (finishes, [])
        for part in too_heavy(finishes):
            refused += self.turn(worker, part, 0, (), now).refused
            finishes = finishes[len(part) :]
        is_full = False
        crash_here("turn:before-commit")
        while True:
            counts, ends = ends_of(finishes, self._retention.is_on) if finishes else ([0, 0, 0, 0, 1], [])
            head = (self._prefix, self._now(now), self._lease_time(), worker.id, details(worker), who(worker), lanes_of(worker), want)
            ttl = "" if self._result_ttl is None else micros(self._result_ttl)
            sizes = (ttl, int(is_full), self.name, len(events), *counts)
            try:
                answer = self._wires.call("turn", *head, *sizes, *events, *ends, before=self._unblock(), after=self._durable)
            except StorageFull:
                if is_full:
                    raise
                is_full = True
                continue
            if answer[0] == 0:
                break
            gone = {id.decode() for id in answer[1]}
            refused += [finish.lease.id for finish in finishes if finish.lease.id in gone]
            finishes = [finish for finish in finishes if finish.lease.id not in gone]
        crash_here("turn:after-commit")
        return self._brought(answer, want, refused, is_full)

    def _brought(self, answer: list[Any], want: int, refused: list[str], is_full: bool) -> Turn:
        ids, messages = answer[1], answer[2]
        if len(answer) < 5:
            self._is_followed = False
            leases = new_leases(ids, messages)
            return Turn(leases, refused, more=len(leases) == want > 0 or len(answer) > 3, is_full=is_full)
        states, cancelled, promoted, stop, soonest, is_paused, is_followed, is_filled = answer[3:]
        self._is_followed = bool(is_followed)
        return Turn(
            [lease_of(id, message, state) for id, message, state in zip(ids, messages, states, strict=True)],
            refused,
            [refusal_of(each) for each in cancelled],
            [promotion_of(each) for each in promoted],
            [id.decode() for id in stop],
            int(float(soonest)) if soonest else None,
            bool(is_filled),
            bool(is_paused),
            bool(is_followed),
            is_full,
        )

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        for start in range(0, len(leases), CHUNK):
            pairs: list[Arg] = [part for lease in leases[start : start + CHUNK] for part in (lease.id, lease.token)]
            self._wires.call("release", self._prefix, self._now(), worker.id, *pairs)

    def reclaim(self, dead: WorkerRow, worker: Worker) -> list[Lease]:
        crash_here("reclaim:before-commit")
        heir = (worker.id, details(worker))
        whose = (dead.worker.id, dead.until, who(dead.worker))
        found = self._wires.call("reclaim", self._prefix, self._now(), self._lease_time(), *heir, *whose, after=self._durable)
        crash_here("reclaim:after-commit")
        return [lease_of(*each) for each in zip(*found, strict=True)]

    def beat(self, workers: Sequence[Worker]) -> None:
        if workers:
            known = [part for worker in workers for part in (worker.id, details(worker))]
            self._wires.call("beat", self._prefix, self._now(), self._lease_time(), *known)

    def goodbye(self, worker: Worker) -> None:
        self._wires.call("goodbye", self._prefix, self._now(), worker.id)

    # -- periodic -----------------------------------------------------------------------------------------------------------------------

    def tick(self, name: str, tick: Micros, record: Record | None, events: Sequence[str] = (), now: Micros | None = None) -> bool:
        crash_here("tick:before-commit")
        task = [] if record is None else groups([record])
        head = (self._prefix, self._now(now), name, tick, self.name)
        fired = self._wires.call("tick", *head, len(events), *events, *task, after=self._durable)
        crash_here("tick:after-commit")
        return bool(fired)
