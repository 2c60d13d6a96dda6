"""What the parts of a Redis storage share."""

from __future__ import annotations

from typing import Any

from huey.runtime.clock import Clock, Micros, system_clock
from huey.storage.redis import keys
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import ConnectionSet


class RedisQueue:
    """One queue on a server: its name, its connections and its time. *durable*: the command that waits for the server's disk, or None."""

    def __init__(self, name: str, clock: Clock, connections: ConnectionSet, durable: tuple[Arg, ...] | None) -> None:
        self.name = name
        self.prefix = keys.prefix(name)
        self.clock = clock
        self.has_own_clock = clock is not system_clock
        self.connections = connections
        self.durable = durable
        self.is_followed = False
        """Whether the last call that asked found a follower of events."""

    def now(self, now: Micros | None = None) -> Arg:
        """Return the time for a script: empty for the server's own, unless a test gives another."""
        if now is not None:
            return now
        return self.clock.now() if self.has_own_clock else b""

    def lease_time(self) -> Arg:
        """Return the same for leases, which count by a clock that is not set back."""
        return self.clock.monotonic() if self.has_own_clock else b""

    def call(self, verb: str, *arguments: Arg, now: Micros | None = None, once: bool = False) -> Any:
        """Run a script with the queue's prefix, the time and *arguments*, and return its answer. *once*: do not repeat it if its reply is
        lost."""
        return self.connections.call(verb, self.prefix, self.now(now), *arguments, once=once)
