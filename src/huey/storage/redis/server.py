"""Checks of a server before it is used: can it keep huey's promises, and is the queue's prefix free of foreign keys?"""

from __future__ import annotations

from huey.exceptions import StorageRefused
from huey.storage.redis import keys
from huey.storage.redis.connection import CommandConnection, checked
from huey.storage.redis.errors import LEAST_VERSION, unreachable

SCHEMA_VERSION = 1
_WAITAOF_VERSION = (7, 2)


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
