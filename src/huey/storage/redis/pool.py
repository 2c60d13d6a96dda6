"""The connections of this process to a server: shared by all queues that name it in the same way, lent for one call each.

What comes from a pool of redis-py goes back to it on every path: closed, lost, of a thread that ended, or forgotten.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from os import getpid
from typing import Any, TypeVar

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import micros, system_clock
from huey.storage.redis.connection import HARMLESS, REPLY_TIMEOUT, CommandConnection, checked, give_back_forgotten, load_client, run
from huey.storage.redis.errors import NoneLeft, pool_is_too_small, too_many_clients, translated, unreachable
from huey.storage.redis.messages import Arg
from huey.storage.redis.scripts import script
from huey.storage.redis.source import Source

L = TypeVar("L")

IN_TURNS = 0.2
"""Seconds that a thread waits while another one connects, as a connection may come back meanwhile: three hundred threads that begin at once
need a few connections, not three hundred."""
POOL_TIMEOUT = 5.0
"""Seconds that a call waits for a connection of a pool that has none left."""
LOOK_AGAIN = 0.05
"""Seconds after which such a call asks the pool again: its other users do not tell when they give one back."""


class Pool:
    """What the queues of this process share."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.where = source.where
        self.epoch = 0
        """Grows with each lost connection: the server may be another one since."""
        self.users: weakref.WeakSet[ConnectionSet] = weakref.WeakSet()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = getpid()
        self._free: deque[CommandConnection] = deque()
        self._kept: weakref.WeakSet[CommandConnection] = weakref.WeakSet()
        self._making = threading.Lock()
        self._returned = threading.Condition()
        self._short_of = 0
        """Threads that wait for a connection of a pool that has none left."""
        self._lookouts: dict[Callable[[Pool], Any], Any] = {}

    def _check_process(self) -> None:
        if self._pid != getpid():
            inherited = (*self._free, *self._kept, *(it for it in map(_connection_of, self._lookouts.values()) if it))
            self._begin_anew()
            for connection in inherited:
                connection.close()

    def lookout(self, kind: Callable[[Pool], L]) -> L:
        """The one of that kind in this process (lookout.py)."""
        self._check_process()
        found: L | None = self._lookouts.get(kind)
        if found is None:
            # Another thread may have been faster.
            found = self._lookouts.setdefault(kind, kind(self))
        return found

    # -- lending --------------------------------------------------------------------------------------------------------------------------

    def take(self) -> CommandConnection:
        """A connection that nobody else uses meanwhile. StorageUnavailable: there is no way to one."""
        if self._pid != getpid():
            self._check_process()
        try:
            # As it nearly always goes.
            connection = self._free.pop()
        except IndexError:
            return self._wait_or_connect()
        if not connection.is_stale():
            return connection
        self.drop(connection)
        return self._wait_or_connect()

    def _wait_or_connect(self) -> CommandConnection:
        began = system_clock.monotonic()
        while True:
            # One thread connects at a time, while the others wait for what comes back; but nobody waits long for a slow server.
            making, waited = self._making, system_clock.monotonic() - began
            is_mine = making.acquire(blocking=False)
            if is_mine or waited >= micros(IN_TURNS):
                try:
                    connection = self._unused() or self._connect()
                finally:
                    if is_mine:
                        making.release()
                        self._tell_who_is_short()
                if connection is not None:
                    return connection
                # The pool has none left: ours come back as soon as their calls end.
                if waited >= micros(POOL_TIMEOUT):
                    raise pool_is_too_small(self.where, self._source.most)
            with self._returned:
                self._short_of += 1
                if not self._free:
                    self._returned.wait(LOOK_AGAIN)
                self._short_of -= 1
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
        """A new connection; None: the pool has none left."""
        give_back_forgotten()
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
        # Without what redis-py raised: a server that knows no AUTH repeats the password there.
        raise failed

    def _is_exhausted(self) -> bool:
        """Whether a pool that lets its callers wait would do that now, perhaps for ever."""
        places = getattr(self._source.pool, "pool", None)
        return places is not None and bool(places.empty())

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
        """A thread goes on using it: it is closed with the others."""
        self._kept.add(connection)

    def give_back(self, connection: CommandConnection) -> None:
        """Nothing is under way on *connection*."""
        if connection.is_closed or connection.pid != self._pid:
            return
        self._free.append(connection)
        if self._short_of:
            self._tell_who_is_short()

    def _tell_who_is_short(self) -> None:
        if self._short_of:
            with self._returned:
                self._returned.notify()

    def drop(self, connection: CommandConnection | None) -> None:
        """What comes next on *connection* is not known: close it. The others may be gone too."""
        self.epoch += 1
        if connection is not None:
            self._kept.discard(connection)
            connection.close()
        self._close_unused()
        self._tell_who_is_short()

    def _close_unused(self) -> None:
        while self._free:
            try:
                self._free.pop().close()
            except IndexError:
                return

    def leave(self, user: ConnectionSet) -> None:
        """*user* needs none for now. When nobody does, all are closed, also those that threads wait on: they get an error."""
        self.users.discard(user)
        if not self.users and self._pid == getpid():
            for lookout in list(self._lookouts.values()):
                lookout.close()
            for connection in list(self._kept):
                connection.close()
            self._close_unused()


def _connection_of(lookout: Any) -> CommandConnection | None:
    connection: CommandConnection | None = getattr(lookout, "connection", None)
    return connection


def _has_none_left(error: BaseException) -> bool:
    """A pool of redis-py says that it lends no more; its versions say it in several ways."""
    return type(error).__name__ == "MaxConnectionsError" or str(error) in ("Too many connections", "No connection available.")


_shared: weakref.WeakValueDictionary[Hashable, Pool] = weakref.WeakValueDictionary()


def shared(source: Source) -> Pool:
    """The connections that go where those of *source* go."""
    found = _shared.get(source.identity)
    if found is None:
        found = Pool(source)
        # Another thread may have been faster.
        found = _shared.setdefault(source.identity, found)
    return found


class ConnectionSet:
    """The connections of one queue: those of its pool, once the server was looked at for this queue."""

    def __init__(self, source: Source) -> None:
        self.pool = shared(source)
        self.where = source.where
        self.most = source.most
        self.prepare: Callable[[CommandConnection], None] = lambda connection: None
        """Called before the first call, and after a lost connection again."""
        self._prepared_in = -1
        self.patience = REPLY_TIMEOUT
        """Seconds that a reply may take."""

    def take(self) -> CommandConnection:
        """A connection that nobody else uses meanwhile."""
        connection = self.pool.take()
        if self._prepared_in != self.pool.epoch:
            self._prepare(connection)
        return connection

    def _prepare(self, connection: CommandConnection) -> None:
        self.pool.users.add(self)
        epoch = self.pool.epoch
        try:
            self.prepare(connection)
        except StorageUnavailable:
            self.drop(connection)
            raise
        except StorageError:
            self.give_back(connection)
            raise
        except BaseException:
            self.drop(connection)
            raise
        self._prepared_in = epoch
        self.patience = connection.patience

    def keep(self) -> CommandConnection:
        """A connection that this thread goes on using."""
        connection = self.take()
        self.pool.keep(connection)
        return connection

    def give_back(self, connection: CommandConnection) -> None:
        """Nothing is under way on *connection*."""
        self.pool.give_back(connection)

    def drop(self, connection: CommandConnection | None) -> None:
        """What comes next on *connection* is not known: close it. The others may be gone too."""
        self.pool.drop(connection)

    def close(self) -> None:
        """Let go of the connections, unless another queue uses them. The next call looks at the server again."""
        self._prepared_in = -1
        self.pool.leave(self)

    # -- calls --------------------------------------------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        *arguments: Arg,
        after: tuple[Arg, ...] | None = None,
        before: tuple[tuple[Arg, ...], ...] = (),
        once: bool = False,
        soon: bool = False,
    ) -> Any:
        """Run a script: its answer. *before*, *after*: commands sent with it, whose replies are only looked at for errors. *once*: it must
        not be sent again when an answer is lost, though others of its kind may. *soon*: the server has little to do for it."""
        return self._over(
            lambda connection: run(connection, script(name), arguments, before, after, soon=soon), name in HARMLESS and not once
        )

    def command(self, *command: Arg) -> Any:
        """Send one plain command that is harmless when sent twice: its answer."""

        def act(connection: CommandConnection) -> Any:
            connection.send(command)
            return checked(connection, connection.read())

        return self._over(act, True)

    def _over(self, act: Callable[[CommandConnection], Any], again: bool) -> Any:
        """Do *act* over a connection; if that was lost meanwhile, once more over a new one, where that is harmless."""
        connection = None
        try:
            connection = self.take()
            answer = act(connection)
        except NoneLeft:
            raise
        except StorageUnavailable:
            self.drop(connection)
            if again:
                return self._over(act, False)
            raise
        except StorageError:
            if connection is not None:
                self.give_back(connection)
            raise
        except BaseException:
            self.drop(connection)
            raise
        self.give_back(connection)
        return answer
