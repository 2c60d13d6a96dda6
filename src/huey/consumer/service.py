"""Loops that only a stop ends: `Service`, a loop in its own thread, and `Guard`, the top of any loop.

This module also checks the threads that serve a consumer: it restarts one that has ended, and reports one that stalls.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from huey.engine.outage import Outage
from huey.engine.stamps import CHECK_INTERVAL, OWN_THREADS, Board, Stamp, Standstill
from huey.exceptions import StorageError
from huey.runtime import host
from huey.runtime.clock import Clock, Micros, micros
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

RETRY_INTERVAL_S = 1.0
"""Longest time from a call that failed to the next one, so that a recovery is noticed soon."""
MAX_RESTARTS = 5
"""Checks within ``RESTART_WINDOW_S`` that may find ended threads; with more of them the process cannot be repaired."""
RESTART_WINDOW_S = 60.0
PULSE_STALL_CHECKS = 10
"""Checks without a new pulse, although Python runs, after which the pulse thread itself is taken for stalled."""


class Guard:
    """Calls the parts of a loop. A part that raises is logged once, until it succeeds again."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def call(self, part: str, act: Callable[..., Any], *args: Any) -> bool:
        """Call *act* and return True, or False if it raised."""
        try:
            act(*args)
        except BaseException:  # The top of a loop, which continues after any error.
            self.failed(part)
            return False
        self.succeeded(part)
        return True

    def failed(self, part: str) -> None:
        """Log the current exception. Call it in an ``except`` block."""
        if part not in self._failing:
            self._failing.add(part)
            log.error("%s failed; retrying", part, exc_info=True)

    def succeeded(self, part: str) -> None:
        """Log the recovery, if *part* was failing."""
        if part in self._failing:
            self._failing.discard(part)
            log.info("%s has recovered", part)


class Service:
    """Calls *run_once* at once and then after each of the delays that it returns, in seconds; None means *interval*.

    Any exception of *run_once* is logged once until a call succeeds, and does not end the loop. *outage* logs an unavailable storage, once
    for all that share it. *stamp* shows that the loop makes progress. Calling ``start`` after ``stop``, ``stop`` before ``start`` or
    ``stop`` twice is harmless.
    """

    def __init__(
        self, name: str, run_once: Callable[[], float | None], interval: float, outage: Outage | None = None, stamp: Stamp | None = None
    ) -> None:
        self.name = name
        self._run_once = run_once
        self._interval = interval
        self._outage = outage
        self._stamp = stamp
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._guard = Guard()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._start_thread()

    def _start_thread(self) -> None:
        # An event of its own, so that a loop which was stopped and has not noticed yet stays stopped.
        self._stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._stop,), name=self.name, daemon=True)
        thread.start()
        self._thread = thread

    def stop(self, timeout: float | None = 5.0) -> bool:
        """End the loop after the current call; wait up to *timeout* seconds for that, and return whether it has ended."""
        with self._lock:
            self._stop.set()
            thread, self._thread = self._thread, None
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def revive(self) -> list[str]:
        """Restart the thread if it ended without a stop. Return its name in a list, which is empty otherwise."""
        with self._lock:
            if self._thread is None or self._thread.is_alive():
                return []
            self._start_thread()
            return [self.name]

    def replace(self) -> None:
        """Start another thread in place of a stalled one, which ends if it continues."""
        with self._lock:
            if self._thread is not None:
                self._stop.set()
                self._start_thread()

    def _run(self, stop: threading.Event) -> None:
        delay: float | None = 0.0
        while not stop.wait(self._interval if delay is None else delay):
            if self._stamp is not None:
                self._stamp.show()
            delay = self._call_once()
            if self._stamp is not None:
                self._stamp.show(self._interval if delay is None else delay)
        if self._stamp is not None and stop is self._stop:
            self._stamp.leave()

    def _call_once(self) -> float | None:
        try:
            delay = self._run_once()
        except BaseException as error:  # The top of a service loop, which continues after any error.
            if self._outage is not None and isinstance(error, StorageError):
                self._outage.begins(self.name, error)
            else:
                self._guard.failed(self.name)
            return min(self._interval, RETRY_INTERVAL_S)
        if self._outage is not None:
            self._outage.ends(self.name)
        self._guard.succeeded(self.name)
        return delay


# -- threads that end or stall ----------------------------------------------------------------------------------------------------------


class ThreadsUnrecoverable(Exception):
    """Raised when threads end faster than they can be restarted."""


class ThreadRestarter:
    """Restarts ended threads. *revive*: functions that do so for one group of threads and return the names of those that had ended."""

    def __init__(self, clock: Clock, revive: Sequence[Callable[[], list[str]]]) -> None:
        self._clock = clock
        self._revive = revive
        self._restarts: list[Micros] = []

    def check(self) -> None:
        """Restart ended threads. Raise ThreadsUnrecoverable if this process cannot continue."""
        names = [name for revive in self._revive for name in self._revived(revive)]
        if not names:
            return
        now = self._clock.monotonic()
        self._restarts = [*(at for at in self._restarts if now - at < micros(RESTART_WINDOW_S)), now]
        if len(self._restarts) > MAX_RESTARTS:
            raise ThreadsUnrecoverable(f"its threads keep ending, most recently {', '.join(names)}")
        log.critical("threads of this worker ended unexpectedly and were restarted: %s", ", ".join(names))

    def _revived(self, revive: Callable[[], list[str]]) -> list[str]:
        try:
            return revive()
        except RuntimeError as error:  # The system cannot start a thread.
            raise ThreadsUnrecoverable(f"a thread ended and cannot be restarted: {error}") from error


class StallCounter:
    """Counts successive checks of a number that should have grown. *seconds*: how long it may stay the same; 0: forever."""

    def __init__(self, seconds: float) -> None:
        self._limit = ceil(seconds / CHECK_INTERVAL)
        self._last: int | None = None
        self._count = 0

    def check(self, number: int) -> bool:
        """Return True, once, when *number* has stayed the same for too long."""
        self._count = self._count + 1 if number == self._last else 0
        self._last = number
        return bool(self._limit) and self._count == self._limit


class OwnWatchdog:
    """The watchdog of a consumer inside a program: there is no supervisor, and the program must live on.

    It checks, in a thread of its own, whether the others make progress. *seconds*: how long they may stall; 0: forever. *stop* is called
    once, with the reason.
    """

    def __init__(self, clock: Clock, seconds: float, board: Board, outage: Outage, stop: Callable[[str], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._board = board
        self._outage = outage
        self._stop = stop
        self._standstill = Standstill(seconds)
        self._syncs: set[int] = set()
        self._sleepers: set[tuple[str, str]] = set()
        self._has_stopped = False

    def check(self, restarter: ThreadRestarter) -> None:
        """Check once; call it every second. If this thread does not get to run, neither does Python or the machine: that is not a stall."""
        if self._has_stopped:
            return
        try:
            restarter.check()
        except ThreadsUnrecoverable as error:
            self._has_stopped = True
            return self._stop(str(error))
        if self._is_excused():
            return self._standstill.forget()
        if stalled := self._standstill.check(self._clock.monotonic(), self._board.stamps()):
            self._has_stopped = True
            names = ", ".join(OWN_THREADS[thread] for thread in stalled)
            self._stop(f"no response from its {names} for {self._seconds:g} s")

    def _is_excused(self) -> bool:
        """Return True if the storage is unavailable, the disk is slow, or a debugger holds the process."""
        before, self._syncs = self._syncs, host.syncs()
        me = os.getpid()
        asleep, self._sleepers = self._sleepers, host.sleepers(me) if self._standstill.is_counting else set()
        return bool(before & self._syncs or asleep & self._sleepers) or self._outage.is_on_besides("engine") or host.is_traced(me)
