"""A loop in a thread of its own: does one thing, again and again, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from huey.consumer.guard import Guard
from huey.engine.outage import Outage
from huey.engine.stamps import Stamp
from huey.exceptions import StorageError
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")


RETRY = 1.0
"""Seconds, at most, from a call that failed to the next one: what was away is found again soon."""


class Service:
    """Calls ``act`` at once and then after each of the pauses it returns (seconds); None means ``every``.

    An error of ``act``, of whatever kind, is logged once, until a call goes well again, and does not end the loop. A storage that is away
    is told by *outage*, with one line for all who share it. *stamp*: shows that the loop goes on. Start after stop, stop before start and
    a second stop are harmless.
    """

    def __init__(
        self, name: str, act: Callable[[], float | None], every: float, outage: Outage | None = None, stamp: Stamp | None = None
    ) -> None:
        self.name = name
        self._act = act
        self._every = every
        self._outage = outage
        self._stamp = stamp
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._guard = Guard()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        # An event of its own, so that a loop which was stopped and has not noticed yet stays stopped.
        self._stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._stop,), name=self.name, daemon=True)
        thread.start()
        self._thread = thread

    def stop(self, timeout: float | None = 5.0) -> None:
        """End the loop after the call it is in; wait for that up to *timeout* seconds."""
        with self._lock:
            self._stop.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def revive(self) -> list[str]:
        """Start the thread again if it has ended and nobody stopped it: its name then."""
        with self._lock:
            if self._thread is None or self._thread.is_alive():
                return []
            self._begin()
            return [self.name]

    def replace(self) -> None:
        """Start another thread beside one that stands still; that one ends when it goes on."""
        with self._lock:
            if self._thread is not None:
                self._stop.set()
                self._begin()

    def _run(self, stop: threading.Event) -> None:
        pause: float | None = 0.0
        while not stop.wait(self._every if pause is None else pause):
            if self._stamp is not None:
                self._stamp.show()
            pause = self._once()
            if self._stamp is not None:
                self._stamp.show(self._every if pause is None else pause)
        if self._stamp is not None and stop is self._stop:
            self._stamp.leave()

    def _once(self) -> float | None:
        try:
            pause = self._act()
        except BaseException as error:  # The top of a service loop: it goes on, whatever happened.
            if self._outage is not None and isinstance(error, StorageError):
                self._outage.begins(self.name, error)
            else:
                self._guard.failed(self.name)
            return min(self._every, RETRY)
        if self._outage is not None:
            self._outage.ends(self.name)
        self._guard.went_well(self.name)
        return pause
