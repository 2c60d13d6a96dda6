"""How long one call waits: first for the other threads of its process, then for a file that another process keeps busy.

Both together take no longer than the call's patience, which starts to run when it first has to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from huey.exceptions import StorageUnavailable
from huey.runtime.clock import SECOND, Clock, Micros, Rng, micros

FIRST_GAP = 400e-6
LONGEST_GAP = 4e-3
SHORTEST_GAP = 50e-6
"""Seconds. SQLite's own busy handler sleeps up to 100 ms and starves whole processes; short random repeats are fair."""
SLOW_GAP = 25e-3
"""Seconds. After a second of waiting nobody is about to be served: somebody keeps the file, and repeats need not cost a core."""


class Patient(Protocol):
    """Who waits."""

    def again(self) -> bool:
        """Sleep a little before another try; False when there is no time left for one."""


class Waiting:
    """The patience of one call. *since*: it has waited from then on."""

    def __init__(self, clock: Clock, rng: Rng, seconds: float, since: Micros | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self._limit = micros(seconds)
        self._since = since
        self._gap = FIRST_GAP

    def again(self) -> bool:
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited > self._limit:
            return False
        self._clock.sleep(SHORTEST_GAP + self._rng.random() * (self._gap - SHORTEST_GAP))
        self._gap = min(self._gap * 1.5, LONGEST_GAP if waited < SECOND else SLOW_GAP)
        return True


class Gate:
    """A lock of this process, for one thread at a time. Waits (``Patient``) for the call that holds it.

    *begin* is called when a call comes in. A call that comes in while its own thread is inside has interrupted the one that is: a signal
    handler, a destructor, a trace function. It must not see what that one has under way, nor wait for it: *set_aside* puts that away, and
    *take_back* is given it when the inner call has left.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        rng: Rng,
        begin: Callable[[], None],
        set_aside: Callable[[], Any],
        take_back: Callable[[Any], None],
    ) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self._set_aside = set_aside
        self._take_back = take_back
        self._interrupted: list[tuple[Any, tuple[Any, ...]]] = []
        self._path = path
        self._clock = clock
        self._rng = rng
        self.begin = begin
        self._seconds = 0.0
        self._since: Micros | None = None
        self._waiting: Waiting | None = None

    def within(self, seconds: float) -> Door:
        """The way in for a call of that patience."""
        return Door(self, seconds, begins=True, nests=False)

    def held(self, seconds: float, *, begins: bool = True) -> Door:
        """The way in for a part of a call, which may hold the lock already. *begins* False: it wants the lock only, whatever the state of
        things."""
        return Door(self, seconds, begins, nests=True)

    def wait_for_it(self, seconds: float) -> Micros:
        """Take the lock once others have left it; when the waiting began."""
        since = self._clock.monotonic()
        if not self.lock.acquire(timeout=seconds):
            raise StorageUnavailable(f"{self._path}: other threads of this process kept it busy for {seconds} s; try again")
        return since

    def hold(self, seconds: float, since: Micros | None) -> None:
        """A new call holds the lock; *since* is when it began to wait."""
        self._seconds, self._since, self._waiting = seconds, since, None

    def again(self) -> bool:
        if self._waiting is None:
            self._waiting = Waiting(self._clock, self._rng, self._seconds, self._since)
        return self._waiting.again()

    @property
    def is_interrupting(self) -> bool:
        """The call that holds the lock interrupted another one of its thread."""
        return bool(self._interrupted)

    def interrupt(self, seconds: float) -> None:
        """A call comes in that interrupted another one of this thread."""
        self._interrupted.append((self._set_aside(), (self._seconds, self._since, self._waiting)))
        self.hold(seconds, None)

    def resume(self) -> None:
        """The inner call leaves; the one that it interrupted goes on as if nothing had been."""
        aside, (self._seconds, self._since, self._waiting) = self._interrupted.pop()
        self._take_back(aside)


class Door:
    """``with door:`` holds the gate's lock."""

    __slots__ = ("_begins", "_gate", "_nests", "_seconds")

    def __init__(self, gate: Gate, seconds: float, begins: bool, nests: bool) -> None:
        self._gate = gate
        self._seconds = seconds
        self._begins = begins
        self._nests = nests

    def __enter__(self) -> None:
        gate = self._gate
        since = None if gate.lock.acquire(blocking=False) else gate.wait_for_it(self._seconds)
        gate.depth += 1
        if gate.depth == 1:
            gate.hold(self._seconds, since)
            if self._begins:
                try:
                    gate.begin()
                except BaseException:
                    self.__exit__()
                    raise
        elif not self._nests:
            try:
                gate.interrupt(self._seconds)
            except BaseException:
                gate.depth -= 1
                gate.lock.release()
                raise

    def __exit__(self, *_: object) -> None:
        gate = self._gate
        try:
            if gate.depth > 1 and not self._nests:
                gate.resume()
        finally:
            gate.depth -= 1
            gate.lock.release()
