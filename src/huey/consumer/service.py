"""A loop in a thread of its own: does one thing, again and again, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("huey.consumer")


class Service:
    """Calls ``act`` at once and then after each of the pauses it returns (seconds); None means ``every``.

    An error of ``act`` is logged once per outage and does not end the loop. Start after stop, stop before start and a second stop are
    harmless.
    """

    def __init__(self, name: str, act: Callable[[], float | None], every: float) -> None:
        self._name = name
        self._act = act
        self._every = every
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
        except Exception:  # The top of a service loop: it goes on, whatever happened.
            if not self._is_failing:
                self._is_failing = True
                log.exception("%s failed; it goes on trying", self._name)
            return None
        if self._is_failing:
            self._is_failing = False
            log.info("%s works again", self._name)
        return pause
