"""Keep a process whose descriptors were closed by other code from using its SQLite files.

A task that closes all descriptors, or a daemon library, closes those of SQLite too, without SQLite noticing. The next file that is opened
gets one of the same numbers, and SQLite then writes into that file. SQLite also assumes that it still has its locks. So the process must
not touch the file any more, not even to close it; another process can. `Canary` (guard.py) detects this.
"""

from __future__ import annotations

import ctypes
import errno
import os

from huey.exceptions import StorageRefused, StorageUnavailable

FileId = tuple[int, int]
"""Inode and device, which identify a file."""


def none_left(path: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"{path}: this process has too many open files; raise its limit (ulimit -n, LimitNOFILE), or see what it keeps open"
    )


def are_used_up() -> bool:
    """Return whether this process has no descriptors left."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


_dead: list[str] = []
"""The files that were open when this process lost its descriptors. SQLite shares its state of a file among all connections of a process."""


def note_loss(path: str) -> None:
    if path not in _dead:
        _dead.append(path)


def check(path: str) -> None:
    """Raise StorageRefused if this process must not use the file any more."""
    if path in _dead:
        raise StorageRefused(
            f"{path}: other code closed the descriptors of this process, including SQLite's, so it can no longer use the file; "
            "a new process can. A program that goes into the background does so before its first call to huey, or keeps its descriptors"
        )


def abandon(thing: object) -> None:
    """Never free *thing*: closing this connection would affect other files."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def open_files(but: int = -1) -> dict[FileId | None, int] | None:
    """Return the descriptors of this process by file, or None if the system does not list them. *but*: a descriptor to leave out."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found: dict[FileId | None, int] = {}
    for number in numbers:
        try:
            it = os.stat(int(number))
            if int(number) == but:
                continue
        except OSError:
            continue
        found[it.st_ino, it.st_dev] = int(number)
    return found
