"""Notices commits of other processes.

Who commits touches the file's time stamp *after* the commit (``File.touch``), and watchers wait for that: on Linux through inotify, asleep
until it happens; elsewhere by looking at ``PRAGMA data_version`` with a growing gap. (The log itself is written before the commit can be
seen, so watching it wakes too early.)
"""

from __future__ import annotations

import errno
import os
import select
import sqlite3
import sys
from typing import Any, Protocol

from huey.clock import Clock
from huey.files import existing
from huey.storage.base import Bell
from huey.storage.sql.connection import File

_IN_ATTRIB = 0x4


class Watch(Protocol):
    """One thread's way of waiting for the next commit."""

    def wait(self, timeout: float, bell: Bell | None = None) -> bool:
        """Return at the next commit, when *bell* rings (True), or after *timeout* seconds. Commits since the last call count."""

    def close(self) -> None: ...


class InotifyWatch:
    """Sleeps until the kernel tells."""

    def __init__(self, path: str) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_ATTRIB) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number))
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._bell_fd = -1

    def wait(self, timeout: float, bell: Bell | None = None) -> bool:
        bell_fd = -1 if bell is None else bell.fileno()
        if bell_fd != self._bell_fd:
            if self._bell_fd >= 0:
                self._poll.unregister(self._bell_fd)
            if bell_fd >= 0:
                self._poll.register(bell_fd, select.POLLIN)
            self._bell_fd = bell_fd
        is_rung = False
        for fd, _ in self._poll.poll(max(0.0, timeout) * 1000):
            if fd == self._fd:
                os.read(fd, 65536)
            else:
                is_rung = True
        return is_rung

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class DataVersionWatch:
    """Looks again and again: every 2 ms at first, every 50 ms after a while."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._seen: Any = self._version()

    def _version(self) -> Any:
        if self._connection is None:
            self._connection = sqlite3.connect(existing(self._path), uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def wait(self, timeout: float, bell: Bell | None = None) -> bool:
        deadline, gap = self._clock.monotonic() + timeout * 1e6, 0.002
        while True:
            version = self._version()
            left = (deadline - self._clock.monotonic()) / 1e6
            if version != self._seen or left <= 0:
                self._seen = version
                return False
            if bell is None:
                self._clock.sleep(min(gap, left))
            elif select.select([bell.fileno()], [], [], min(gap, left))[0]:
                return True
            gap = min(gap * 1.1, 0.05)

    def close(self) -> None:
        """Let go of the connection; the next wait makes it anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()


def watch(file: File, clock: Clock) -> Watch:
    """The best way of waiting for commits into *file* that this machine has."""
    if sys.platform == "linux":
        try:
            return InotifyWatch(file.path)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise file.missing() from error
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOSPC):
                raise
            # The limit of inotify instances is reached: look instead.
    looking = DataVersionWatch(file.path, clock)
    file.watching.add(looking)
    return looking
