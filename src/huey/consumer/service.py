"""A loop in a thread of its own: does one thing, again and again, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from huey.engine.outage import Outage
from huey.exceptions import StorageError
from huey.logs import SafeLogger

log = SafeLogger("huey.consumer")


RETRY = 1.0
"""Seconds, at most, from a call that failed to the next one: what was away is found again soon."""


class Service:
    """Calls ``act`` at once and then after each of the pauses it returns (seconds); None means ``every``.

    An error of ``act`` is logged once, until a call goes well again, and does not end the loop. A storage that is away is told by *outage*,
    with one line for all who share it. Start after stop, stop before start and a second stop are harmless.
    """

    def __init__(self, name: str, act: Callable[[], float | None], every: float, outage: Outage | None = None) -> None:
        self._name = name
        self._act = act
        self._every = every
        self._outage = outage
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    def start(self) -> None:
        if self._thread is None:
            # An event of its own, so that a loop which was stopped and has not noticed yet stays stopped.
            self._stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(self._stop,), name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def stop(self, timeout: float | None = 5.0) -> None:
        """End the loop after the call it is in; wait for that up to *timeout* seconds."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self, stop: threading.Event) -> None:
        pause: float | None = 0.0
        while not stop.wait(self._every if pause is None else pause):
            pause = self._once()

    def _once(self) -> float | None:
        try:
            pause = self._act()
        except Exception as error:  # The top of a service loop: it goes on, whatever happened.
            if self._outage is not None and isinstance(error, StorageError):
                self._outage.begins(self._name, error)
            elif not self._is_failing:
                self._is_failing = True
                log.exception("%s failed; it goes on trying", self._name)
            return min(self._every, RETRY)
        if self._outage is not None:
            self._outage.ends(self._name)
        if self._is_failing:
            self._is_failing = False
            log.info("%s works again", self._name)
        return pause
