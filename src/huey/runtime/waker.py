"""Wake-up of a thread that waits for a file descriptor, from any other thread or from a signal handler.

A `Waker` stays set until it is cleared, so a call of `wake()` between two waits is never lost. A forked child makes its own.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Protocol

_ONE = (1).to_bytes(8, sys.byteorder)


class Readable(Protocol):
    """An object with a file descriptor that can be polled."""

    def fileno(self) -> int: ...


class Waker:
    """A level-triggered wake-up. Do not close it while other threads may still call `wake()`."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._read_fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read_fd, self._write_fd = os.pipe()
            os.set_blocking(self._read_fd, False)
            os.set_blocking(self._write_fd, False)
        self._poll = select.poll()
        self._poll.register(self._read_fd, select.POLLIN)

    def wake(self) -> None:
        """Set the waker: end the current wait, or the next one. Never blocks."""
        try:
            os.write(self._write_fd, _ONE)
        except BlockingIOError:
            # The pipe or the counter is full, so it is set.
            return

    def clear(self) -> None:
        """Clear the waker."""
        try:
            os.read(self._read_fd, 65536)
        except BlockingIOError:
            # It was not set.
            return

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to *timeout* seconds (None: no limit) until it is set, and return whether it is. Does not clear it."""
        return bool(self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def fileno(self) -> int:
        """Return the descriptor that is readable while it is set; -1 once closed."""
        return self._read_fd

    def close(self) -> None:
        """Close the descriptors. May be called more than once."""
        for fd in {self._read_fd, self._write_fd} - {-1}:
            os.close(fd)
        self._read_fd = self._write_fd = -1

    def __del__(self) -> None:
        if hasattr(self, "_read_fd"):
            self.close()


def wait_for_either(first: Readable, second: Readable, timeout: float) -> tuple[bool, bool]:
    """Wait up to *timeout* seconds until one of two wakers is set, and return for each whether it is. Clears neither."""
    poll = select.poll()
    poll.register(first.fileno(), select.POLLIN)
    poll.register(second.fileno(), select.POLLIN)
    ready = [fd for fd, _ in poll.poll(max(0.0, timeout) * 1000)]
    return first.fileno() in ready, second.fileno() in ready
