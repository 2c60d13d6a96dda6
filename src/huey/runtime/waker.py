"""A bell: wakes one thread that waits for a file descriptor. Any thread may ring it, a signal handler too.

It stays rung until it is cleared, so a ring between two waits is never lost. Not for use across a fork: make it anew in the child.
"""

from __future__ import annotations

import os
import select
import sys

_ONE = (1).to_bytes(8, sys.byteorder)


class Waker:
    """Rung or not. Close it only when nobody can ring any more."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._ear = self._rope = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._ear, self._rope = os.pipe()
            os.set_blocking(self._ear, False)
            os.set_blocking(self._rope, False)
        self._poll = select.poll()
        self._poll.register(self._ear, select.POLLIN)

    def ring(self) -> None:
        """Wake who waits, now or next. Never blocks."""
        try:
            os.write(self._rope, _ONE)
        except BlockingIOError:
            # Full of rings: it is rung.
            return

    def clear(self) -> None:
        """Forget the rings so far."""
        try:
            os.read(self._ear, 65536)
        except BlockingIOError:
            # It was not rung.
            return

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is rung (True) or *timeout* seconds passed (False); None: no limit. Does not clear it."""
        return bool(self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def fileno(self) -> int:
        """Readable while rung; -1 once closed."""
        return self._ear

    def close(self) -> None:
        """Give the descriptors back. Again is harmless."""
        for fd in {self._ear, self._rope} - {-1}:
            os.close(fd)
        self._ear = self._rope = -1

    def __del__(self) -> None:
        if hasattr(self, "_ear"):
            self.close()
