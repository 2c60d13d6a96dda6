"""The connections of this process to a server, shared by all queues with the same address and options; each is lent for one call.

A connection from a pool of redis-py goes back to it on every path: closed, lost, owned by a thread that ended, or garbage.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from os import getpid
from typing import Any, TypeVar

from huey.exceptions import StorageError
from huey.runtime.clock import micros, system_clock
from huey.storage.redis.connection import CommandConnection, checked, load_client, release_forgotten
from huey.storage.redis.errors import pool_is_too_small, too_many_clients, translated, unreachable
from huey.storage.redis.source import Source

L = TypeVar("L")

CONNECT_IN_TURN_S = 0.2
"""Seconds that a thread waits while another one connects, since a connection may be returned meanwhile: three hundred threads that start at
once need a few connections, not three hundred."""
POOL_TIMEOUT_S = 5.0
"""Seconds that a call waits for a connection of an exhausted pool."""
RECHECK_S = 0.05
"""Seconds after which such a call asks the pool again: other users of the pool do not notify huey when they return one."""


class Pool:
    """The connections of all queues that use one server."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.where = source.where
        self.epoch = 0
        """Grows with each lost connection: the server may be a different one since."""
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._reset()

    def _reset(self) -> None:
        self._pid = getpid()
        self._free: deque[CommandConnection] = deque()
        self._kept: weakref.WeakSet[CommandConnection] = weakref.WeakSet()
        self._connect_lock = threading.Lock()
        self._returned = threading.Condition()
        self._waiting = 0
        """Number of threads that wait for a connection of an exhausted pool."""
        self._shared_listeners: dict[Callable[[Pool], Any], Any] = {}

    def _check_process(self) -> None:
        if self._pid != getpid():
            shared = [listener.connection for listener in self._shared_listeners.values() if listener.connection is not None]
            inherited = (*self._free, *self._kept, *shared)
            self._reset()
            for connection in inherited:
                connection.close()

    def shared_listener(self, kind: Callable[[Pool], L]) -> L:
        """Return this process's listener of that kind (shared_listeners.py)."""
        self._check_process()
        found: L | None = self._shared_listeners.get(kind)
        if found is None:
            # Another thread may have been faster.
            found = self._shared_listeners.setdefault(kind, kind(self))
        return found

    # -- lending --------------------------------------------------------------------------------------------------------------------------

    def take(self) -> CommandConnection:
        """Lend a connection. Raise StorageUnavailable if there is none and none can be made."""
        if self._pid != getpid():
            self._check_process()
        return self._unused() or self._wait_or_connect()

    def _wait_or_connect(self) -> CommandConnection:
        began = system_clock.monotonic()
        while True:
            # One thread connects at a time while the others wait for a returned connection, but not long: the server may be slow.
            making, waited = self._connect_lock, system_clock.monotonic() - began
            is_mine = making.acquire(blocking=False)
            if is_mine or waited >= micros(CONNECT_IN_TURN_S):
                try:
                    connection = self._unused() or self._connect()
                finally:
                    if is_mine:
                        making.release()
                        self._notify_waiting()
                if connection is not None:
                    return connection
                # The pool is exhausted. huey's own connections are returned as soon as their calls end.
                if waited >= micros(POOL_TIMEOUT_S):
                    raise pool_is_too_small(self.where, self._source.most)
            with self._returned:
                self._waiting += 1
                if not self._free:
                    self._returned.wait(RECHECK_S)
                self._waiting -= 1
            if (returned := self._unused()) is not None:
                return returned

    def _unused(self) -> CommandConnection | None:
        while self._free:
            try:
                connection = self._free.pop()
            except IndexError:
                # Another thread was faster.
                break
            if not connection.is_stale():
                return connection
            self.drop(connection)
        return None

    def _connect(self) -> CommandConnection | None:
        """Return a new connection, or None if the pool is exhausted."""
        release_forgotten()
        if self._is_exhausted():
            return None
        redis = load_client()
        secrets = self._source.secrets()
        failed: StorageError
        try:
            transport, give = self._source.take()
        except StorageError:
            raise
        except redis.AuthenticationError as error:
            failed = translated(f"NOAUTH {error}", self.where, secrets)
        except redis.ResponseError as error:
            failed = translated(str(error), self.where, secrets)
        except (redis.RedisError, OSError) as error:
            if _has_none_left(error):
                return None
            failed = too_many_clients(self.where) if "max number of clients" in str(error) else unreachable(self.where, error, secrets)
        else:
            return self._wrap(transport, give)
        # Not chained to redis-py's error: a server that does not know AUTH repeats the password in it.
        raise failed

    def _is_exhausted(self) -> bool:
        """Return whether a pool that blocks its callers would block now, perhaps forever."""
        available = getattr(self._source.pool, "pool", None)
        return available is not None and bool(available.empty())

    def _wrap(self, transport: Any, give: Callable[[Any], None] | None) -> CommandConnection:
        connection = CommandConnection(transport, self.where, give)
        try:
            connection.send((b"CLIENT", b"ID"))
            connection.client = checked(connection, connection.read())
        except BaseException:
            connection.close()
            raise
        return connection

    def keep(self, connection: CommandConnection) -> None:
        """Register a connection that a thread keeps, so that it is closed with the others."""
        self._kept.add(connection)

    def release(self, connection: CommandConnection) -> None:
        """Take back a connection on which nothing is in flight."""
        if connection.is_closed or connection.pid != self._pid:
            return
        self._free.append(connection)
        self._notify_waiting()

    def _notify_waiting(self) -> None:
        if self._waiting:
            with self._returned:
                self._returned.notify()

    def drop(self, connection: CommandConnection | None) -> None:
        """Close a connection whose next reply is unknown, and all unused ones, which may be lost too."""
        self.epoch += 1
        if connection is not None:
            self._kept.discard(connection)
            connection.close()
        self._close_unused()
        self._notify_waiting()

    def _close_unused(self) -> None:
        while self._free:
            try:
                self._free.pop().close()
            except IndexError:
                return

    def release_user(self, user: object) -> None:
        """Record that *user* needs no connection for now. Without users all are closed, even those on which threads wait, which get an
        error."""
        self.users.discard(user)
        if not self.users and self._pid == getpid():
            for shared_listener in list(self._shared_listeners.values()):
                shared_listener.close()
            for connection in list(self._kept):
                connection.close()
            self._close_unused()


def _has_none_left(error: BaseException) -> bool:
    """Return whether *error* says that a pool of redis-py is exhausted; each version says it differently."""
    return type(error).__name__ == "MaxConnectionsError" or str(error) in ("Too many connections", "No connection available.")


_shared: weakref.WeakValueDictionary[Hashable, Pool] = weakref.WeakValueDictionary()


def shared(source: Source) -> Pool:
    """Return the pool for all sources that are equal to *source*."""
    found = _shared.get(source.identity)
    if found is None:
        found = Pool(source)
        # Another thread may have been faster.
        found = _shared.setdefault(source.identity, found)
    return found
