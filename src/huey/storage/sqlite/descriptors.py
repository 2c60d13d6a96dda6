"""Notices that somebody closed the descriptors of this process, SQLite's among them: a task that closes all, say, or a daemon library.

SQLite does not notice. Its descriptors are numbers, and the next file that anybody opens gets one of them: what SQLite writes then lands in
that file, or what it opens anew becomes a page of the queue's own. It also believes that it still has its locks. So such a process must not
touch the file any more, not even to close it; another process can.
"""

from __future__ import annotations

import ctypes
import errno
import os

from huey.exceptions import StorageRefused, StorageUnavailable


class Canary:
    """A descriptor of our own beside those of SQLite: as long as it is what it was, so are they."""

    def __init__(self) -> None:
        self._fd, other = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.close(other)
        # No two pipes of a machine have the same inode, so one that took the number is told from it.
        self._was: tuple[int, int] | None = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.fstat(self._fd)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def is_alive(self) -> bool:
        # None: let go, by a fork or a close that interrupted the call that asks.
        return self._look() == self._was or self._was is None

    def let_go(self) -> None:
        if self._was is not None and self.is_alive:
            self._was = None
            os.close(self._fd)

    def __del__(self) -> None:
        if hasattr(self, "_was"):
            self.let_go()


def canary(path: str) -> Canary:
    """A new one. StorageUnavailable: this process has no descriptors left."""
    try:
        return Canary()
    except OSError as error:
        raise none_left(path) from error


def none_left(path: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"{path}: this process may not open any more files; raise its limit (ulimit -n, LimitNOFILE), or look for what it keeps open"
    )


def are_used_up() -> bool:
    """This process can open nothing more."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


_dead: list[str] = []
"""Files that were open when this process lost its descriptors. SQLite shares what it knows of a file among all connections of a process."""


def note_loss(path: str) -> None:
    if path not in _dead:
        _dead.append(path)


def check(path: str) -> None:
    """StorageRefused when this process must not use the file any more."""
    if path in _dead:
        raise StorageRefused(
            f"{path}: somebody closed the descriptors of this process, SQLite's among them, so it may not use the file any more; "
            "a new process can. A program that goes into the background does so before its first call to huey, or keeps its descriptors"
        )


def abandon(thing: object) -> None:
    """Never free *thing*: what a connection does when it is closed would hit other files."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
