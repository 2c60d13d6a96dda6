"""Which server, and how connections to it are made: what is passed to redis-py, and what is refused at once."""

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
_HASHABLE = (str, bytes, int, float, type(None))
Give = Callable[[Any], None]
"""Gives a connection back to the pool that it is from."""


class Source(NamedTuple):
    """Where connections come from."""

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
        """What no error may show."""
        options = getattr(self.pool, "connection_kwargs", None) or {}
        names = ("password", "username", "ssl_password")
        found = [options.get(name) for name in names] + [(options.get("sentinel_kwargs") or {}).get(name) for name in names]
        texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in found if each]
        # "default" is the user that every server has.
        return [text for text in texts if text != "default"]


def connector(name: str, options: dict[str, Any]) -> Source:
    """The source that *options* name: those of ``RedisStorage`` and redis-py's own.

    ConfigurationError: redis-py is missing, or the options contradict each other or name no server.
    """
    redis = load_client()
    client, pool, url = options.pop("client", None), options.pop("connection_pool", None), options.pop("url", None)
    given = [each for each, value in (("client=", client), ("connection_pool=", pool), ("url=", url)) if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"{' and '.join(given)}: each names the server; give one")
    if (client is not None or pool is not None) and options:
        raise ConfigurationError(f"{', '.join(options)}: with {given[0]} these belong into what makes its connections")
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
        # Not from the pool, which has a limit of its own and a lock that a fork could leave held.
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

    return _of_pool(find, "Redis cluster", False, (id(client), key), client)


def _lent(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:
        # redis-py 5 wants the command's name.
        return pool.get_connection("EVALSHA")


# -- what is refused ----------------------------------------------------------------------------------------------------------------------


def check_client(client: Any) -> None:
    """ConfigurationError: *client* is nothing that huey can use, with what to give instead."""
    name = f"client={type(client).__name__}"
    if isinstance(client, str | bytes):
        raise ConfigurationError(f"client= is a text; an address goes into url=, {_FORMS}")
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
    """ConfigurationError: *pool* is nothing that huey can use, with what to give instead."""
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
    """ConfigurationError: *url* names no server. Nothing of it is shown: what is out of place may be a part of the password."""
    if not isinstance(url, str):
        raise ConfigurationError(f"url= is of type {type(url).__name__}; it has to be a text, {_FORMS}")
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
        # Read only when asked for; it is no number when it is the beginning of a password.
        parts.port  # noqa: B018
    except ValueError:
        return None
    return parts.scheme, parts.path, parts.query, parts.fragment


def _named(error: ValueError, options: dict[str, Any]) -> ValueError:
    """The client's error about the value of an option, with the option's name; any other as it is."""
    for name, value in options.items():
        if isinstance(value, str) and repr(value) in str(error) and "password" not in name and not isinstance(error, ConfigurationError):
            return ConfigurationError(f"{name}={value!r}: {error}")
    return error


# -- a pool of our own --------------------------------------------------------------------------------------------------------------------


def _made(redis: Any, url: str | None, options: dict[str, Any]) -> tuple[Any, bool]:
    """A pool that says how connections are made, and whether its limit is of the user's wish."""
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
        # Tells an option that does not exist; nothing is connected yet.
        pool.connection_class(**pool.connection_kwargs)
    verify_host(redis, pool, asked)
    return pool, bool(asked.get("max_connections"))


def _of_url(redis: Any, url: str, options: dict[str, Any]) -> Any:
    # By themselves first: the name of an option in the program may be shown, that of one in the address may be a part of the password.
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
    """Under TLS the certificate has to be that of the host, unless *asked* for otherwise: redis-py before 6 looks only at who signed it."""
    if not issubclass(pool.connection_class, redis.SSLConnection) or "ssl_check_hostname" in asked:
        return
    wanted = pool.connection_kwargs.get("ssl_cert_reqs", "required")
    # Nothing is verified: then there is no name to compare either.
    is_verified = str(getattr(wanted, "name", wanted)).lower() not in ("none", "cert_none", "0")
    pool.connection_kwargs["ssl_check_hostname"] = is_verified


def is_local(pool: Any) -> bool:
    """Whether its server is on this machine."""
    options = getattr(pool, "connection_kwargs", {})
    host = str(options.get("host", ""))
    return "path" in options or host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def address(pool: Any) -> str:
    """Where a pool connects to; no user name, no password."""
    options = getattr(pool, "connection_kwargs", {})
    service = getattr(pool, "service_name", None)
    if service:
        return f"Redis {service!r} by Sentinel"
    target = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis {target}/{options.get('db') or 0}"
