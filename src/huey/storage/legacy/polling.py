"""How a consumer waits for components: it polls them, or a thread of its own reads a queue that blocks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from huey.runtime.clock import SECOND, Clock, Micros, micros

log = logging.getLogger("huey.consumer")

QUICK = 0.001
"""Seconds. A blocking read that returned nothing in less time did not wait."""
SLOW_DOWN = 0.1
"""Seconds before the next read in that case."""


class PollBackoff:
    """The times to poll a queue: after *delay* seconds, then *backoff* times as long, up to *max_delay*."""

    def __init__(self, clock: Clock, delay: float, max_delay: float, backoff: float) -> None:
        self._clock = clock
        self._delay, self._max_delay, self._backoff = delay, max(delay, max_delay), backoff
        self._pause = delay
        self._next: Micros | None = None

    def found(self) -> None:
        """Reset the delay after a message was found."""
        self._pause, self._next = self._delay, None

    @property
    def left(self) -> float:
        """Seconds until the next poll; 0 or less: now."""
        now = self._clock.monotonic()
        if self._next is None:
            self._next = now + micros(self._pause)
            self._pause = min(self._pause * self._backoff, self._max_delay)
        return (self._next - now) / SECOND

    def looked(self) -> None:
        """Note that a poll happens now."""
        self._next = None


class Reader:
    """A thread that reads a blocking queue, as many messages as are wanted. One that arrives after ``close`` goes to *return_all*."""

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
        """Allow that many messages to arrive. Return True if one has arrived or a read has failed."""
        with self._changed:
            self._wanted = number
            self._changed.notify_all()
            return bool(self._arrived) or self._error is not None

    def take(self) -> Any:
        """Return a message that has arrived, or None. Raise the error of a failed read."""
        with self._changed:
            error, self._error = self._error, None
            if error is not None:
                raise error
            return self._arrived.popleft() if self._arrived else None

    def close(self, timeout: float) -> list[Any]:
        """Stop reading; return the messages that have arrived and were not taken. Waits up to *timeout* seconds for the thread."""
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
            except BaseException as error:  # The component's own error, for the caller of take().
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
            except BaseException:  # The component's own error. Anyone who reads the log can enqueue the message again.
                log.exception("a message that was read while the consumer was stopping could not be returned to the queue: %r", data)
