"""Translate SQLite's errors to huey's."""

from __future__ import annotations

import errno
import sqlite3

from huey.exceptions import StorageError, StorageFull, StorageRefused, StorageUnavailable
from huey.storage.sqlite import descriptors

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when there is no room for more, or not for this user, or not in one file."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNUSABLE = {
    sqlite3.SQLITE_READONLY: "it is read-only for this process; check the rights of the file and of its folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged; keep a copy and look at it with 'PRAGMA integrity_check'",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; give another filename=",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the path and the rights of its folder",
    sqlite3.SQLITE_PERM: "its rights forbid it",
}
_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""SQLite tells a disk that is full from other trouble, but not a quota that is used up: that is a write that fails."""
BROKEN = (*_UNUSABLE, sqlite3.SQLITE_IOERR)
"""Errors after which connections are reopened: the fault may be theirs, or that of a file that is no longer there."""


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translated(error: sqlite3.Error, path: str) -> StorageError:
    """Return the driver's error as one of ours; the original becomes its cause."""
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return StorageUnavailable(
            f"{path}: it was closed in the middle of this call, by a fork or a close() in a signal handler or destructor; nothing was "
            "written, the same call may be made again"
        )
    code = primary_code(error)
    if code in BUSY:
        return StorageUnavailable(f"{path}: another process keeps the file locked ({error}); the same call may be made again")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: the disk is full ({error}); nothing was written. Free some space, then try again")
    if getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
        return StorageFull(
            f"{path}: the file cannot be written ({error}): the disk is full for this user (a quota), a limit on the size of files is "
            "reached, or the disk is broken; nothing was written. Free some space, or look at the system's log, then try again"
        )
    if code == sqlite3.SQLITE_CANTOPEN and descriptors.are_used_up():
        return descriptors.none_left(path)
    if code in _UNUSABLE:
        return StorageRefused(f"{path}: {_UNUSABLE[code]} ({error})")
    if code == sqlite3.SQLITE_IOERR:
        return StorageUnavailable(f"{path}: reading or writing the file failed ({error})")
    return StorageError(f"{path}: {error}")
