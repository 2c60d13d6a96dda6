"""One connection on which all threads of a process wait for results, and one for events.

There is no thread for it: one of the waiting threads is the leader (the leader/followers pattern). It reads the connection for all and
wakes the threads that a reply concerns; when it leaves, another one takes over. The other threads only append to two queues, so they need
no lock, and a call that interrupts another one in the same thread (a signal handler) waits separately.

The server knows of each wait before the leader blocks, and all waits are checked each second, in case a wake-up was lost.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import SECOND, Micros, micros, system_clock
from huey.runtime.masking import checkpoint, has_deferred
from huey.storage.helpers import in_chunks
from huey.storage.redis import keys
from huey.storage.redis.connection import CommandConnection, checked
from huey.storage.redis.errors import NoneLeft
from huey.storage.redis.pool import Pool
from huey.storage.redis.queue import RedisQueue

SAFETY_INTERVAL_S = 1.0
"""Seconds between two checks of all waits, in case a wake-up was lost."""
SHORTEST_WAIT_S = 0.01
"""Shorter waits would be a busy loop, and 0 means for ever to the server."""
OUTAGE_TOLERANCE_S = 5.0
"""Seconds that a wait continues while the server is unreachable."""
RETRY_GAP_S = 0.2
"""Seconds between two attempts to connect meanwhile."""
UNBLOCK_ATTEMPTS = 20
"""Attempts to end a blocking command that the server may not have received yet."""
MAX_WAKE_UPS = 1000
"""Ids that are read from a list of arrived results at once."""


class Wait:
    """One thread's wait at one queue, for any of some *subjects* (ids of tasks, or the position after which events are wanted)."""

    def __init__(self, queue: RedisQueue, subjects: tuple[Any, ...]) -> None:
        self.queue = queue
        self.prefix = queue.prefix
        self.subjects = subjects
        self.is_over = False
        """What it waits for has come, or an error has."""
        self.is_abandoned = False
        self.error: StorageError | None = None
        self.woken = threading.Event()

    def end(self, error: StorageError | None = None) -> None:
        self.error = error
        self.is_over = True
        self.woken.set()


class SharedListener(ABC):
    """The connection on which one thread waits for all threads of this process."""

    def __init__(self, pool: Pool) -> None:
        # A weak reference: the pool holds the listener, and a cycle would keep the sockets open until the garbage collector runs.
        self._pool = weakref.proxy(pool)
        self.connection: CommandConnection | None = None
        self._leader_lock = threading.RLock()
        self._leader = 0
        """The thread that is the leader; 0: none."""
        self._arrivals: deque[Wait] = deque()
        self._departures: deque[Wait] = deque()
        self._waits: dict[str, set[Wait]] = {}
        """By queue. Only the leader uses it, and all that follows."""
        self._waker = -1
        self._blocked_on: dict[str, int] | None = None
        """What the blocking command in flight waits for: see `_positions`; None: none is in flight."""
        self._next_check: Micros = 0
        self._unreachable_since: Micros | None = None

    # -- a thread that waits --------------------------------------------------------------------------------------------------------------

    def wait(self, mine: Wait, left: Callable[[], float]) -> bool:
        """Wait until *mine* is over (True) or *left* returns that no time is left (False). Raise StorageError if that cannot be
        determined."""
        if self._leader == threading.get_ident():
            # This call interrupts the leader.
            return self._wait_alone(mine, left)
        self._arrivals.append(mine)
        try:
            while not mine.is_over and left() > 0:
                checkpoint()
                if self._leader_lock.acquire(blocking=False):
                    self._lead(mine, left)
                else:
                    self._wake()
                    mine.woken.wait(max(0.0, min(left(), SAFETY_INTERVAL_S)))
                    if not mine.is_over:
                        mine.woken.clear()
        finally:
            mine.is_abandoned = True
            self._departures.append(mine)
            if self._leader == 0:
                self._wake_next_leader(mine)
        if mine.error is not None:
            raise mine.error
        return mine.is_over

    def _lead(self, mine: Wait, left: Callable[[], float]) -> None:
        self._leader = threading.get_ident()
        try:
            if self._waker < 0 and hasattr(os, "eventfd"):
                self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            while not mine.is_over and (seconds := left()) > 0 and not has_deferred():
                self._step(seconds)
        except BaseException:
            # The next reply on the connection may belong to any command.
            self._drop_connection()
            raise
        finally:
            self._leader = 0
            self._leader_lock.release()

    def _wake_next_leader(self, mine: Wait) -> None:
        for waits in list(self._waits.values()):
            for other in list(waits):
                if other is not mine and not other.is_abandoned:
                    other.woken.set()
                    return
        # A wait that no leader has seen yet checks for a leader itself.
        for other in list(self._arrivals):
            if other is not mine:
                other.woken.set()
                return

    def _wait_alone(self, mine: Wait, left: Callable[[], float]) -> bool:
        gap = SHORTEST_WAIT_S
        while not mine.is_over and (seconds := left()) > 0:
            checkpoint()
            self._register([mine])
            if not mine.is_over:
                mine.woken.wait(min(seconds, gap))
                gap = min(2 * gap, SAFETY_INTERVAL_S)
        if mine.error is not None:
            raise mine.error
        return mine.is_over

    # -- the leader -----------------------------------------------------------------------------------------------------------------------

    def _step(self, seconds: float) -> None:
        """Wait on the connection once, for at most *seconds*."""
        try:
            new = self._update_waits()
            self._ensure_blocking()
            self._check(new)
            self._unreachable_since = None
        except StorageUnavailable as error:
            self._drop_connection()
            if isinstance(error, NoneLeft):
                # The pool has waited for a connection already.
                self._end_with_error(self._all(), error)
            else:
                self._tolerate_outage(error, seconds)
            return
        except StorageError as error:
            self._drop_connection()
            self._end_with_error(self._all(), error)
            return
        if all(not wait.is_over for wait in new):
            self._await_reply(min(seconds, max(0.0, (self._next_check - system_clock.monotonic()) / SECOND)))

    def _update_waits(self) -> list[Wait]:
        """Remove abandoned waits; add new ones and return them."""
        if self.connection is not None and (self.connection.is_closed or self.connection.pid != os.getpid()):
            self._drop_connection()
        new = []
        for _ in range(len(self._arrivals)):
            wait = self._arrivals.popleft()
            if not wait.is_abandoned:
                self._waits.setdefault(wait.prefix, set()).add(wait)
                new.append(wait)
        for _ in range(len(self._departures)):
            self._forget(self._departures.popleft())
        return new

    def _forget(self, wait: Wait) -> None:
        waits = self._waits.get(wait.prefix, set())
        waits.discard(wait)
        if not waits:
            self._waits.pop(wait.prefix, None)

    def _all(self) -> list[Wait]:
        return [wait for waits in self._waits.values() for wait in waits]

    def _ensure_blocking(self) -> None:
        """Ensure that a blocking command for all waits is in flight."""
        if self.connection is None:
            self.connection = self._pool.take()
            self._blocked_on = None
            self._next_check = 0
        blocked_on, wanted = self._blocked_on, self._positions()
        if blocked_on is not None and not all(blocked_on.get(prefix, math.inf) <= position for prefix, position in wanted.items()):
            self._end_blocking(self.connection)
        if self._blocked_on is None:
            self._blocked_on = self._positions()
            self._send(self.connection, self._blocked_on, max(SHORTEST_WAIT_S, min(SAFETY_INTERVAL_S, self.connection.reply_timeout / 2)))

    def _end_blocking(self, connection: CommandConnection) -> None:
        for _ in range(UNBLOCK_ATTEMPTS):
            if self._is_readable(connection, 0) or next(iter(self._all())).queue.command(b"CLIENT", b"UNBLOCK", connection.client):
                break
        self._read_reply(connection)

    def _check(self, new: list[Wait]) -> None:
        """Check new waits on the server; each second, all."""
        now = system_clock.monotonic()
        if now >= self._next_check:
            self._next_check = now + micros(SAFETY_INTERVAL_S)
            new = self._all()
        queues: dict[str, list[Wait]] = {}
        for wait in new:
            queues.setdefault(wait.prefix, []).append(wait)
        for waits in queues.values():
            try:
                self._register(waits)
            except StorageUnavailable:
                raise
            except StorageError as error:
                self._end_with_error(waits, error)

    def _await_reply(self, seconds: float) -> None:
        connection = self.connection
        assert connection is not None
        try:
            if self._is_readable(connection, seconds):
                self._read_reply(connection)
        except StorageError:
            # The next step connects again and checks all waits.
            self._drop_connection()

    def _is_readable(self, connection: CommandConnection, seconds: float) -> bool:
        rung = connection.wait(seconds, self._waker)
        if self._waker in rung:
            with suppress(BlockingIOError):
                os.eventfd_read(self._waker)
        return connection.fileno() in rung

    def _wake(self) -> None:
        if self._waker >= 0:
            with suppress(OSError):
                os.eventfd_write(self._waker, 1)

    def _read_reply(self, connection: CommandConnection) -> None:
        """Read the reply of the blocking command, and act on it."""
        answer = checked(connection, connection.read())
        self._blocked_on = None
        if answer:
            self._dispatch(connection, answer)

    def _tolerate_outage(self, error: StorageUnavailable, seconds: float) -> None:
        """Tolerate an unreachable server for a while."""
        now = system_clock.monotonic()
        if self._unreachable_since is None:
            # The server may have closed the connection while no thread waited: connect again at once.
            self._unreachable_since = now
        elif now - self._unreachable_since >= micros(OUTAGE_TOLERANCE_S):
            self._unreachable_since = None
            self._end_with_error(self._all(), error)
        else:
            system_clock.sleep(min(RETRY_GAP_S, max(0.0, seconds)))

    def _end_with_error(self, waits: Iterable[Wait], error: StorageError) -> None:
        for wait in waits:
            # One error for each thread, since each adds its traceback.
            own = type(error)(*error.args)
            if isinstance(own, StorageUnavailable):
                own.is_unknown = False
            wait.end(own)

    def _drop_connection(self) -> None:
        connection, self.connection, self._blocked_on = self.connection, None, None
        if connection is not None:
            self._pool.drop(connection)

    def close(self) -> None:
        """Close the connection; a waiting thread opens another."""
        connection = self.connection
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        if self._waker >= 0:
            os.close(self._waker)

    # -- what is waited for ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _positions(self) -> dict[str, int]:
        """Return the queues that a blocking command has to wait for now, each with the position after which events count."""

    @abstractmethod
    def _send(self, connection: CommandConnection, positions: dict[str, int], seconds: float) -> None:
        """Send the blocking command."""

    @abstractmethod
    def _dispatch(self, connection: CommandConnection, answer: Any) -> None:
        """End the waits that *answer* concerns."""

    @abstractmethod
    def _register(self, waits: list[Wait]) -> None:
        """Register the waits of one queue on the server; end those that are already over."""


class ResultListener(SharedListener):
    """Waits for results: each queue has a list for this connection, to which scripts push the ids whose results have come."""

    def _positions(self) -> dict[str, int]:
        return dict.fromkeys(self._waits, 0)

    def _send(self, connection: CommandConnection, positions: dict[str, int], seconds: float) -> None:
        lists = [f"{prefix}{keys.ARRIVED}{connection.client}" for prefix in positions]
        connection.send((b"BLPOP", *lists, seconds))

    def _dispatch(self, connection: CommandConnection, answer: Any) -> None:
        key, id = answer
        # Often there are more.
        connection.send((b"LPOP", key, MAX_WAKE_UPS))
        there = {id, *(checked(connection, connection.read()) or ())}
        name = key if isinstance(key, str) else key.decode()
        prefix = name[: name.rindex(keys.ARRIVED)]
        self._end(self._waits.get(prefix, ()), there)

    def _register(self, waits: list[Wait]) -> None:
        ids = list(dict.fromkeys(id for wait in waits for id in wait.subjects))
        first = waits[0]
        waiter = "" if self.connection is None else str(self.connection.client)
        there: set[bytes] = set()
        for some in in_chunks(ids):
            there.update(first.queue.call("watch_results", waiter, *some))
        if there:
            self._end(waits, there)

    def _end(self, waits: Iterable[Wait], there: set[Any]) -> None:
        ids = {id if isinstance(id, str) else id.decode() for id in there}
        for wait in list(waits):
            if not ids.isdisjoint(wait.subjects):
                wait.end()

    def forget(self, mine: Wait) -> None:
        """Unregister the wait for these results on the server, except for those that other threads wait for."""
        connection = self.connection
        if connection is None:
            return
        others = {
            id for wait in list(self._waits.get(mine.prefix, ())) if wait is not mine and not wait.is_abandoned for id in wait.subjects
        }
        ids = [id for id in mine.subjects if id not in others]
        # Otherwise it expires after a minute.
        with suppress(StorageUnavailable):
            for some in in_chunks(ids):
                mine.queue.call("unwatch_results", str(connection.client), *some)


class EventListener(SharedListener):
    """Waits for events, each after a position of a queue's stream."""

    def _positions(self) -> dict[str, int]:
        return {prefix: min(wait.subjects[0] for wait in waits) for prefix, waits in self._waits.items() if waits}

    def _send(self, connection: CommandConnection, positions: dict[str, int], seconds: float) -> None:
        names = [f"{prefix}{keys.EVENTS}" for prefix in positions]
        ids = [f"{position}-0" for position in positions.values()]
        connection.send((b"XREAD", b"COUNT", 1, b"BLOCK", max(1, int(seconds * 1000)), b"STREAMS", *names, *ids))

    def _dispatch(self, connection: CommandConnection, answer: Any) -> None:
        for key in answer if isinstance(answer, dict) else [key for key, _ in answer]:
            name = key if isinstance(key, str) else key.decode()
            for wait in list(self._waits.get(name.removesuffix(keys.EVENTS), ())):
                wait.end()

    def _register(self, waits: list[Wait]) -> None:
        """Do nothing: the blocking command names the position, and returns at once if there are later events."""
