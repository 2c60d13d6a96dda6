"""Connections to a Redis server.

redis-py makes them (TLS, unix sockets, Sentinel, passwords); commands are packed and replies parsed here, by hiredis, since redis-py's
command layer takes longer than a round trip. A connection belongs to the process that made it: after a fork the child makes its own.
pool.py lends them, and returns those that came from a pool of the application.
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
"""Seconds that connecting may take by default."""
REPLY_TIMEOUT = 5.0
"""Seconds that a reply may take by default."""
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
"""Polls for a reply that is likely to come at once: about 0.1 ms, if no other thread runs."""
SPIN_BACKOFF = 10
"""Replies for which the connection does not spin after one that came later than that."""
HARMLESS = frozenset(
    {
        *("watch_results", "heartbeat", "revoke", "counts", "deregister", "list_values", "leases", "list_ids", "get_tasks"),
        *("get_locks", "keep", "release_lock", "renew_locks", "acquire_lock", "rate"),
        *("read_stats", "prune", "put_value", "check_ready", "release", "get_revocation", "unwatch_results", "workers"),
    }
)
"""Verbs that may be repeated after a lost reply: the second one is the same, or as good. A turn is none of them, since it claims: the
engine releases what it does not know of, and sends the finishes again."""


def load_client() -> Any:
    """Return redis-py. Raise ConfigurationError if it is not installed."""
    try:
        import redis
    except ImportError as error:
        raise ConfigurationError("a queue in Redis needs redis-py, which is not installed: pip install redis hiredis") from error
    return redis


class CommandConnection:
    """One connection, which sends commands and reads replies."""

    def __init__(self, transport: Any, where: str, give: Callable[[Any], None] | None = None) -> None:
        self.transport = transport
        self.where = where
        self.pid = os.getpid()
        self._owed = [] if give is None else [give]
        """What takes the transport back, once: its pool, if it was lent."""
        self.client = 0
        """The server's id of this connection."""
        self.is_closed = False
        self.reply_timeout = REPLY_TIMEOUT
        self._hiredis: Any = None
        # Without it redis-py works too, but slower.
        with suppress(ImportError):
            import hiredis

            self._hiredis = hiredis
        try:
            self._prepare()
        except (AttributeError, TypeError) as error:
            self.close()
            raise ConfigurationError(f"{where}: {type(transport).__name__} is not a connection over a socket; huey needs one") from error

    def _prepare(self) -> None:
        sock = getattr(self.transport, "_sock", None)
        self._sock: socket.socket | None = sock if self._hiredis is not None else None
        self._spins_to_skip = 0
        """Replies for which it does not spin, since the last one was slow."""
        if self._sock is not None:
            self._reader = self._hiredis.Reader()
            self._pack = self._hiredis.pack_command
            self.reply_timeout = self._sock.gettimeout() or REPLY_TIMEOUT
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)

    def send(self, *commands: tuple[Arg, ...]) -> None:
        """Send commands in one packet. Raise StorageError, before anything is sent, if an argument cannot be encoded."""
        try:
            if self._sock is not None:
                packets = [self._pack(commands[0])] if len(commands) == 1 else [b"".join(map(self._pack, commands))]
            else:
                packets = self.transport.pack_commands(commands)
        except (ValueError, TypeError) as error:
            raise StorageError(f"{self.where}: an argument cannot be encoded ({type(error).__name__}); nothing was written") from error
        try:
            if self._sock is not None:
                self._sock.sendall(packets[0])
            else:
                self.transport.send_packed_command(packets)
        except Exception as error:  # redis-py, the socket and TLS each have their own errors.
            raise reply_lost(self.where, error) from error

    def read(self) -> Any:
        """Return the next reply; an error reply is returned as an exception."""
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
        """Poll for a reply for a short time, without sleeping: a server on the same machine answers faster than a thread wakes up."""
        if self._spins_to_skip > 0:
            self._spins_to_skip -= 1
        elif not any(map(self._poll.poll, repeat(0, SPIN_POLLS))):
            self._spins_to_skip = SPIN_BACKOFF

    def _read_by_client(self) -> Any:
        import redis

        try:
            return self.transport.read_response(disable_decoding=True)
        except redis.ResponseError as error:
            # redis-py strips the error codes that it knows.
            code = _CODES.get(type(error).__name__)
            return error if code is None else redis.ResponseError(f"{code} {error}")

    def wait(self, seconds: float, waker: int = -1) -> list[int]:
        """Wait for a reply, at most *seconds*, or until the descriptor *waker* is readable; return the readable descriptors."""
        if self.transport.can_read(0) if self._sock is None else self._reader.has_data():
            return [self.fileno()]
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        if waker >= 0:
            poll.register(waker, select.POLLIN)
        return [fd for fd, _ in poll.poll(seconds * 1000)]

    def is_stale(self) -> bool:
        """Return whether the server closed the connection while it was not in use."""
        return bool(self._poll.poll(0))

    def fileno(self) -> int:
        sock = self._sock if self._sock is not None else self.transport._sock
        return int(sock.fileno())

    def __del__(self) -> None:
        # It may have been the listener of a thread that ended.
        if not self.is_closed:
            self._close(forget)

    def close(self) -> None:
        """Close the connection and return the transport to its pool. May be called twice, and from another thread."""
        self._close(lambda give, transport: give(transport))

    def _close(self, hand_over: Callable[[Callable[[Any], None], Any], None]) -> None:
        self.is_closed = True
        if self.pid != os.getpid():
            # The parent still uses the socket: close only this process's copy of the descriptor. redis-py resets its pool after a fork.
            self._owed.clear()
            sock = getattr(self.transport, "_sock", None)
            if sock is not None:
                self.transport._sock = None
                sock.close()
            return
        try:
            self.transport.disconnect()
        finally:
            # Once, even if another thread closes it at the same time.
            with suppress(IndexError):
                hand_over(self._owed.pop(), self.transport)


_forgotten: deque[tuple[Callable[[Any], None], Any]] = deque()


def forget(give: Callable[[Any], None], transport: Any) -> None:
    """Return a transport whose connection is garbage. A finalizer may run at any moment, even while its thread holds the lock of the
    pool; then the next call that connects returns it."""
    pool = getattr(give, "__self__", None)
    for lock in (getattr(pool, "_lock", None), getattr(getattr(pool, "pool", None), "mutex", None)):
        if lock is not None:
            if not lock.acquire(blocking=False):
                _forgotten.append((give, transport))
                return
            lock.release()
    give(transport)


def release_forgotten() -> None:
    """Return the transports that ``forget`` could not return."""
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
    """Run a script and return its answer; load it if the server does not know it. *soon*: the reply is expected at once."""
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
    # Read all replies, including errors, so that the next call starts with its own reply.
    replies = [connection.read() for _ in around]
    answer = checked(connection, replies[around.index(command)])
    for reply in replies:
        checked(connection, reply)
    return answer


def load(connection: CommandConnection, script: Script) -> None:
    """Send the text of a script to the server."""
    connection.send((b"SCRIPT", b"LOAD", script.text))
    checked(connection, connection.read())


def checked(connection: CommandConnection, reply: Any) -> Any:
    """Return *reply*, or raise the error that it stands for."""
    if isinstance(reply, Exception):
        raise translated(str(reply), connection.where)
    return reply
