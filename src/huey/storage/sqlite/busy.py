"""How long a call waits: first for other threads of its process (`PatientLock`), then for a file that another process keeps busy
(`BusyRetry`).

Both together take no longer than the timeout of the call, which starts when the call first has to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros, Rng, micros

FIRST_GAP_S = 400e-6
LONGEST_GAP_S = 4e-3
SHORTEST_GAP_S = 50e-6
"""SQLite's own busy handler sleeps up to 100 ms and starves whole processes; short random gaps are fair."""
SLOW_GAP_S = 25e-3
"""After a second of waiting the file is not just contended, but held: retries need not keep a core busy."""


class Retrier(Protocol):
    """Decides whether a call that met a busy file tries again."""

    def again(self) -> bool:
        """Sleep a little before another try. Returns False when there is no time left for one."""


class BusyRetry:
    """Retries of one call for *seconds*, counted from *since*, or from the first retry."""

    def __init__(self, clock: Clock, rng: Rng, seconds: float, since: Micros | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self._limit = micros(seconds)
        self._since = since
        self._gap = FIRST_GAP_S

    def again(self) -> bool:
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited > self._limit:
            return False
        self._clock.sleep(SHORTEST_GAP_S + self._rng.random() * (self._gap - SHORTEST_GAP_S))
        self._gap = min(self._gap * 1.5, LONGEST_GAP_S if waited < SECOND else SLOW_GAP_S)
        return True


class PatientLock:
    """The lock of this process around a connection. It is also the `Retrier` of the call that holds it.

    *before_call* is called when a call has taken the lock. A call that enters while its own thread is inside has interrupted the call that
    is: it is a signal handler, a destructor or a trace function. It must neither see the unfinished state of that call nor wait for it:
    *set_aside* puts that state away and returns it, and *take_back* restores it when the inner call has left.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        rng: Rng,
        before_call: Callable[[], None],
        set_aside: Callable[[], Any],
        take_back: Callable[[Any], None],
    ) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.before_call = before_call
        self._set_aside = set_aside
        self._take_back = take_back
        self._interrupted: list[tuple[Any, tuple[Any, ...]]] = []
        self._path = path
        self._clock = clock
        self._rng = rng
        self._seconds = 0.0
        self._since: Micros | None = None
        self._retry: BusyRetry | None = None

    def scope(self, seconds: float) -> LockScope:
        """Return the context manager of a whole call that waits up to *seconds*."""
        return LockScope(self, seconds, is_call=True, nests=False)

    def nested_scope(self, seconds: float, *, is_call: bool = True) -> LockScope:
        """Return the context manager of a part of a call, which may hold the lock already.

        *is_call* False: it only needs the lock, and skips `before_call`.
        """
        return LockScope(self, seconds, is_call, nests=True)

    def wait(self, seconds: float) -> Micros:
        """Take the lock once other threads have left it. Returns when the waiting began."""
        since = self._clock.monotonic()
        if not self.lock.acquire(timeout=seconds):
            raise StorageUnavailable(f"{self._path}: other threads of this process kept it busy for {seconds} s; try again")
        return since

    def begin(self, seconds: float, since: Micros | None) -> None:
        """Note that a new call holds the lock, which began to wait at *since*."""
        self._seconds, self._since, self._retry = seconds, since, None

    def again(self) -> bool:
        if self._retry is None:
            self._retry = BusyRetry(self._clock, self._rng, self._seconds, self._since)
        return self._retry.again()

    @property
    def is_interrupting(self) -> bool:
        """Whether the call that holds the lock interrupted another call of its thread."""
        return bool(self._interrupted)

    def interrupt(self, seconds: float) -> None:
        """Put the state of the interrupted call aside for an inner call."""
        self._interrupted.append((self._set_aside(), (self._seconds, self._since, self._retry)))
        self.begin(seconds, None)

    def resume(self) -> None:
        """Restore the state of the interrupted call when the inner call leaves."""
        aside, (self._seconds, self._since, self._retry) = self._interrupted.pop()
        self._take_back(aside)


class LockScope:
    """`with scope:` holds a `PatientLock`, waiting up to the timeout of the scope."""

    __slots__ = ("_is_call", "_lock", "_nests", "_seconds")

    def __init__(self, lock: PatientLock, seconds: float, is_call: bool, nests: bool) -> None:
        self._lock = lock
        self._seconds = seconds
        self._is_call = is_call
        self._nests = nests

    def __enter__(self) -> None:
        lock = self._lock
        since = None if lock.lock.acquire(blocking=False) else lock.wait(self._seconds)
        lock.depth += 1
        if lock.depth == 1:
            lock.begin(self._seconds, since)
            if self._is_call:
                try:
                    lock.before_call()
                except BaseException:
                    self.__exit__()
                    raise
        elif not self._nests:
            try:
                lock.interrupt(self._seconds)
            except BaseException:
                lock.depth -= 1
                lock.lock.release()
                raise

    def __exit__(self, *_: object) -> None:
        lock = self._lock
        try:
            if lock.depth > 1 and not self._nests:
                lock.resume()
        finally:
            lock.depth -= 1
            lock.lock.release()
