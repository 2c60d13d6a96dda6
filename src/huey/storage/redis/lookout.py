"""One connection on which all threads of a process wait for results, and one for events.

No thread of its own: one of those that wait leads. It reads the connection for all and wakes whom an answer concerns; when it leaves,
another one leads on. What a thread may change while another leads are two queues, so nobody holds a lock here, and a call that interrupts
another one in the same thread (a signal handler) waits by itself.

Each wait is known to the server before the leader sleeps, and all are looked at again each second, should a wake-up have been lost.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from huey.exceptions import StorageError, StorageUnavailable
from huey.runtime.clock import SECOND, Micros, micros, system_clock
from huey.runtime.masking import checkpoint, has_deferred
from huey.storage.helpers import in_chunks
from huey.storage.redis import keys
from huey.storage.redis.connection import CommandConnection, checked
from huey.storage.redis.errors import NoneLeft
from huey.storage.redis.messages import Arg
from huey.storage.redis.pool import ConnectionSet, Pool

SAFETY_LOOK = 1.0
"""Seconds after which who waits looks by itself, should a wake-up have been lost."""
LEAST_WAIT = 0.01
"""Seconds. Shorter waits would be a busy loop; 0 means for ever to the server."""
OUTAGE = 5.0
"""Seconds that a wait goes on while the server is away."""
GAP = 0.2
"""Seconds between two tries then."""
ENDINGS = 20
"""Tries to end a blocking command that the server may not have seen yet."""
WAKES = 1000
"""Wake-ups that are read at once."""


class Wait:
    """One thread's wait at one queue, for any of some *subjects* (ids of tasks, or the position after which events are wanted)."""

    def __init__(self, connections: ConnectionSet, prefix: str, subjects: tuple[Any, ...], now: Callable[[], Arg]) -> None:
        self.connections = connections
        self.prefix = prefix
        self.subjects = subjects
        self.now = now
        self.is_over = False
        """What it waits for has come, or an error."""
        self.has_left = False
        self.error: StorageError | None = None
        self.news = threading.Event()

    def end(self, error: StorageError | None = None) -> None:
        self.error = error
        self.is_over = True
        self.news.set()


W = TypeVar("W", bound=Wait)


class Lookout(ABC, Generic[W]):
    """Waits for all threads of this process."""

    def __init__(self, pool: Pool) -> None:
        # Not held: the pool has it, and both would wait for the collector of garbage with their sockets open.
        self._pool = weakref.proxy(pool)
        self.connection: CommandConnection | None = None
        self._leading = threading.RLock()
        self._leader = 0
        """The thread that leads."""
        self._coming: deque[W] = deque()
        self._leaving: deque[W] = deque()
        self._waits: dict[str, set[W]] = {}
        """By queue. Its own of who leads, like all below."""
        self._waker = -1
        self._blocked_on: frozenset[Any] | None = None
        """What the blocking command waits for that is under way, if one is."""
        self._next_look: Micros = 0
        self._away_since: Micros | None = None

    # -- a thread that waits --------------------------------------------------------------------------------------------------------------

    def wait(self, mine: W, left: Callable[[], float]) -> bool:
        """Whether it was over before *left* said that no second is left. StorageError: it cannot be told."""
        if self._leader == threading.get_ident():
            # This call interrupts the leader.
            return self._wait_alone(mine, left)
        self._coming.append(mine)
        try:
            while not mine.is_over and left() > 0:
                checkpoint()
                if self._leading.acquire(blocking=False):
                    self._lead(mine, left)
                else:
                    self._wake()
                    mine.news.wait(max(0.0, min(left(), SAFETY_LOOK)))
                    if not mine.is_over:
                        mine.news.clear()
        finally:
            mine.has_left = True
            self._leaving.append(mine)
            if self._leader == 0:
                self._hand_over(mine)
        if mine.error is not None:
            raise mine.error
        return mine.is_over

    def _lead(self, mine: W, left: Callable[[], float]) -> None:
        self._leader = threading.get_ident()
        try:
            if self._waker < 0 and hasattr(os, "eventfd"):
                self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            while not mine.is_over and (seconds := left()) > 0 and not has_deferred():
                self._step(seconds)
        except BaseException:
            # Nobody knows what comes next on the connection.
            self._lose()
            raise
        finally:
            self._leader = 0
            self._leading.release()

    def _hand_over(self, mine: W) -> None:
        for waits in list(self._waits.values()):
            for other in list(waits):
                if other is not mine and not other.has_left:
                    other.news.set()
                    return
        # Those that nobody has looked at yet look for a leader themselves.
        for other in list(self._coming):
            if other is not mine:
                other.news.set()
                return

    def _wait_alone(self, mine: W, left: Callable[[], float]) -> bool:
        gap = LEAST_WAIT
        while not mine.is_over and (seconds := left()) > 0:
            checkpoint()
            self._ask([mine])
            if not mine.is_over:
                mine.news.wait(min(seconds, gap))
                gap = min(2 * gap, SAFETY_LOOK)
        if mine.error is not None:
            raise mine.error
        return mine.is_over

    # -- the leader -----------------------------------------------------------------------------------------------------------------------

    def _step(self, seconds: float) -> None:
        """One wait on the connection, for at most so many seconds."""
        try:
            new = self._come_and_go()
            self._block()
            self._look(new)
            self._away_since = None
        except StorageUnavailable as error:
            self._lose()
            if isinstance(error, NoneLeft):
                # It has waited for one already.
                self._fail(self._all(), error)
            else:
                self._bear(error, seconds)
            return
        except StorageError as error:
            self._lose()
            self._fail(self._all(), error)
            return
        if all(not wait.is_over for wait in new):
            self._hear(min(seconds, max(0.0, (self._next_look - system_clock.monotonic()) / SECOND)))

    def _come_and_go(self) -> list[W]:
        """Who came since. Who left is forgotten."""
        if self.connection is not None and (self.connection.is_closed or self.connection.pid != os.getpid()):
            self._lose()
        new = []
        for _ in range(len(self._coming)):
            wait = self._coming.popleft()
            if not wait.has_left:
                self._waits.setdefault(wait.prefix, set()).add(wait)
                new.append(wait)
        for _ in range(len(self._leaving)):
            self._forget(self._leaving.popleft())
        return new

    def _forget(self, wait: W) -> None:
        waits = self._waits.get(wait.prefix, set())
        waits.discard(wait)
        if not waits:
            self._waits.pop(wait.prefix, None)

    def _all(self) -> list[W]:
        return [wait for waits in self._waits.values() for wait in waits]

    def _block(self) -> None:
        """See that a blocking command is under way that waits for all."""
        if self.connection is None:
            self.connection = self._pool.take()
            self._blocked_on = None
            self._next_look = 0
        if self._blocked_on is not None and not self._covers(self._blocked_on):
            self._end_block(self.connection)
        if self._blocked_on is None:
            self._blocked_on = self._subjects()
            self._send(self.connection, max(LEAST_WAIT, min(SAFETY_LOOK, self.connection.patience / 2)))

    def _end_block(self, connection: CommandConnection) -> None:
        for _ in range(ENDINGS):
            if self._is_readable(connection, 0) or next(iter(self._all())).connections.command(b"CLIENT", b"UNBLOCK", connection.client):
                break
        self._settle(connection)

    def _look(self, new: list[W]) -> None:
        """Ask the server about who came since; each second, about all."""
        now = system_clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + micros(SAFETY_LOOK)
            new = self._all()
        queues: dict[str, list[W]] = {}
        for wait in new:
            queues.setdefault(wait.prefix, []).append(wait)
        for waits in queues.values():
            try:
                self._ask(waits)
            except StorageUnavailable:
                raise
            except StorageError as error:
                self._fail(waits, error)

    def _hear(self, seconds: float) -> None:
        connection = self.connection
        assert connection is not None
        try:
            if self._is_readable(connection, seconds):
                self._settle(connection)
        except StorageError:
            # It is made anew, and all are looked at.
            self._lose()

    def _is_readable(self, connection: CommandConnection, seconds: float) -> bool:
        if connection.has_reply():
            return True
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if self._waker >= 0:
            poll.register(self._waker, select.POLLIN)
        rung = [fd for fd, _ in poll.poll(seconds * 1000)]
        if self._waker in rung:
            with suppress(BlockingIOError):
                os.eventfd_read(self._waker)
        return connection.fileno() in rung

    def _wake(self) -> None:
        if self._waker >= 0:
            with suppress(OSError):
                os.eventfd_write(self._waker, 1)

    def _settle(self, connection: CommandConnection) -> None:
        """The answer of the blocking command, and what it says."""
        answer = checked(connection, connection.read())
        self._blocked_on = None
        if answer:
            self._tell(connection, answer)

    def _bear(self, error: StorageUnavailable, seconds: float) -> None:
        """The server is away: for a while that is nobody's business."""
        now = system_clock.monotonic()
        if self._away_since is None:
            # A connection that the server closed while nobody waited is made anew at once.
            self._away_since = now
        elif now - self._away_since >= micros(OUTAGE):
            self._away_since = None
            self._fail(self._all(), error)
        else:
            system_clock.sleep(min(GAP, max(0.0, seconds)))

    def _fail(self, waits: Iterable[W], error: StorageError) -> None:
        for wait in waits:
            # One for each thread: a traceback belongs to one.
            own = type(error)(*error.args)
            if isinstance(own, StorageUnavailable):
                own.is_unknown = False
            wait.end(own)

    def _lose(self) -> None:
        connection, self.connection, self._blocked_on = self.connection, None, None
        if connection is not None:
            self._pool.drop(connection)

    def close(self) -> None:
        """Let go of the connection; a thread that waits makes another."""
        connection = self.connection
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        if self._waker >= 0:
            os.close(self._waker)

    # -- for what -------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _subjects(self) -> frozenset[Any]:
        """What a blocking command has to wait for now."""

    def _covers(self, subjects: frozenset[Any]) -> bool:
        return self._subjects() <= subjects

    @abstractmethod
    def _send(self, connection: CommandConnection, seconds: float) -> None:
        """Send the blocking command."""

    @abstractmethod
    def _tell(self, connection: CommandConnection, answer: Any) -> None:
        """End the waits that its answer concerns."""

    @abstractmethod
    def _ask(self, waits: list[W]) -> None:
        """Let the server know of waits of one queue; end those that are over already."""


class Results(Lookout[Wait]):
    """Waits for results: each queue has a list on which the scripts put the ids that have one now."""

    def _subjects(self) -> frozenset[Any]:
        return frozenset(self._waits)

    def _list(self, prefix: str, connection: CommandConnection) -> str:
        return f"{prefix}{keys.ARRIVED}{connection.client}"

    def _send(self, connection: CommandConnection, seconds: float) -> None:
        lists = [self._list(prefix, connection) for prefix in self._blocked_on or ()]
        connection.send((b"BLPOP", *lists, seconds))

    def _tell(self, connection: CommandConnection, answer: Any) -> None:
        key, id = answer
        # Where there is one there are often more.
        connection.send((b"LPOP", key, WAKES))
        there = {id, *(checked(connection, connection.read()) or ())}
        name = key if isinstance(key, str) else key.decode()
        prefix = name[: name.rindex(keys.ARRIVED)]
        self._end(self._waits.get(prefix, ()), there)

    def _ask(self, waits: list[Wait]) -> None:
        ids = list(dict.fromkeys(id for wait in waits for id in wait.subjects))
        first = waits[0]
        waiter = "" if self.connection is None else str(self.connection.client)
        there: set[bytes] = set()
        for some in in_chunks(ids):
            there.update(first.connections.call("watch_results", first.prefix, first.now(), waiter, *some))
        if there:
            self._end(waits, there)

    def _end(self, waits: Iterable[Wait], there: set[Any]) -> None:
        ids = {id if isinstance(id, str) else id.decode() for id in there}
        for wait in list(waits):
            if not ids.isdisjoint(wait.subjects):
                wait.end()

    def forget(self, mine: Wait) -> None:
        """Tell the server that nobody waits for these any more, but for those that another thread waits for."""
        connection = self.connection
        if connection is None:
            return
        others = {id for wait in list(self._waits.get(mine.prefix, ())) if wait is not mine and not wait.has_left for id in wait.subjects}
        ids = [id for id in mine.subjects if id not in others]
        # What stays goes after a minute.
        with suppress(StorageUnavailable):
            for some in in_chunks(ids):
                mine.connections.call("unwatch_results", mine.prefix, mine.now(), str(connection.client), *some)


class Events(Lookout[Wait]):
    """Waits for events, each after a position of a queue's stream."""

    def _subjects(self) -> frozenset[Any]:
        return frozenset((prefix, min(wait.subjects[0] for wait in waits)) for prefix, waits in self._waits.items() if waits)

    def _covers(self, subjects: frozenset[Any]) -> bool:
        first = dict(subjects)
        return all(prefix in first and first[prefix] <= position for prefix, position in self._subjects())

    def _send(self, connection: CommandConnection, seconds: float) -> None:
        after = dict(self._blocked_on or ())
        names = [f"{prefix}{keys.EVENTS}" for prefix in after]
        ids = [f"{position}-0" for position in after.values()]
        connection.send((b"XREAD", b"COUNT", 1, b"BLOCK", max(1, int(seconds * 1000)), b"STREAMS", *names, *ids))

    def _tell(self, connection: CommandConnection, answer: Any) -> None:
        for key in answer if isinstance(answer, dict) else [key for key, _ in answer]:
            name = key if isinstance(key, str) else key.decode()
            for wait in list(self._waits.get(name.removesuffix(keys.EVENTS), ())):
                wait.end()

    def _ask(self, waits: list[Wait]) -> None:
        """Nothing: the position says after which events, and the blocking command brings what is there already."""
