"""Connections to a Redis server.

redis-py makes them (TLS, unix sockets, Sentinel, passwords); what goes over them is packed and read here, by hiredis, since redis-py's
command layer takes longer than a round trip. A connection belongs to the process that made it: after a fork the child makes its own.
pool.py lends them, and gives back what came from somebody else's pool.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any

from huey.exceptions import ConfigurationError, StorageError
from huey.storage.redis.errors import UnknownScript, reply_lost, translated
from huey.storage.redis.messages import Arg
from huey.storage.redis.scripts import Script

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
SPIN_POLLS = 300
"""Looks for a reply that is likely to come at once; about a tenth of a millisecond, where no other thread wants to run."""
SPIN_BACKOFF = 10
"""Replies that are waited for in the usual way after one that came later than that."""
HARMLESS = frozenset(
    {
        *("watch_results", "heartbeat", "revoke", "counts", "is_followed", "deregister", "list_values", "leases", "list_ids", "get_tasks"),
        *("get_locks", "release_lock", "renew_locks", "acquire_lock", "hit_rate_limit", "read_rate"),
        *("read_stats", "prune", "put_value", "check_ready", "release", "get_revocation", "unwatch_results", "workers"),
    }
)
"""Verbs that may be sent again when an answer was lost: it will be the same one, or as good."""


def load_client() -> Any:
    """redis-py. ConfigurationError: it is not installed (C28)."""
    try:
        import redis
    except ImportError as error:
        raise ConfigurationError("a queue in Redis needs redis-py, which is not installed: pip install redis hiredis") from error
    return redis


class CommandConnection:
    """One connection: commands out, replies in."""

    def __init__(self, transport: Any, where: str, give: Callable[[Any], None] | None = None) -> None:
        self.transport = transport
        self.where = where
        self.pid = os.getpid()
        self._owed = [] if give is None else [give]
        """What takes the connection back."""
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
        try:
            self._prepare()
        except (AttributeError, TypeError) as error:
            self.close()
            raise ConfigurationError(f"{where}: {type(transport).__name__} is no connection over a socket; huey needs one") from error

    def _prepare(self) -> None:
        sock = getattr(self.transport, "_sock", None)
        self._sock: socket.socket | None = sock if self._hiredis is not None else None
        self._spins_to_skip = 0
        """Replies that are not looked for, since the last one was slow."""
        if self._sock is not None:
            self._reader = self._hiredis.Reader()
            self._pack = self._hiredis.pack_command
            self.patience = self._sock.gettimeout() or REPLY_TIMEOUT
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)

    def send(self, *commands: tuple[Arg, ...]) -> None:
        """Send commands in one packet. StorageError: one holds what cannot be sent; nothing was."""
        try:
            if self._sock is not None:
                packets = [self._pack(commands[0])] if len(commands) == 1 else [b"".join(map(self._pack, commands))]
            else:
                packets = self.transport.pack_commands(commands)
        except (ValueError, TypeError) as error:
            raise StorageError(f"{self.where}: a text or value cannot be sent ({type(error).__name__}); nothing was written") from error
        try:
            if self._sock is not None:
                self._sock.sendall(packets[0])
            else:
                self.transport.send_packed_command(packets)
        except Exception as error:  # redis-py, the socket and TLS each have errors of their own.
            raise reply_lost(self.where, error) from error

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
            raise reply_lost(self.where, error) from error

    def spin_for_reply(self) -> None:
        """Wait for a reply that comes at once, without going to sleep for it: a server on the same machine answers before a thread is
        woken."""
        if self._spins_to_skip > 0:
            self._spins_to_skip -= 1
        elif not any(map(self._poll.poll, repeat(0, SPIN_POLLS))):
            self._spins_to_skip = SPIN_BACKOFF

    def _read_by_client(self) -> Any:
        import redis

        try:
            return self.transport.read_response(disable_decoding=True)
        except redis.ResponseError as error:
            # It cuts off the codes that it knows.
            code = _CODES.get(type(error).__name__)
            return error if code is None else redis.ResponseError(f"{code} {error}")

    def has_reply(self) -> bool:
        """A reply has been received already."""
        if self._sock is None:
            return bool(self.transport.can_read(0))
        return bool(self._reader.has_data())

    def is_stale(self) -> bool:
        """The server closed it while nobody used it."""
        return bool(self._poll.poll(0))

    def fileno(self) -> int:
        sock = self._sock if self._sock is not None else self.transport._sock
        return int(sock.fileno())

    def __del__(self) -> None:
        # Of a thread that ended: it had its own to wait on.
        if not self.is_closed:
            self._close(forget)

    def close(self) -> None:
        """Close it, and give it back where it is from. Harmless twice, and from another thread."""
        self._close(lambda give, transport: give(transport))

    def _close(self, hand_over: Callable[[Callable[[Any], None], Any], None]) -> None:
        self.is_closed = True
        if self.pid != os.getpid():
            # The parent goes on with this socket: only our copy of its descriptor goes. Of its pool redis-py makes a new one here.
            self._owed.clear()
            sock = getattr(self.transport, "_sock", None)
            if sock is not None:
                self.transport._sock = None
                sock.close()
            return
        try:
            self.transport.disconnect()
        finally:
            # Once, whoever else closes it at this moment.
            with suppress(IndexError):
                hand_over(self._owed.pop(), self.transport)


_forgotten: deque[tuple[Callable[[Any], None], Any]] = deque()


def forget(give: Callable[[Any], None], transport: Any) -> None:
    """Give a connection back when a thread ended or an object went. That happens at any moment: perhaps while this very thread is inside
    the pool and holds its lock; then it is done by the next who connects."""
    pool = getattr(give, "__self__", None)
    for lock in (getattr(pool, "_lock", None), getattr(getattr(pool, "pool", None), "mutex", None)):
        if lock is not None:
            if not lock.acquire(blocking=False):
                _forgotten.append((give, transport))
                return
            lock.release()
    give(transport)


def give_back_forgotten() -> None:
    """See ``forget``."""
    while _forgotten:
        try:
            give, transport = _forgotten.popleft()
        except IndexError:
            return
        give(transport)


def run(
    connection: CommandConnection,
    script: Script,
    arguments: Sequence[Arg],
    before: tuple[tuple[Arg, ...], ...] = (),
    after: tuple[Arg, ...] | None = None,
    *,
    soon: bool = False,
) -> Any:
    """Run a script over *connection*; the server is told its text if it does not know it. *soon*: the answer is likely to come at once."""
    command = (EVALSHA, script.sha, 1, *arguments)
    around = [*before, command, *(() if after is None else (after,))]
    connection.send(*around)
    if soon:
        connection.spin_for_reply()
    try:
        return _replies(connection, around, command)
    except UnknownScript:
        load(connection, script)
    connection.send(*around)
    return _replies(connection, around, command)


def _replies(connection: CommandConnection, around: list[tuple[Arg, ...]], command: tuple[Arg, ...]) -> Any:
    if len(around) == 1:
        return checked(connection, connection.read())
    # All are read, whatever they say: the next call begins with its own.
    replies = [connection.read() for _ in around]
    answer = checked(connection, replies[around.index(command)])
    for reply in replies:
        checked(connection, reply)
    return answer


def load(connection: CommandConnection, script: Script) -> None:
    """Tell the server a script."""
    connection.send((b"SCRIPT", b"LOAD", script.text))
    checked(connection, connection.read())


def checked(connection: CommandConnection, reply: Any) -> Any:
    """*reply*, unless it is an error."""
    if isinstance(reply, Exception):
        raise translated(str(reply), connection.where)
    return reply
