"""Choose the server and make connections to it: pass options to redis-py, and reject those that cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from huey.exceptions import ConfigurationError
from huey.storage.redis import keys
from huey.storage.redis.connection import CONNECT_TIMEOUT, REPLY_TIMEOUT, load_client

_QUOTE = "a user name or password with one of : / ? # @ has to be quoted, such as %2F for /"
_FORMS = "such as redis://localhost:6379/0, rediss:// for TLS, unix:///path"
CLUSTER = "Redis cluster"
"""The ``where`` of a cluster."""
_HASHABLE = (str, bytes, int, float, type(None))
Give = Callable[[Any], None]
"""Gives a connection back to the pool that it is from."""


class Source(NamedTuple):
    """The source of connections: a pool, and how it is made."""

    take: Callable[[], tuple[Any, Give | None]]
    """Makes one that is connected; and what gives it back, if it is from a pool of the application."""
    where: str
    """Where to, without any user name or password."""
    is_local: bool
    """The server is on this machine."""
    identity: Hashable
    """Equal for sources whose connections may be exchanged."""
    kept: object
    """What *identity* names; it lives as long as this."""
    pool: Any
    """Of redis-py: where connections are lent, or what says how they are made."""
    most: int | None
    """Connections that there may be; None: no limit."""

    def secrets(self) -> list[str]:
        """Return the secrets that no error may show."""
        options = getattr(self.pool, "connection_kwargs", None) or {}
        names = ("password", "username", "ssl_password")
        found = [options.get(name) for name in names] + [(options.get("sentinel_kwargs") or {}).get(name) for name in names]
        texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in found if each]
        # "default" is the user that every server has.
        return [text for text in texts if text != "default"]


def connector(name: str, options: dict[str, Any]) -> Source:
    """Return the source for *options*: those of ``RedisStorage`` and redis-py's own.

    Raise ConfigurationError if redis-py is missing, or the options contradict each other or name no server.
    """
    redis = load_client()
    client, pool, url = options.pop("client", None), options.pop("connection_pool", None), options.pop("url", None)
    given = [each for each, value in (("client=", client), ("connection_pool=", pool), ("url=", url)) if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"{' and '.join(given)}: each names the server; give only one")
    if (client is not None or pool is not None) and options:
        raise ConfigurationError(f"{', '.join(options)}: with {given[0]} these belong to the object that makes its connections")
    if client is not None:
        check_client(client)
        if hasattr(client, "get_node_from_key"):
            return _of_cluster(client, keys.prefix(name))
        pool = client.connection_pool
    if pool is not None:
        check_pool(pool, "client" if client is not None else "connection_pool")
        return _of_pool(lambda: pool, address(pool), is_local(pool), id(pool), pool)
    identity = (url, *((key, type(value), value if isinstance(value, _HASHABLE) else id(value)) for key, value in sorted(options.items())))
    try:
        made, is_limited = _made(redis, url, options)
    except ValueError as error:
        raise _named(error, options) from error
    if is_limited:
        return _of_pool(lambda: made, address(made), is_local(made), identity, made, options)

    def connect() -> tuple[Any, None]:
        # Not from the pool, which has its own limit and a lock that a fork could leave held.
        connection = made.connection_class(**made.connection_kwargs)
        connection.connect()
        return connection, None

    return Source(connect, address(made), is_local(made), identity, options, made, None)


def _of_pool(find: Callable[[], Any], where: str, is_local: bool, identity: Hashable, pool: Any, kept: object = None) -> Source:
    def lend() -> tuple[Any, Give]:
        lender = find()
        return _lent(lender), lender.release

    return Source(lend, where, is_local, identity, (pool, kept), pool, getattr(pool, "max_connections", None))


def _of_cluster(client: Any, key: str) -> Source:
    def find() -> Any:
        return client.get_redis_connection(client.get_node_from_key(key)).connection_pool

    return _of_pool(find, CLUSTER, False, (id(client), key), client)


def _lent(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:
        # redis-py 5 wants the command's name.
        return pool.get_connection("EVALSHA")


# -- what is refused ----------------------------------------------------------------------------------------------------------------------


def check_client(client: Any) -> None:
    """Raise ConfigurationError, with an alternative, if huey cannot use *client*."""
    name = f"client={type(client).__name__}"
    if isinstance(client, str | bytes):
        raise ConfigurationError(f"client= is a string; an address goes into url=, {_FORMS}")
    if _is_asynchronous(client):
        raise ConfigurationError(
            f"{name} is a client of redis.asyncio: huey needs a plain one, such as redis.Redis(...), redis.RedisCluster(...); "
            "give it a client of its own, or host= or url="
        )
    if hasattr(client, "master_for"):
        raise ConfigurationError(f"{name} is not a client yet: give client=sentinel.master_for('name of the service')")
    if hasattr(client, "get_connection") and not hasattr(client, "connection_pool"):
        raise ConfigurationError(f"{name} is a pool of connections: it goes into connection_pool=")
    if not hasattr(client, "connection_pool") and not hasattr(client, "get_node_from_key"):
        raise ConfigurationError(f"{name}: huey needs a redis.Redis, one of a Sentinel, or a RedisCluster")


def check_pool(pool: Any, option: str) -> None:
    """Raise ConfigurationError, with an alternative, if huey cannot use *pool*."""
    name = f"{option}={type(pool).__name__}"
    if isinstance(pool, str | bytes):
        raise ConfigurationError(f"{option}= is a text; an address goes into url=, {_FORMS}")
    if _is_asynchronous(pool):
        raise ConfigurationError(f"{name} is of redis.asyncio: huey needs a plain pool, such as redis.ConnectionPool(...)")
    if hasattr(pool, "connection_pool"):
        raise ConfigurationError(f"{name} is a client: it goes into client=")
    if not (hasattr(pool, "get_connection") and hasattr(pool, "release")):
        raise ConfigurationError(f"{name}: huey needs a redis.ConnectionPool, or host= or url=")
    if getattr(pool, "service_name", None) and getattr(pool, "is_master", True) is False:
        raise ConfigurationError(f"{name} leads to a replica, which takes no tasks: give sentinel.master_for('name of the service')")
    if getattr(pool, "connection_class", type).__module__.partition(".")[0] == "fakeredis":
        raise ConfigurationError(f"{name} has no connection to a server: huey needs a real one; for tests there is MemoryHuey")


def _is_asynchronous(given: Any) -> bool:
    classes = [*type(given).__mro__, *getattr(getattr(given, "connection_class", None), "__mro__", ())]
    if any(each.__module__.startswith(("redis.asyncio", "valkey.asyncio")) for each in classes):
        return True
    return any(inspect.iscoroutinefunction(getattr(given, verb, None)) for verb in ("get_connection", "execute_command"))


def check_url(url: Any) -> None:
    """Raise ConfigurationError if *url* names no server. It is never shown: a misplaced part may belong to the password."""
    if not isinstance(url, str):
        raise ConfigurationError(f"url= is of type {type(url).__name__}; it must be a string, {_FORMS}")
    parts = _parts_of(url)
    if parts is None:
        raise ConfigurationError(f"url=: its host or port cannot be read; {_QUOTE}")
    scheme, behind, query, fragment = parts
    if scheme not in ("redis", "rediss", "unix") or "://" not in url:
        raise ConfigurationError(f"url= must begin with redis://, rediss:// or unix://; {_FORMS}")
    if fragment:
        raise ConfigurationError(f"url=: there is something behind a #; {_QUOTE}")
    if any("=" not in part for part in query.split("&") if part):
        raise ConfigurationError(f"url=: an option behind the ? has no value; {_QUOTE}")
    if scheme == "unix":
        return
    if "@" in behind:
        raise ConfigurationError(f"url=: its host cannot be told from what comes before; {_QUOTE}")
    if not behind.strip("/").isdigit() and behind.strip("/"):
        raise ConfigurationError(f"url=: what follows the host has to be the number of a database, such as /0; {_QUOTE}")


def _parts_of(url: str) -> tuple[str, str, str, str] | None:
    try:
        parts = urlsplit(url)
        # Parsed only on access; it is not a number if it is the beginning of a password.
        parts.port  # noqa: B018
    except ValueError:
        return None
    return parts.scheme, parts.path, parts.query, parts.fragment


def _named(error: ValueError, options: dict[str, Any]) -> ValueError:
    """Return the client's error about the value of an option, with the option's name added; return any other error unchanged."""
    for name, value in options.items():
        if isinstance(value, str) and repr(value) in str(error) and "password" not in name and not isinstance(error, ConfigurationError):
            return ConfigurationError(f"{name}={value!r}: {error}")
    return error


# -- a pool of huey --------------------------------------------------------------------------------------------------------------------


def _made(redis: Any, url: str | None, options: dict[str, Any]) -> tuple[Any, bool]:
    """Return a pool that makes connections, and whether the user chose its limit."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # An unreachable server is reported at once: the caller decides whether to try again.
    defaults = {
        "socket_timeout": REPLY_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
    }
    asked: dict[str, Any] = dict(options)
    if url is not None:
        check_url(url)
        asked |= parse_qs(urlsplit(url).query)
        pool = _of_url(redis, url, defaults | options)
    else:
        client = redis.Redis(**defaults | options)
        client.auto_close_connection_pool = False
        pool = client.connection_pool
        # This detects unknown options; nothing is connected yet.
        pool.connection_class(**pool.connection_kwargs)
    verify_host(redis, pool, asked)
    return pool, bool(asked.get("max_connections"))


def _of_url(redis: Any, url: str, options: dict[str, Any]) -> Any:
    # Check these alone first: an option name from the program may be shown, one from the address may be part of the password.
    scheme = urlsplit(url).scheme
    plain = redis.ConnectionPool.from_url({"unix": "unix:///"}.get(scheme, f"{scheme}://"), **options)
    plain.connection_class(**plain.connection_kwargs)
    try:
        pool = redis.ConnectionPool.from_url(url, **options)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError):
        pool = None
    if pool is None:
        raise ConfigurationError(f"url=: an option behind the ? is unknown to redis-py, or its value is wrong; {_QUOTE}")
    return pool


def verify_host(redis: Any, pool: Any, asked: dict[str, Any]) -> None:
    """Require under TLS that the certificate is that of the host, unless *asked* otherwise: redis-py before 6 checks only who signed it."""
    if not issubclass(pool.connection_class, redis.SSLConnection) or "ssl_check_hostname" in asked:
        return
    wanted = pool.connection_kwargs.get("ssl_cert_reqs", "required")
    # Nothing is verified, so there is no name to compare either.
    is_verified = str(getattr(wanted, "name", wanted)).lower() not in ("none", "cert_none", "0")
    pool.connection_kwargs["ssl_check_hostname"] = is_verified


def is_local(pool: Any) -> bool:
    """Return whether the server of *pool* is on this machine."""
    options = getattr(pool, "connection_kwargs", {})
    host = str(options.get("host", ""))
    return "path" in options or host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def address(pool: Any) -> str:
    """Return the address to which a pool connects, without user name and password."""
    options = getattr(pool, "connection_kwargs", {})
    service = getattr(pool, "service_name", None)
    if service:
        return f"Redis {service!r} by Sentinel"
    target = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis {target}/{options.get('db') or 0}"
