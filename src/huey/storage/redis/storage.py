"""The storage in Redis: one script for each verb, one call for each turn, any number of hosts.

keys.py describes what is stored where, lua/ what each verb does. All verbs are atomic: a script runs to its end, or writes nothing. The
verbs that read are in lookups.py, those of workers in turns.py, those that enqueue in enqueues.py, each a base class of the next; all
others are here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from huey.backends import older
from huey.exceptions import ConfigurationError, StorageRefused, StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros, Rng, micros, system_clock, system_rng
from huey.storage.base import DEAD_LETTERS_KEPT, EVENTS_KEPT, FOREVER, PRUNE, REVOCATION_KEPT
from huey.storage.helpers import CHUNK, Retention, check_keys, in_chunks, parse_result_ttl, parts_of
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.redis import keys
from huey.storage.redis.enqueues import EnqueuingStorage
from huey.storage.redis.errors import LEAST, NEEDED
from huey.storage.redis.messages import Arg, parse_revocation, text_of, whole_or
from huey.storage.redis.queue import SCHEMA_VERSION, RedisQueue, prepare, risks
from huey.storage.redis.source import connector
from huey.storage.rows import Features, Polling, Revocation, TaskIds, TaskName
from huey.storage.stats import HOURS_KEPT, MINUTES_KEPT
from huey.task.bounds import parse_number
from huey.task.workflow import ORPHANS

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")

log = logging.getLogger("huey")

ENQUEUE_TIMEOUT = 5.0
"""Seconds that an enqueue tries by default while the server is unreachable."""
OPENING = 1.0
"""Seconds that the first call tries while the server is unreachable."""
DISK_TIMEOUT_MS = 5000
"""Milliseconds that ``durable=True`` waits for the server's disk."""
STAMP = 16
"""Digits before a stored value, which say when it expires."""


class RedisStorage(EnqueuingStorage):
    """A storage in one Redis or Valkey server (6.2 or newer), which several queues and other data may share.

    Its address: *host*, *port*, *db*, *username*, *password*, *ssl*, *unix_socket_path* and any other option of ``redis.Redis``; or *url*;
    or *connection_pool*; or *client*: a ``redis.Redis``, one of a Sentinel, or a ``RedisCluster``. *durable*: enqueues and finishes are on
    the server's disk when a call returns (WAITAOF: Redis 7.2 or Valkey, with AOF on). *enqueue_timeout*: seconds for which an enqueue
    retries while the server is unreachable before it raises StorageUnavailable. *result_ttl*: seconds that unread results are kept; None:
    forever. *keep_finished*: how many succeeded tasks are kept for inspection, or for how long (a timedelta).

    All times are the server's; *clock* replaces its clock in tests.
    """

    features = Features(supports_constraints=True, supports_workflows=True)

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
        wait_for_disk = (b"WAITAOF", 1, 0, DISK_TIMEOUT_MS) if durable else None
        queue = RedisQueue(name, clock, source, wait_for_disk)
        self.result_ttl, self._retention = parse_result_ttl(result_ttl), Retention.of(keep_finished)
        super().__init__(queue, rng, enqueue_timeout, self.result_ttl, self._retention.is_on)
        self._prefix = queue.prefix
        self._is_trust_logged = False
        self._unanswered: set[str] = set()
        """Nonces of calls that may have acquired a lock, but whose reply was lost: the next renewal releases those locks."""
        # Not a method: a reference cycle would keep the connections open until the garbage collector runs.
        queue.prepare = partial(prepare, name, self._prefix, durable)

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
        """Accept the options of huey 3.x. Consumers and callers that wait for results are always woken; names are used unchanged."""
        if expire_time is not None:
            options = {"result_ttl": float(parse_number("expire_time", expire_time))} | options
        if client_name is not None and not {"client", "connection_pool"} & options.keys():
            options["client_name"] = client_name
        return cls(name, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} in {self.where}>"

    def for_queue(self, name: str) -> RedisStorage:
        return type(self)(name, **self._made_with)

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def open(self, polling: Polling | None = None) -> int:
        # A program that starts together with its server, or over a bad network, should not fail because of one lost reply.
        self._persist(lambda: self._queue.command(b"PING"), OPENING)
        return SCHEMA_VERSION

    def startup_warnings(self, processes: int, periodic: bool) -> list[str]:
        most = self._queue.most
        if most is not None and most < LEAST:
            raise ConfigurationError(
                f"{self!r}: its connection pool has max_connections={most}, and a consumer needs {NEEDED}: one to wait for tasks, one to "
                "wait for results, one for events, one for everything else; give the pool more, or leave it out"
            )
        # Repeated like the checks in `open`: a lost reply must not hide that the server evicts tasks.
        warnings: list[str] = self._persist(lambda: self._queue.use(risks, again=False), OPENING)
        try:
            return warnings + older.on_server(self._queue.command, self.name, self._queue.where)
        except StorageRefused:
            # A Redis user with access to huey's keys only: it cannot have written under the keys of earlier releases.
            return warnings
        except StorageUnavailable as error:
            if "MOVED" not in str(error):
                raise
            # A cluster. The keys of earlier releases had no hash tags, so they were never in one.
            return warnings

    def prune(self, now: Micros | None = None) -> int:
        ages = (DEAD_LETTERS_KEPT, EVENTS_KEPT, MINUTES_KEPT, HOURS_KEPT)
        kept = (*ages, self._retention.most, self._retention.age, PRUNE)
        gone: int
        gone, damaged, orphans = self._queue.call("prune", self._queue.lease_time(), *kept, now=now)
        if orphans:
            log.warning(ORPHANS, ", ".join(map(text_of, orphans)))
        if damaged:
            names = ", ".join(sorted(self._prefix + text_of(name) for name in damaged))
            found = self._queue.call("repair", self._queue.lease_time(), now=now)
            log.critical(
                "%s: keys of this queue were damaged by other programs; they were renamed to %sdamaged: (%s), and %d tasks in "
                "them were restored",
                self._queue.where, self._prefix, names, found,
            )  # fmt: skip
        return gone

    def flush(self, state: str | None = None) -> int:
        if state is None:
            self._queue.call("flush")
            return 0
        total, dropped = 0, 1
        while dropped:
            dropped = self._queue.call("drop_queued", state, CHUNK)
            total += dropped
        return total

    @property
    def is_trusted(self) -> bool:
        """True if the server is on this machine (a unix socket or a loopback address). Other users may write to any other server."""
        if self._is_local and not self._is_trust_logged:
            self._is_trust_logged = True
            log.info("%s is on this machine: pickles of any class are read from it; secret= signs them", self._queue.where)
        return self._is_local

    # -- revocation, and acts of a person -----------------------------------------------------------------------------------------------

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        limit, flag = FOREVER if until is None else until, int(once)
        if isinstance(target, TaskName):
            self._queue.command("HSET", self._prefix + keys.REVOKED_NAMES, target.name, f"{limit} {flag}")
            return
        for some in in_chunks(target.ids):
            self._queue.call("revoke", limit, flag, REVOCATION_KEPT, _or_any(target.enqueue), *some)

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        if isinstance(target, TaskName):
            return [target.name] if self._queue.command("HDEL", self._prefix + keys.REVOKED_NAMES, target.name) else []
        enqueue = _or_any(target.enqueue)
        return [id.decode() for some in in_chunks(target.ids) for id in self._queue.call("restore", enqueue, *some)]

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        id, name, enqueue = parts_of(targets)
        which = ("" if id is None else f"+{id}", "" if name is None else f"+{name}", _or_any(enqueue))
        found = self._queue.call("get_revocation", *which)
        return None if found is None else parse_revocation(found)

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        return [id.decode() for some in in_chunks(ids) for id in self._queue.call("retry", *some, now=now)]

    def discard(self, ids: Sequence[str]) -> list[str]:
        return [id.decode() for some in in_chunks(ids) for id in self._queue.call("discard", *some)]

    def keep(self, ids: Sequence[str], until: Micros) -> None:
        for some in in_chunks(ids):
            self._queue.call("keep", until, *some)

    def pause(self, on: bool) -> None:
        self._queue.call("pause", int(on))

    # -- values, locks, rates -----------------------------------------------------------------------------------------------------------

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        ttl = self.result_ttl if ttl is None and kind == "result" else ttl
        length = "" if ttl is None else micros(ttl)
        return bool(self._queue.call("put_value", kind, key, value, length, int(if_absent), once=if_absent))

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        if keys is None:
            return self._take_all(kind)
        if not keys:
            return {}
        if len(keys) > 1:
            check_keys(keys)
        values = self._queue.call("take_values", kind, int(remove), *keys)
        return {key: value[STAMP:] for key, value in zip(keys, values, strict=True) if value is not None}

    def _take_all(self, kind: str) -> dict[str, bytes]:
        found, now = self._queue.call("list_values", kind)
        pairs = zip(found[::2], found[1::2], strict=True)
        return {text_of(key): value[STAMP:] for key, value in pairs if not 0 < whole_or(int, value[:STAMP], 0) <= int(now)}

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        nonce = f"{self._rng.getrandbits(64):x}"
        who = (name, holder.id, holder.token, HOLDER, nonce, "" if ttl is None else micros(ttl))
        try:
            token: int | None = self._queue.call("acquire_lock", self._queue.lease_time(), *who)
        except StorageUnavailable:
            self._unanswered.add(nonce)
            raise
        return token

    def renew_locks(self, holder: Holder) -> int:
        lost = list(self._unanswered)
        held: int = self._queue.call("renew_locks", self._queue.lease_time(), holder.id, HOLDER, *lost)
        self._unanswered.difference_update(lost)
        return held

    def release_lock(self, name: str, token: int) -> bool:
        """Release a lock as the contract says. If the reply is lost the call is repeated, and a lock that the first one released counts as
        not held."""
        return bool(self._queue.call("release_lock", self._queue.lease_time(), name, token))

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        which = (1,) if names is None else ("", *names)
        found = self._queue.call("get_locks", self._queue.lease_time(), *which)
        return [Held(name.decode(), token, Holder(holder.decode(), int(run))) for name, token, holder, run in found]

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        """Count a hit as the contract says. If the reply is lost, the call is repeated, so a hit may count twice, but is never lost."""
        wait: int = self._queue.call("rate", name, micros(per), limit, now=now)
        return wait / SECOND

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        used: int = self._queue.call("rate", name, micros(per), "", int(reset), now=now)
        return used


class RedisExpireStorage(RedisStorage):
    """A ``RedisStorage`` in which reading a result, or user data, does not remove it: it stays until it expires."""

    features = Features(supports_constraints=True, supports_workflows=True, keeps_results=True)

    @classmethod
    def from_options(cls, name: str, *, expire_time: float | None = 86400.0, **options: Any) -> Self:
        return super().from_options(name, expire_time=expire_time, **({"result_ttl": None} if expire_time is None else {}) | options)

    def take(self, kind: str, keys: Sequence[str] | None = None, remove: bool = False) -> dict[str, bytes]:
        return super().take(kind, keys, remove and kind not in ("result", "data"))

    def flush_results(self) -> None:
        for ids in in_chunks(self.items("result")):
            super().take("result", ids, remove=True)

    def delete(self, kind: str, key: str) -> bool:
        return bool(super().take(kind, [key], remove=True))


def _or_any(enqueue: Micros | None) -> Arg:
    """Return the argument by which the scripts identify one enqueue of an id."""
    return "" if enqueue is None else enqueue
