"""How a consumer waits for parts: it looks again after a while, or a thread of its own reads a queue that blocks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from huey.runtime.clock import SECOND, Clock, Micros, micros

log = logging.getLogger("huey.consumer")

QUICK = 0.001
"""Seconds. A blocking read that found nothing in less did not wait."""
SLOW_DOWN = 0.1
"""Seconds until the next read then."""


class PollBackoff:
    """When to look next at a queue that has to be polled: after *delay* seconds, then *backoff* times as long, up to *max_delay*."""

    def __init__(self, clock: Clock, delay: float, max_delay: float, backoff: float) -> None:
        self._clock = clock
        self._delay, self._max_delay, self._backoff = delay, max(delay, max_delay), backoff
        self._pause = delay
        self._next: Micros | None = None

    def found(self) -> None:
        """There was something: look often again."""
        self._pause, self._next = self._delay, None

    @property
    def left(self) -> float:
        """Seconds until the next look; not more than 0: now."""
        now = self._clock.monotonic()
        if self._next is None:
            self._next = now + micros(self._pause)
            self._pause = min(self._pause * self._backoff, self._max_delay)
        return (self._next - now) / SECOND

    def looked(self) -> None:
        """A look is made now."""
        self._next = None


class Reader:
    """A thread that reads a blocking queue, as many messages as are wanted. *return_all* gets one that comes after ``close``."""

    def __init__(self, read: Callable[[], Any], return_all: Callable[[Any], object], wake: Callable[[], None], clock: Clock) -> None:
        self._read = read
        self._on_late = return_all
        self._wake = wake
        self._clock = clock
        self._changed = threading.Condition()
        self._arrived: deque[Any] = deque()
        self._wanted = 0
        self._error: BaseException | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="Reader", daemon=True)
        self._thread.start()

    def want(self, number: int) -> bool:
        """Allow that many messages to arrive. Return whether one has, or reading failed."""
        with self._changed:
            self._wanted = number
            self._changed.notify_all()
            return bool(self._arrived) or self._error is not None

    def take(self) -> Any:
        """A message that arrived; None when there is none. What reading raised is raised here."""
        with self._changed:
            error, self._error = self._error, None
            if error is not None:
                raise error
            return self._arrived.popleft() if self._arrived else None

    def close(self, timeout: float) -> list[Any]:
        """Read nothing more: what arrived and was not taken. Waits so many seconds for the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return list(self._arrived)

    def _run(self) -> None:
        while self._may_read():
            begin = self._clock.monotonic()
            try:
                data = self._read()
            except BaseException as error:  # The part's own error: who takes gets it.
                self._note(None, error)
                continue
            if data is not None:
                self._note(data, None)
            elif self._clock.monotonic() - begin < micros(QUICK):
                with self._changed:
                    self._changed.wait(SLOW_DOWN)

    def _may_read(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._arrived) < self._wanted)
            return not self._is_closed

    def _note(self, data: Any, error: BaseException | None) -> None:
        with self._changed:
            if not self._is_closed:
                if error is None:
                    self._arrived.append(data)
                else:
                    self._error, self._wanted = error, 0
                self._wake()
                return
        if error is None:
            try:
                self._on_late(data)
            except BaseException:  # The part's own error. Who reads the log can put the message in again.
                log.exception("a message that was read while the consumer stopped could not be put back: %r", data)
