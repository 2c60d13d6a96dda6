"""Which server: what redis-py is told, and what is asked of the server before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.exceptions import ConfigurationError, StorageRefused
from huey.storage.redis import keys
from huey.storage.redis.connection import CONNECT_TIMEOUT, REPLY_TIMEOUT, Wire, checked, load_client
from huey.storage.redis.errors import LEAST_VERSION, away

SCHEMA_VERSION = 1
_WAITAOF_VERSION = (7, 2)


def connector(name: str, options: dict[str, Any]) -> tuple[Callable[[], Any], str, bool]:
    """What makes a connection, where to (without any password), and whether that is on this machine. *options* are those of
    ``RedisStorage`` and redis-py's own.

    ConfigurationError: redis-py is missing, or the options contradict each other.
    """
    redis = load_client()
    client, pool, url = options.pop("client", None), options.pop("connection_pool", None), options.pop("url", None)
    given = [each for each, value in (("client=", client), ("connection_pool=", pool), ("url=", url)) if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"{' and '.join(given)}: each names the server; give one")
    if (client is not None or pool is not None) and options:
        raise ConfigurationError(f"{', '.join(options)}: with {given[0]} these belong into what makes its connections")
    if client is not None and hasattr(client, "get_node_from_key"):
        key = keys.prefix(name)
        return (lambda: _connection(client.get_redis_connection(client.get_node_from_key(key)).connection_pool)), "Redis cluster", False
    if client is not None:
        pool = client.connection_pool
    if pool is None:
        pool = _pool(redis, url, options)
    return (lambda: _connection(pool)), address(pool), is_local(pool)


def _pool(redis: Any, url: str | None, options: dict[str, Any]) -> Any:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # What is away is told at once: who calls decides whether to try again.
    options = {
        "socket_timeout": REPLY_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
    } | options
    if url is not None:
        try:
            pool = redis.ConnectionPool.from_url(url, **options)
        except ValueError as error:
            raise ConfigurationError(f"url=: {error}; such as redis://localhost:6379/0, rediss:// for TLS, unix:///path") from error
    else:
        client = redis.Redis(**options)
        client.auto_close_connection_pool = False
        pool = client.connection_pool
    # Tells an option that does not exist; nothing is connected yet.
    pool.connection_class(**pool.connection_kwargs)
    return pool


def is_local(pool: Any) -> bool:
    """Whether its server is on this machine."""
    options = getattr(pool, "connection_kwargs", {})
    host = str(options.get("host", ""))
    return "path" in options or host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def _connection(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:
        # redis-py 5 wants the command's name.
        return pool.get_connection("EVALSHA")


def address(pool: Any) -> str:
    """Where a pool connects to; no user name, no password."""
    options = getattr(pool, "connection_kwargs", {})
    service = getattr(pool, "service_name", None)
    if service:
        return f"Redis {service!r} by Sentinel"
    place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis {place}/{options.get('db') or 0}"


def check(wire: Wire, prefix: str, durable: bool) -> None:
    """StorageRefused: a server that is too old, cannot keep the promise, or has somebody else's data under our keys."""
    version, is_appending = _server(wire)
    shown = ".".join(map(str, version))
    if version[:2] < LEAST_VERSION:
        raise StorageRefused(f"{wire.where}: this server is Redis {shown}; huey needs 6.2 or newer, or Valkey")
    if durable and version[:2] < _WAITAOF_VERSION:
        raise StorageRefused(
            f"{wire.where}: durable=True needs WAITAOF, and this server is Redis {shown}: take 7.2 or newer or Valkey, or configure "
            "'appendfsync always' there and leave durable= out"
        )
    if durable and not is_appending:
        raise StorageRefused(f"{wire.where}: durable=True needs a server with 'appendonly yes'")
    names = list(keys.TYPES)
    wire.send(*((b"TYPE", prefix + name) for name in names))
    types = [wire.read() for _ in names]
    for name, found in zip(names, types, strict=True):
        kind = checked(wire, found)
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if kind not in ("none", keys.TYPES[name]):
            raise StorageRefused(
                f"{wire.where}: the key {prefix + name} holds a {kind} that huey did not put there; remove it, or use another name or db="
            )


def _server(wire: Wire) -> tuple[tuple[int, ...], bool]:
    """The version that the server speaks, and whether it appends to a file."""
    wire.send((b"INFO", b"server"), (b"INFO", b"persistence"))
    replies = [wire.read(), wire.read()]
    facts: dict[str, str] = {}
    for reply in replies:
        text = checked(wire, reply)
        for line in (text.decode() if isinstance(text, bytes) else text).splitlines():
            name, _, value = line.partition(":")
            facts[name] = value
    if "redis_version" not in facts:
        raise away(wire.where, ValueError("it answers INFO like no Redis server"))
    version = tuple(int(part) for part in facts["redis_version"].split(".") if part.isdigit())
    return version, facts.get("aof_enabled") == "1"
