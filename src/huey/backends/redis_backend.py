"""The components of a 0.4.9 queue in Redis: a list, a hash, a sorted set, a channel. Redis 6.2 or newer, or Valkey; not for a cluster.

    huey.queue.<name>               list      messages, the next one at the right
    huey.results.<name>             hash      values by key
    huey.scheduled.<name>           zset      messages by time, microseconds since 1970
    <key>.held.<worker>             list      messages that a worker holds
    <key>.workers                   hash      a text about each of these workers
    <key>.ticks                     hash      the last tick of each periodic task
    <channel>                       channel   events, under the channel's unchanged name

Names are quoted as in a URL, dots too, and never stripped, so two names never share a key. Messages of earlier releases are stored under
other keys, ``huey.redis.<name>`` and ``huey.schedule.<name>``, and stay there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from huey.backends import base, older
from huey.backends.base import Acknowledging, BaseDataStore, BaseEventEmitter, BaseQueue, BaseSchedule, Data, Part, Ticking, micros_of
from huey.exceptions import ConfigurationError
from huey.utils import EmptyData


def _client(connection: dict[str, Any]) -> Any:
    """Return a client, which connects at its first use. Raise ConfigurationError without redis-py, or for an unknown option."""
    try:
        import redis
    except ImportError as error:
        raise ConfigurationError("the Redis components need the Redis client for Python: pip install redis hiredis") from error
    try:
        return redis.Redis(**connection)
    except TypeError as error:
        raise ConfigurationError(f"{error}: the keywords after the name go to redis.Redis; see its documentation") from error


class _InRedis(Part):
    """A component in Redis. *connection* goes to ``redis.Redis``."""

    _kind: str

    def __init__(self, name: str, **connection: Any) -> None:
        super().__init__(name, **connection)
        self.conn = _client(connection)
        self._scripts: dict[str, Any] = {}
        # A dot separates the parts of a key.
        self._key = f"huey.{self._kind}.{quote(name, safe='').replace('.', '%2E')}"

    @property
    def is_trusted(self) -> bool:
        """Whether the server is on this machine: loopback or a unix socket."""
        where = self.conn.connection_pool.connection_kwargs
        return bool(where.get("path")) or _is_loopback(str(where.get("host", "localhost")))

    def _run(self, script: str, keys: list[str], *values: Any) -> Any:
        if script not in self._scripts:
            # It sends the whole text if the server has forgotten it.
            text = files("huey.backends").joinpath("lua", f"{script}.lua").read_text("utf-8")
            self._scripts[script] = self.conn.register_script(text)
        return self._scripts[script](keys=keys, args=values)

    def flush(self) -> None:
        self.conn.delete(self._key)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Held(_InRedis, Acknowledging):
    """Common base of queue and schedule."""

    def _held(self, holder: str) -> str:
        return f"{self._key}.held.{holder}"

    def ack(
        self,
        holder: str,
        data: Data,
        instead: Data | None = None,
        *,
        first: bool = False,
        successor: str | None = None,
        timestamp: datetime | None = None,
    ) -> bool:
        where, (how, at) = self._key, self._requeue(first, timestamp)
        if successor is not None:
            where, how, at = self._held(successor), "LPUSH", 0
        return bool(self._run("ack", [self._held(holder), where], data, "" if instead is None else how, instead or "", at))

    def _requeue(self, first: bool, timestamp: datetime | None) -> tuple[str, int]:
        """Return the command that stores a message here again, and its time."""
        raise NotImplementedError

    def held(self, holder: str) -> list[Data]:
        return list(reversed(self.conn.lrange(self._held(holder), 0, -1)))

    def register(self, holder: str, text: str) -> None:
        self.conn.hset(f"{self._key}.workers", holder, text)

    def registered(self) -> dict[str, str]:
        return {_text(id): _text(text) for id, text in self.conn.hgetall(f"{self._key}.workers").items()}

    def deregister(self, holder: str) -> None:
        # Only a holder itself, or its successor, adds to its messages.
        if not self.conn.llen(self._held(holder)):
            self.conn.hdel(f"{self._key}.workers", holder)

    def flush(self) -> None:
        super().flush()
        for holder in self.registered():
            self.conn.delete(self._held(holder))


class RedisQueue(_Held, BaseQueue, Ticking):
    """A queue in a Redis list, read with RPOP by polling. *connection* goes to ``redis.Redis``."""

    _kind = "queue"

    def startup_warnings(self) -> list[str]:
        return older.on_server(self.conn.execute_command, self.name, "Redis")

    def write(self, data: Data) -> None:
        self.conn.lpush(self._key, data)

    def write_many(self, messages: Sequence[Data]) -> None:
        """Append messages in order, atomically."""
        self.conn.lpush(self._key, *messages)

    def read(self) -> Data | None:
        message: Data | None = self.conn.rpop(self._key)
        return message

    def remove(self, data: Data) -> int:
        return int(self.conn.lrem(self._key, 0, data))

    def __len__(self) -> int:
        return int(self.conn.llen(self._key))

    def claim(self, holder: str, limit: int, timestamp: datetime | None = None) -> list[Data]:
        move = (self._key, self._held(holder), "RIGHT", "LEFT")
        with self.conn.pipeline(transaction=False) as pipeline:
            pipeline.lmove(*move)
            pipeline.llen(self._key)
            first, left = pipeline.execute()
            for _ in range(min(limit - 1, left)):
                pipeline.lmove(*move)
            return [data for data in (first, *pipeline.execute()) if data is not None]

    def _requeue(self, first: bool, timestamp: datetime | None) -> tuple[str, int]:
        return "RPUSH" if first else "LPUSH", 0

    def waiting(self, limit: int) -> list[Data]:
        return list(reversed(self.conn.lrange(self._key, -limit, -1)))

    def tick(self, task: str, at: int, data: Data | None) -> bool:
        return bool(self._run("tick", [f"{self._key}.ticks", self._key], task, at, "" if data is None else data))

    def ticks(self) -> dict[str, int]:
        return {_text(task): int(at) for task, at in self.conn.hgetall(f"{self._key}.ticks").items()}

    def flush(self) -> None:
        super().flush()
        self.conn.delete(f"{self._key}.ticks")


class RedisBlockingQueue(RedisQueue):
    """A queue in a Redis list, read with BRPOP as messages arrive. ``read`` waits at most *read_timeout* seconds; None: no limit."""

    blocking = True

    def __init__(self, name: str, read_timeout: float | None = None, **connection: Any) -> None:
        super().__init__(name, **connection)
        self.read_timeout = read_timeout

    def read(self) -> Data | None:
        import redis

        try:
            found = self.conn.brpop(self._key, timeout=self.read_timeout or 0)
        except redis.TimeoutError:
            # socket_timeout= was shorter than the wait.
            return None
        return None if found is None else found[1]

    def claim_next(self, holder: str, timeout: float) -> Data | None:
        socket_timeout = self.conn.connection_pool.connection_kwargs.get("socket_timeout")
        wait = min(timeout, socket_timeout / 2) if socket_timeout else timeout
        message: Data | None = self.conn.blmove(self._key, self._held(holder), wait, "RIGHT", "LEFT")
        return message


class RedisDataStore(_InRedis, BaseDataStore):
    """A result store in a Redis hash."""

    _kind = "results"

    def put(self, key: str, value: Any) -> None:
        self.conn.hset(self._key, key, value)

    def put_if_empty(self, key: str, value: Any) -> bool:
        """Store *value* if there is none, atomically. Return whether it was stored."""
        return bool(self.conn.hsetnx(self._key, key, value))

    def peek(self, key: str) -> Any:
        value = self.conn.hget(self._key, key)
        return EmptyData if value is None else value

    def get(self, key: str) -> Any:
        with self.conn.pipeline(transaction=True) as pipeline:
            pipeline.hget(self._key, key)
            pipeline.hdel(self._key, key)
            value, _ = pipeline.execute()
        return EmptyData if value is None else value

    def items(self) -> dict[str, Any]:
        """Return all values by key."""
        return {_text(key): value for key, value in self.conn.hgetall(self._key).items()}


class RedisSchedule(_Held, BaseSchedule):
    """A schedule in a Redis sorted set."""

    _kind = "scheduled"

    def add(self, data: Data, timestamp: datetime) -> None:
        self.conn.zadd(self._key, {data: micros_of(timestamp)})

    def read(self, timestamp: datetime) -> list[Any]:
        with self.conn.pipeline(transaction=True) as pipeline:
            pipeline.zrangebyscore(self._key, "-inf", micros_of(timestamp))
            pipeline.zremrangebyscore(self._key, "-inf", micros_of(timestamp))
            found, _ = pipeline.execute()
        return list(found)

    def __len__(self) -> int:
        return int(self.conn.zcard(self._key))

    def __bool__(self) -> bool:
        return True

    def claim(self, holder: str, limit: int, timestamp: datetime | None = None) -> list[Data]:
        if timestamp is None:
            return []
        return list(self._run("claim_due", [self._key, self._held(holder)], micros_of(timestamp), limit))

    def _requeue(self, first: bool, timestamp: datetime | None) -> tuple[str, int]:
        return "ZADD", 0 if timestamp is None else micros_of(timestamp)

    def waiting(self, limit: int) -> list[Data]:
        return list(self.conn.zrange(self._key, 0, limit - 1))


class RedisEventEmitter(BaseEventEmitter):
    """An emitter on a Redis channel."""

    def __init__(self, channel: str, **connection: Any) -> None:
        super().__init__(channel, **connection)
        self.conn = _client(connection)

    def emit(self, data: str) -> None:
        self.conn.publish(self.channel, data)


Components = base.Components(RedisBlockingQueue, RedisDataStore, RedisSchedule, RedisEventEmitter)
"""The classes of this module by role, as Django's settings name them."""


def _text(data: Data) -> str:
    # With decode_responses=True the client returns text.
    return data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
