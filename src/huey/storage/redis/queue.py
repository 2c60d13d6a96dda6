"""A queue on a server, shared by the parts of a Redis storage. And checks of a server before it is used: can it keep huey's promises, and
is the queue's prefix free of foreign keys?
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.exceptions import StorageError, StorageRefused, StorageUnavailable
from huey.runtime.clock import Clock, system_clock
from huey.storage.redis import keys
from huey.storage.redis.connection import HARMLESS, REPLY_TIMEOUT, CommandConnection, checked, run
from huey.storage.redis.errors import LEAST_VERSION, NoneLeft, unreachable
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import shared
from huey.storage.redis.scripts import script
from huey.storage.redis.source import CLUSTER, Source

SCHEMA_VERSION = 1
_WAITAOF_VERSION = (7, 2)


class RedisQueue:
    """One queue: its name, its time, and its connections, which are those of its pool after the server was checked for this queue.
    *durable*: the command that waits for the server's disk, or None."""

    def __init__(self, name: str, clock: Clock, source: Source, durable: tuple[Arg, ...] | None) -> None:
        self.name = name
        self.prefix = keys.prefix(name)
        self.clock = clock
        self.has_own_clock = clock is not system_clock
        self.durable = durable
        self.is_followed = False
        """Whether the last call that asked found a follower of events."""
        self.pool = shared(source)
        self.where = source.where
        self.is_in_cluster = source.where == CLUSTER
        self.most = source.most
        self.prepare: Callable[[CommandConnection], None] = lambda connection: None
        """Called before the first call, and again after a lost connection."""
        self._prepared_in = -1
        self.reply_timeout = REPLY_TIMEOUT
        """Seconds that a reply may take."""

    def now(self, now: Arg | None = None) -> Arg:
        """Return the time for a script: empty for the server's own clock, unless a test gives a time."""
        if now is not None:
            return now
        return self.clock.now() if self.has_own_clock else b""

    def lease_time(self) -> Arg:
        """Return the time for leases, which use a clock that is never set back."""
        return self.clock.monotonic() if self.has_own_clock else b""

    # -- calls --------------------------------------------------------------------------------------------------------------------------

    def call(
        self,
        verb: str,
        *arguments: Arg,
        now: Arg | None = None,
        before: tuple[tuple[Arg, ...], ...] = (),
        after: tuple[Arg, ...] | None = None,
        once: bool = False,
        soon: bool = False,
    ) -> Any:
        """Run a script with the queue's prefix, the time and *arguments*, and return its answer. *before*, *after*: commands in the same
        packet, whose replies are only checked for errors. *once*: do not repeat it after a lost reply, although the verb can be repeated in
        general. *soon*: the reply is expected at once."""
        command = (self.prefix, self.now(now), *arguments)
        return self.use(lambda connection: run(connection, script(verb), command, before, after, soon=soon), verb in HARMLESS and not once)

    def command(self, *command: Arg) -> Any:
        """Send one plain command that can safely be repeated, and return its answer."""

        def act(connection: CommandConnection) -> Any:
            connection.send(command)
            return checked(connection, connection.read())

        return self.use(act, True)

    def use(self, act: Callable[[CommandConnection], Any], again: bool) -> Any:
        """Call *act* with a connection and return its value; if the connection is lost, *again* says whether to repeat it once with a new
        one."""
        connection = None
        try:
            connection = self.take()
            answer = act(connection)
        except NoneLeft:
            raise
        except BaseException as error:
            self._take_back(connection, error)
            if again and isinstance(error, StorageUnavailable):
                return self.use(act, False)
            raise
        self.pool.release(connection)
        return answer

    def _take_back(self, connection: CommandConnection | None, error: BaseException) -> None:
        """Take a connection back after an error: if that is an answer of the server, the connection can be used again."""
        if isinstance(error, StorageUnavailable) or not isinstance(error, StorageError):
            self.pool.drop(connection)
        elif connection is not None:
            self.pool.release(connection)

    # -- connections ---------------------------------------------------------------------------------------------------------------------

    def take(self) -> CommandConnection:
        """Lend a connection."""
        connection = self.pool.take()
        if self._prepared_in != self.pool.epoch:
            self._prepare(connection)
        return connection

    def _prepare(self, connection: CommandConnection) -> None:
        self.pool.users.add(self)
        epoch = self.pool.epoch
        try:
            self.prepare(connection)
        except BaseException as error:
            self._take_back(connection, error)
            raise
        self._prepared_in = epoch
        self.reply_timeout = connection.reply_timeout

    def keep(self) -> CommandConnection:
        """Lend a connection that this thread keeps."""
        connection = self.take()
        self.pool.keep(connection)
        return connection

    def close(self) -> None:
        """Close the connections unless another queue uses them. The next call checks the server again."""
        self._prepared_in = -1
        self.pool.release_user(self)


def prepare(name: str, prefix: str, durable: bool, connection: CommandConnection) -> None:
    """Register the queue *name*. Raise StorageRefused if the server is too old, cannot keep the guarantees, or has foreign data under the
    queue's keys."""
    facts = _facts(connection, b"server", b"persistence", b"memory")
    if "redis_version" not in facts:
        raise unreachable(connection.where, ValueError("its answer to INFO is not that of a Redis server"))
    version = tuple(int(part) for part in facts["redis_version"].split(".") if part.isdigit())
    shown = ".".join(map(str, version))
    if version[:2] < LEAST_VERSION:
        raise StorageRefused(f"{connection.where}: this server is Redis {shown}; huey needs 6.2 or newer, or Valkey")
    if durable and version[:2] < _WAITAOF_VERSION:
        raise StorageRefused(
            f"{connection.where}: durable=True needs WAITAOF, and this server is Redis {shown}: take 7.2 or newer or Valkey, or configure "
            "'appendfsync always' there and leave durable= out"
        )
    if durable and facts.get("aof_enabled") != "1":
        raise StorageRefused(f"{connection.where}: durable=True needs a server with 'appendonly yes'")
    policy, most = _eviction(facts)
    if policy.startswith("allkeys") and most > 0:
        raise StorageRefused(
            f"{connection.where}: this server evicts keys, tasks too, when it is full (maxmemory-policy {policy}, maxmemory {most} bytes); "
            "set 'maxmemory-policy noeviction' there, or take a server of its own for the queue"
        )
    connection.send((b"SISMEMBER", keys.QUEUES, name))
    is_known = bool(checked(connection, connection.read()))
    names = list(keys.TYPES)
    connection.send(*((b"TYPE", prefix + name) for name in names))
    types = [connection.read() for _ in names]
    for each, found in zip(names, types, strict=True):
        kind = checked(connection, found)
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if kind not in ("none", keys.TYPES[each]):
            if is_known:
                # In a queue that was used before, this is damage: the next script that uses the key sets it aside.
                continue
            raise StorageRefused(
                f"{connection.where}: the key {prefix + each} holds a {kind} that huey did not put there; "
                "remove it, or use another name or db="
            )
    connection.send((b"SADD", keys.QUEUES, name))
    checked(connection, connection.read())


def risks(connection: CommandConnection) -> list[str]:
    """Return warnings about settings with which this server may lose tasks."""
    policy, most = _eviction(_facts(connection, b"memory"))
    if policy.startswith("allkeys"):
        return [
            f"{connection.where}: maxmemory-policy {policy} lets the server evict tasks as soon as a maxmemory is set (it is {most}); "
            "set 'maxmemory-policy noeviction' there"
        ]
    if policy.startswith("volatile"):
        return [
            f"{connection.where}: maxmemory-policy {policy} lets the server evict what has a time to live, such as the "
            "wake-ups of callers that wait for a result; set 'maxmemory-policy noeviction' there"
        ]
    return []


def _eviction(facts: dict[str, str]) -> tuple[str, int]:
    """Return the policy, and the memory limit at which it acts (0: none). A server that reports neither does not evict."""
    most = facts.get("maxmemory", "0")
    return facts.get("maxmemory_policy", ""), int(most) if most.isdigit() else 0


def _facts(connection: CommandConnection, *sections: bytes) -> dict[str, str]:
    """Return the facts that INFO reports."""
    connection.send(*((b"INFO", section) for section in sections))
    replies = [connection.read() for _ in sections]
    facts: dict[str, str] = {}
    for reply in replies:
        text = checked(connection, reply)
        for line in (text.decode() if isinstance(text, bytes) else text).splitlines():
            name, _, value = line.partition(":")
            facts[name] = value
    return facts
