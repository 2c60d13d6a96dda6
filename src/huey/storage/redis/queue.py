"""A queue on a server, shared by the parts of a Redis storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import Clock, system_clock
from huey.storage.redis import keys
from huey.storage.redis.connection import HARMLESS, REPLY_TIMEOUT, CommandConnection, checked, run
from huey.storage.redis.errors import NoneLeft
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import shared
from huey.storage.redis.scripts import script
from huey.storage.redis.source import Source


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
        self.release(connection)
        return answer

    def _take_back(self, connection: CommandConnection | None, error: BaseException) -> None:
        """Take a connection back after an error: if that is an answer of the server, the connection can be used again."""
        if isinstance(error, StorageUnavailable) or not isinstance(error, StorageError):
            self.drop(connection)
        elif connection is not None:
            self.release(connection)

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

    def release(self, connection: CommandConnection) -> None:
        """Take back a connection on which nothing is in flight."""
        self.pool.release(connection)

    def drop(self, connection: CommandConnection | None) -> None:
        """Close a connection whose next reply is not known, and all unused ones, which may be lost too."""
        self.pool.drop(connection)

    def close(self) -> None:
        """Close the connections unless another queue uses them. The next call checks the server again."""
        self._prepared_in = -1
        self.pool.release_user(self)
