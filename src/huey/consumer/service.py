"""Loops that nothing ends but a stop: `Service`, a loop in a thread of its own, and `Guard`, the top of any loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from huey.engine.outage import Outage
from huey.engine.stamps import Stamp
from huey.exceptions import StorageError
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

RETRY_INTERVAL_S = 1.0
"""Longest time from a call that failed to the next one, so that a recovery is noticed soon."""


class Guard:
    """Calls the parts of a loop. A part that raises is logged once, until it succeeds again."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def call(self, part: str, act: Callable[..., Any], *args: Any) -> bool:
        """Call *act* and return True, or False if it raised."""
        try:
            act(*args)
        except BaseException:  # The top of a loop: whatever it was, the loop continues.
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

    An exception of *run_once*, of whatever kind, is logged once until a call succeeds, and does not end the loop. *outage* logs an
    unavailable storage, once for all that share it. *stamp* shows that the loop makes progress. Calling ``start`` after ``stop``, ``stop``
    before ``start`` or ``stop`` twice is harmless.
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
        """Start the thread again if it ended without a stop, and return its name then; else return nothing."""
        with self._lock:
            if self._thread is None or self._thread.is_alive():
                return []
            self._start_thread()
            return [self.name]

    def replace(self) -> None:
        """Start another thread in place of one that stalls; that one ends when it goes on."""
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
        except BaseException as error:  # The top of a service loop: it continues, whatever happened.
            if self._outage is not None and isinstance(error, StorageError):
                self._outage.begins(self.name, error)
            else:
                self._guard.failed(self.name)
            return min(self._interval, RETRY_INTERVAL_S)
        if self._outage is not None:
            self._outage.ends(self.name)
        self._guard.succeeded(self.name)
        return delay
