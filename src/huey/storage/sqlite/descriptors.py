"""A process whose descriptors were closed by someone else must not use its SQLite files any more.

A task that closes all descriptors, or a daemon library, closes those of SQLite too, which does not notice. Its descriptors are numbers, and
the next file that is opened gets one of them: what SQLite writes then lands in that file. SQLite also believes that it still has its locks.
So the process must not touch the file any more, not even to close it; another process can. `Canary` (guard.py) notices.
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


def open_files(but: int = -1) -> dict[FileId | None, int] | None:
    """Return the descriptors of this process by file, or None where the system does not tell. *but*: a descriptor to leave out."""
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
