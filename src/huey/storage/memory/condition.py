"""How threads wait for a MemoryStorage to change: on its lock, or with a waker of their own beside the engine's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from huey.exceptions import CallInsideCall
from huey.runtime.clock import SECOND, Clock, micros
from huey.runtime.host import at_fork
from huey.runtime.masking import checkpoint
from huey.runtime.waker import Waker as OwnWaker
from huey.runtime.waker import wait_for_either
from huey.storage.base import FOREVER, Waker

SAFETY_CHECK_S = 1.0
"""Seconds after which a waiter checks without being notified, since clocks may be changed."""
INTERRUPTED = (
    "this call interrupted another one of the same thread on the same queue, as a signal handler or a destructor (__del__) may; nothing "
    "was done. Make it when that one has returned: let the handler set a flag, or hand the call to another thread"
)


class ChangeCondition:
    """The single lock of a storage, and the threads that wait for a change. ``with condition:`` holds the lock.

    A call that interrupts the holder of the lock in the same thread cannot wait for it and must not see a half-done change: it raises
    CallInsideCall, or does its work when the lock is released (``postpone``).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late: deque[Callable[[], object]] = deque()
        self._renew()
        at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Set up the lock, at first and in a forked child, where the parent's threads can neither release it nor listen."""
        self._changed = threading.Condition()
        self._listeners: set[OwnWaker] = set()
        self._is_held = False
        self._late.clear()

    def __enter__(self) -> None:
        self._changed.acquire()
        if self._is_held:
            self._changed.release()
            raise CallInsideCall(INTERRUPTED)
        self._is_held = True

    def __exit__(self, *error: Any) -> None:
        try:
            while self._late:
                self._late.popleft()()
            self._is_held = False
            # From a call that came between the two lines above.
            while self._late:
                self._late.popleft()()
        finally:
            self._is_held = False
            self._changed.release()

    def postpone(self, act: Callable[[], object]) -> bool:
        """Return False unless this thread holds the lock. If it does, return True; *act* is then called before the release."""
        if not self._is_held:
            return False
        self._changed.acquire()
        try:
            # Otherwise another thread held it.
            if self._is_held:
                self._late.append(act)
            return self._is_held
        finally:
            self._changed.release()

    def notify_all(self) -> None:
        """Wake everything that waits for a change. A listener returns to the list only after it has cleared its waker."""
        self._changed.notify_all()
        for listener in self._listeners:
            listener.wake()
        self._listeners.clear()

    def until(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until ``is_so()`` is true, which is called with the lock held. Return False after *timeout* seconds."""
        deadline = FOREVER if timeout is None else self._clock.monotonic() + micros(timeout)
        while not is_so():
            left = (deadline - self._clock.monotonic()) / SECOND
            if left <= 0:
                return False
            checkpoint()
            # Meanwhile others hold the lock, including a call that interrupts this one.
            self._is_held = False
            try:
                self._changed.wait(min(left, SAFETY_CHECK_S))
            finally:
                self._is_held = True
        return True

    def listen(self, seconds_until: Callable[[], float], timeout: float, waker: Waker) -> bool:
        """Wait, without the lock, until *seconds_until()* is 0 or less (True), *waker* is set or *timeout* seconds have passed (False)."""
        deadline = self._clock.monotonic() + micros(timeout)
        changed = OwnWaker()
        try:
            while True:
                with self:
                    wait = seconds_until()
                    self._listeners.add(changed)
                left = (deadline - self._clock.monotonic()) / SECOND
                if wait <= 0 or left <= 0:
                    return wait <= 0
                is_changed, is_woken = wait_for_either(changed, waker, min(left, wait, SAFETY_CHECK_S))
                if is_woken:
                    return False
                if is_changed:
                    changed.clear()
        finally:
            with self:
                self._listeners.discard(changed)
            changed.close()
