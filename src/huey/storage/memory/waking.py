"""How threads wait for a MemoryStorage to change: on its lock, or with a pipe beside a bell."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any

from huey.clock import SECOND, Clock, micros
from huey.host import at_fork
from huey.masking import checkpoint
from huey.storage.base import FOREVER, Bell

SAFETY_LOOK = 1.0
"""Seconds after which who waits looks by itself: clocks may be set."""
NEVER = float("inf")


class Alarm:
    """The one lock of a storage, and who waits for a change. ``with alarm:`` holds the lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._renew()
        at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """At first, and in a forked child: its parent's threads are not there to let go of the lock, or to listen."""
        self._changed = threading.Condition()
        self._listeners: set[int] = set()

    def __enter__(self) -> None:
        self._changed.acquire()

    def __exit__(self, *error: Any) -> None:
        self._changed.release()

    def ring(self) -> None:
        """Something changed: wake all. A listener has at most one byte in its pipe: it is listed again after it has read."""
        self._changed.notify_all()
        for pipe in self._listeners:
            os.write(pipe, b"!")
        self._listeners.clear()

    def until(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        """Wait for a fact; the lock is held whenever it is asked for. False after *timeout* seconds."""
        deadline = FOREVER if timeout is None else self._clock.monotonic() + micros(timeout)
        while not is_so():
            left = (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                return False
            checkpoint()
            self._changed.wait(min(left, SAFETY_LOOK))
        return True

    def listen(self, seconds_until: Callable[[], float], timeout: float, bell: Bell) -> bool:
        """Wait, without the lock, until *seconds_until()* is 0 or less (True), *bell* rings or *timeout* seconds have passed (False)."""
        deadline = self._clock.monotonic() + micros(timeout)
        ours, theirs = os.pipe()
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        poll.register(bell.fileno(), select.POLLIN)
        try:
            while True:
                with self:
                    wait = seconds_until()
                    self._listeners.add(theirs)
                left = (deadline - self._clock.monotonic()) / SECOND
                if wait <= 0 or left <= 0:
                    return wait <= 0
                rung = [fd for fd, _ in poll.poll(min(left, wait, SAFETY_LOOK) * 1000)]
                if bell.fileno() in rung:
                    return False
                if ours in rung:
                    os.read(ours, 1)
        finally:
            with self:
                self._listeners.discard(theirs)
            os.close(ours)
            os.close(theirs)
