"""Connections to a Redis server.

redis-py makes them (TLS, unix sockets, Sentinel, passwords); what goes over them is packed and read here, by hiredis, since redis-py's
command layer takes longer than a round trip. A connection belongs to the process that made it: after a fork the child makes its own.
"""

from __future__ import annotations

import os
import select
import socket
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from huey.exceptions import ConfigurationError, StorageError, StorageUnavailable
from huey.storage.redis.errors import Unknown, away, lost, translated
from huey.storage.redis.messages import Arg
from huey.storage.redis.scripts import Script, script

CONNECT_TIMEOUT = 2.0
"""Seconds that connecting may take, unless told otherwise."""
REPLY_TIMEOUT = 5.0
"""Seconds that a reply may take, unless told otherwise."""
EVALSHA = b"EVALSHA"
_CODES = {
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "NOAUTH",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
}
"""Error codes by redis-py's classes."""
GLANCES = 150
"""Looks for a reply that is likely to come at once; about a tenth of a millisecond, where no other thread wants to run."""
SKIPPED = 10
"""Replies that are waited for in the usual way after one that came later than that."""
_HARMLESS = frozenset(
    {
        *("await", "beat", "cancel", "counts", "followed", "goodbye", "items", "leases", "listed", "look"),
        *("lock_find", "lock_give_up", "lock_renew", "lock_take", "rate_forget", "rate_take", "rate_usage"),
        *("numbers", "prune", "put", "ready", "release", "revocation", "unawait", "workers"),
    }
)
"""Verbs that may be sent again when an answer was lost: it will be the same one, or as good."""


def load_client() -> Any:
    """redis-py. ConfigurationError: it is not installed (C28)."""
    try:
        import redis
    except ImportError as error:
        raise ConfigurationError("a queue in Redis needs redis-py, which is not installed: pip install 'huey[redis]'") from error
    return redis


class Wire:
    """One connection: commands out, replies in."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection = connection
        self.where = where
        self.pid = os.getpid()
        self.client = 0
        """The server's number for this connection."""
        self.is_closed = False
        self.patience = REPLY_TIMEOUT
        self._hiredis: Any = None
        try:
            import hiredis

            self._hiredis = hiredis
        except ImportError:
            # Slower, but redis-py can do it alone.
            self._hiredis = None
        self._prepare()

    def _prepare(self) -> None:
        sock = getattr(self.connection, "_sock", None)
        self._sock: socket.socket | None = sock if self._hiredis is not None else None
        self._unseen = 0
        """Replies that are not looked for, since the last one was slow."""
        if self._sock is not None:
            self._reader = self._hiredis.Reader()
            self._pack = self._hiredis.pack_command
            self.patience = self._sock.gettimeout() or REPLY_TIMEOUT
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)

    def send(self, *commands: tuple[Arg, ...]) -> None:
        """Send commands in one packet."""
        try:
            if self._sock is not None:
                self._sock.sendall(self._pack(commands[0]) if len(commands) == 1 else b"".join(map(self._pack, commands)))
            else:
                self.connection.send_packed_command(self.connection.pack_commands(commands))
        except Exception as error:  # redis-py, the socket and TLS each have errors of their own.
            raise lost(self.where, error) from error

    def read(self) -> Any:
        """The next reply; an error reply comes as an exception instance."""
        try:
            if self._sock is None:
                return self._read_by_client()
            reader, receive = self._reader, self._sock.recv
            while (reply := reader.gets()) is False:
                data = receive(65536)
                if not data:
                    raise ConnectionError("the server closed the connection")
                reader.feed(data)
            return reply
        except Exception as error:  # As in send().
            raise lost(self.where, error) from error

    def glance(self) -> None:
        """Wait for a reply that comes at once, without going to sleep for it: a server on the same machine answers before a thread is
        woken."""
        if self._unseen > 0:
            self._unseen -= 1
        elif not any(map(self._poll.poll, repeat(0, GLANCES))):
            self._unseen = SKIPPED

    def _read_by_client(self) -> Any:
        import redis

        try:
            return self.connection.read_response(disable_decoding=True)
        except redis.ResponseError as error:
            # It cuts off the codes that it knows.
            code = _CODES.get(type(error).__name__)
            return error if code is None else redis.ResponseError(f"{code} {error}")

    def has_reply(self) -> bool:
        """A reply has been received already."""
        if self._sock is None:
            return bool(self.connection.can_read(0))
        return bool(self._reader.has_data())

    def is_stale(self) -> bool:
        """The server closed it while nobody used it."""
        return bool(self._poll.poll(0))

    def fileno(self) -> int:
        sock = self._sock if self._sock is not None else self.connection._sock
        return int(sock.fileno())

    def __del__(self) -> None:
        # Of a thread that ended: it had its own to wait on.
        if not self.is_closed:
            self.close()

    def close(self) -> None:
        self.is_closed = True
        if self.pid == os.getpid():
            self.connection.disconnect()
        else:
            # The parent goes on with this socket: only our copy of its descriptor goes.
            sock = getattr(self.connection, "_sock", None)
            if sock is not None:
                self.connection._sock = None
                sock.close()


class Wires:
    """The connections of one storage, lent for one call each."""

    def __init__(self, connect: Callable[[], Any], where: str) -> None:
        self._connect = connect
        self.where = where
        self._free: deque[Wire] = deque()
        self._pid = os.getpid()
        self._lent: weakref.WeakSet[Wire] = weakref.WeakSet()
        self.prepare: Callable[[Wire], None] = lambda wire: None
        """Called with the first connection, and after an outage again."""
        self._is_prepared = False
        self.patience = REPLY_TIMEOUT
        """Seconds that a reply may take."""

    def take(self) -> Wire:
        """A connection that nobody else uses meanwhile."""
        if self._pid != os.getpid():
            self._begin_anew()
        while self._free:
            try:
                wire = self._free.pop()
            except IndexError:
                # Another thread was faster.
                break
            if not wire.is_stale():
                return wire
            self.drop(wire)
        return self._new()

    def _begin_anew(self) -> None:
        for wire in (*self._free, *self._lent):
            wire.close()
        self._free = deque()
        self._lent = weakref.WeakSet()
        self._pid = os.getpid()

    def _new(self) -> Wire:
        redis = load_client()
        try:
            wire = Wire(self._connect(), self.where)
        except StorageError:
            raise
        except redis.AuthenticationError as error:
            raise translated(f"NOAUTH {error}", self.where) from error
        except redis.ResponseError as error:
            raise translated(str(error), self.where) from error
        except redis.RedisError as error:
            raise away(self.where, error) from error
        except OSError as error:
            raise away(self.where, error) from error
        try:
            wire.send((b"CLIENT", b"ID"))
            wire.client = checked(wire, wire.read())
            if not self._is_prepared:
                self.prepare(wire)
        except BaseException:
            wire.close()
            raise
        self._is_prepared = True
        self.patience = wire.patience
        self._lent.add(wire)
        return wire

    def give_back(self, wire: Wire) -> None:
        """Nothing is under way on *wire*."""
        self._free.append(wire)

    def drop(self, wire: Wire | None) -> None:
        """What comes next on *wire* is not known: close it. The others may be gone too."""
        if wire is not None:
            self._lent.discard(wire)
            wire.close()
        self._is_prepared = False
        while self._free:
            stale = self._free.pop()
            self._lent.discard(stale)
            stale.close()

    def close(self) -> None:
        """Let go of all connections, also of lent ones: who waits on one gets an error."""
        for wire in (*self._free, *self._lent):
            wire.close()
        self._free.clear()
        self._lent.clear()
        self._is_prepared = False

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
        return self._over(lambda wire: run(wire, script(name), arguments, before, after, soon=soon), name in _HARMLESS and not once)

    def command(self, *command: Arg) -> Any:
        """Send one plain command that is harmless when sent twice: its answer."""

        def act(wire: Wire) -> Any:
            wire.send(command)
            return checked(wire, wire.read())

        return self._over(act, True)

    def _over(self, act: Callable[[Wire], Any], again: bool) -> Any:
        """Do *act* over a connection; if that was lost meanwhile, once more over a new one, where that is harmless."""
        wire = None
        try:
            wire = self.take()
            answer = act(wire)
        except StorageUnavailable:
            self.drop(wire)
            if again:
                return self._over(act, False)
            raise
        except StorageError:
            if wire is not None:
                self.give_back(wire)
            raise
        except BaseException:
            self.drop(wire)
            raise
        self.give_back(wire)
        return answer


def run(
    wire: Wire,
    script: Script,
    arguments: Sequence[Arg],
    before: tuple[tuple[Arg, ...], ...] = (),
    after: tuple[Arg, ...] | None = None,
    *,
    soon: bool = False,
) -> Any:
    """Run a script over *wire*; the server is told its text if it does not know it. *soon*: the answer is likely to come at once."""
    command = (EVALSHA, script.sha, 1, *arguments)
    around = [*before, command, *(() if after is None else (after,))]
    wire.send(*around)
    if soon:
        wire.glance()
    try:
        return _replies(wire, around, command)
    except Unknown:
        load(wire, script)
    wire.send(*around)
    return _replies(wire, around, command)


def _replies(wire: Wire, around: list[tuple[Arg, ...]], command: tuple[Arg, ...]) -> Any:
    if len(around) == 1:
        return checked(wire, wire.read())
    # All are read, whatever they say: the next call begins with its own.
    replies = [wire.read() for _ in around]
    answer = checked(wire, replies[around.index(command)])
    for reply in replies:
        checked(wire, reply)
    return answer


def load(wire: Wire, script: Script) -> None:
    """Tell the server a script."""
    wire.send((b"SCRIPT", b"LOAD", script.text))
    checked(wire, wire.read())


def checked(wire: Wire, reply: Any) -> Any:
    """*reply*, unless it is an error."""
    if isinstance(reply, Exception):
        raise translated(str(reply), wire.where)
    return reply
